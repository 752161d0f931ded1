// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"fmt"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// mirror keeps store equal to the objects of example's kind in a namespace until ctx ends. A nil selector selects all of
// them. The store's methods are called one at a time, in the order of the changes. The client's transport retries watches
// after an outage of the API server: see kube.Config.
func mirror(ctx context.Context, c client.WithWatch, namespace string, example client.Object, newList func() client.ObjectList, selector fields.Selector, store cache.ReflectorStore) {
	options := func(raw *metav1.ListOptions) *client.ListOptions {
		// The fields of client.ListOptions replace those of the raw options, so the paging must be copied.
		return &client.ListOptions{
			Namespace: namespace, FieldSelector: selector, Limit: raw.Limit, Continue: raw.Continue, Raw: raw,
		}
	}
	source := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, raw metav1.ListOptions) (runtime.Object, error) {
			list := newList()
			return list, c.List(ctx, list, options(&raw))
		},
		WatchFuncWithContext: func(ctx context.Context, raw metav1.ListOptions) (watch.Interface, error) {
			return c.Watch(ctx, newList(), options(&raw))
		},
	}, c)
	cache.NewReflectorWithOptions(source, example, store, cache.ReflectorOptions{}).RunWithContext(ctx)
}

// syncedStore is a store that signals when it was first filled.
type syncedStore struct {
	cache.ReflectorStore
	once   sync.Once
	synced chan struct{}
}

func newSyncedStore(store cache.ReflectorStore) *syncedStore {
	return &syncedStore{ReflectorStore: store, synced: make(chan struct{})}
}

// Replace fills the store.
func (s *syncedStore) Replace(list []any, resourceVersion string) error {
	err := s.ReflectorStore.Replace(list, resourceVersion)
	if err == nil {
		s.once.Do(func() { close(s.synced) })
	}
	return err
}

// assignedScans passes the events of the watch to the assignments. It stores nothing itself.
type assignedScans struct {
	ctx         context.Context //nolint:containedctx // the methods of a reflector's store take no context
	assignments *assignments
}

// Add handles a scan that was assigned to this worker.
func (s *assignedScans) Add(object any) error {
	scan, err := scanIn(object)
	if err == nil {
		s.assignments.observe(s.ctx, scan)
	}
	return err
}

// Update handles a change of a scan that is assigned to this worker.
func (s *assignedScans) Update(object any) error { return s.Add(object) }

// Delete handles a scan that was deleted or is no longer assigned to this worker.
func (s *assignedScans) Delete(object any) error {
	scan, err := scanIn(object)
	if err == nil {
		s.assignments.removed(client.ObjectKeyFromObject(scan), errSuperseded)
	}
	return err
}

// Replace handles the list of all scans that are assigned to this worker.
func (s *assignedScans) Replace(objects []any, _ string) error {
	scans := make(map[types.NamespacedName]struct{}, len(objects))
	for _, object := range objects {
		scan, err := scanIn(object)
		if err != nil {
			return err
		}
		scans[client.ObjectKeyFromObject(scan)] = struct{}{}
	}
	s.assignments.replaceAll(scans)
	for _, object := range objects {
		if err := s.Add(object); err != nil {
			return err
		}
	}
	return nil
}

// Resync does nothing: no event needs to be repeated.
func (*assignedScans) Resync() error { return nil }

func scanIn(object any) (*v1alpha1.ScanRequest, error) {
	scan, ok := object.(*v1alpha1.ScanRequest)
	if !ok {
		return nil, fmt.Errorf("read a watch event: got a %T, want a ScanRequest", object)
	}
	scan.ManagedFields = nil // half of the object, and not used here
	return scan, nil
}
