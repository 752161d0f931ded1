// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"context"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// Scans reads and writes the scans of one namespace. The scans that it returns are shared and must not be changed.
// Errors are those of the Kubernetes API.
type Scans interface {
	// Get reads from the watch.
	Get(ctx context.Context, name string) (*v1alpha1.ScanRequest, error)
	// GetLive reads from the API server.
	GetLive(ctx context.Context, name string) (*v1alpha1.ScanRequest, error)
	// Create stores a scan. Its namespace is set.
	Create(ctx context.Context, scan *v1alpha1.ScanRequest) error
	// Delete deletes that very scan, not a later one of the same name.
	Delete(ctx context.Context, scan *v1alpha1.ScanRequest) error
}

// Models lists the models that the namespace's budgets serve.
type Models interface {
	// SupportedModels lists them, sorted, without duplicates.
	SupportedModels(ctx context.Context) ([]string, error)
}

// Store is the Scans and Models of a namespace of a cluster.
type Store struct {
	namespace string
	cached    client.Reader
	live      client.Client
}

// NewStore returns the scans and models of a namespace: cached reads from a watch, live from the API server.
func NewStore(namespace string, cached client.Reader, live client.Client) *Store {
	return &Store{namespace: namespace, cached: cached, live: live}
}

// Get reads a scan from the watch.
func (s *Store) Get(ctx context.Context, name string) (*v1alpha1.ScanRequest, error) {
	return s.get(ctx, s.cached, name)
}

// GetLive reads a scan from the API server.
func (s *Store) GetLive(ctx context.Context, name string) (*v1alpha1.ScanRequest, error) {
	return s.get(ctx, s.live, name)
}

func (s *Store) get(ctx context.Context, from client.Reader, name string) (*v1alpha1.ScanRequest, error) {
	scan := &v1alpha1.ScanRequest{}
	if err := from.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: name}, scan); err != nil {
		return nil, err
	}
	return scan, nil
}

// Create stores a scan.
func (s *Store) Create(ctx context.Context, scan *v1alpha1.ScanRequest) error {
	scan.Namespace = s.namespace
	return s.live.Create(ctx, scan)
}

// Delete deletes a scan.
func (s *Store) Delete(ctx context.Context, scan *v1alpha1.ScanRequest) error {
	return s.live.Delete(ctx, &v1alpha1.ScanRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: scan.Namespace, Name: scan.Name},
	}, client.Preconditions{UID: new(scan.UID)})
}

// SupportedModels lists the models of the namespace's budgets.
func (s *Store) SupportedModels(ctx context.Context) ([]string, error) {
	var budgets v1alpha1.TokenBudgetList
	if err := s.cached.List(ctx, &budgets, client.InNamespace(s.namespace)); err != nil {
		return nil, err
	}
	models := []string{}
	for i := range budgets.Items {
		models = append(models, budgets.Items[i].Spec.Models...)
	}
	slices.Sort(models)
	return slices.Compact(models), nil
}

// isGone says whether the error means that the very object does not exist any more.
func isGone(err error) bool {
	// A failed UID precondition is a conflict: the scan was deleted and another one took its name.
	return apierrors.IsNotFound(err) || apierrors.IsConflict(err)
}

// CacheOptions are the options of a cache that holds no more of a namespace than the API needs.
func CacheOptions(namespace string) cache.Options {
	return cache.Options{
		DefaultNamespaces:            map[string]cache.Config{namespace: {}},
		DefaultTransform:             cache.TransformStripManagedFields(),
		DefaultUnsafeDisableDeepCopy: new(true),
		ReaderFailOnMissingInformer:  true,
		ByObject: map[client.Object]cache.ByObject{
			&v1alpha1.ScanRequest{}: {Transform: Trim},
		},
	}
}

// Trim removes the fields of a watched scan that no response needs: scans are kept in memory until their TTL has passed,
// and there may be tens of thousands.
func Trim(object any) (any, error) {
	scan, ok := object.(*v1alpha1.ScanRequest)
	if !ok {
		return object, nil // a deletion that the watch missed; its object was trimmed when it was stored
	}
	hash, hashed := scan.Annotations[v1alpha1.AnnotationRequestHash]
	scan.Annotations, scan.Labels, scan.ManagedFields = nil, nil, nil
	if hashed {
		scan.Annotations = map[string]string{v1alpha1.AnnotationRequestHash: hash}
	}
	scan.Spec = v1alpha1.ScanRequestSpec{UserID: scan.Spec.UserID}

	status := &scan.Status
	status.Summary, status.Retry = v1alpha1.Summary{}, nil
	if a := status.Assignment; a != nil {
		status.Assignment = &v1alpha1.Assignment{ID: a.ID, Stage: a.Stage}
	}
	for i := range status.Stages {
		st := &status.Stages[i]
		*st = v1alpha1.StageStatus{
			Name: st.Name, State: st.State, StartedAt: st.StartedAt, FinishedAt: st.FinishedAt,
		}
	}
	status.Conditions = slices.DeleteFunc(status.Conditions, func(c metav1.Condition) bool {
		return c.Type != v1alpha1.ConditionAdmitted && c.Type != v1alpha1.ConditionFinished
	})
	status.Conditions = slices.Clip(slices.Clone(status.Conditions))
	for i := range status.Conditions {
		status.Conditions[i].Message = ""
	}
	return scan, nil
}
