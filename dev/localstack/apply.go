// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localstack

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/dev/manifests"
)

// fieldOwner is the name under which the stack sets fields.
const fieldOwner = client.FieldOwner("local")

// installer creates what the product needs in the API server.
type installer struct {
	client    client.WithWatch
	namespace string
}

func newInstaller(config *rest.Config, namespace string) (*installer, error) {
	c, err := client.NewWithWatch(config, client.Options{})
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return &installer{client: c, namespace: namespace}, nil
}

// apply creates or updates the object.
func (i *installer) apply(ctx context.Context, object *unstructured.Unstructured) error {
	err := i.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), fieldOwner, client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("apply %s %q: %w", object.GetKind(), object.GetName(), err)
	}
	return nil
}

// applyDirectory applies a directory's manifests in the stack's namespace and
// returns them.
func (i *installer) applyDirectory(ctx context.Context, dir string) ([]*unstructured.Unstructured, error) {
	objects, err := readManifests(dir)
	if err != nil {
		return nil, err
	}
	for _, object := range objects {
		if err := manifests.MoveTo(object, i.namespace); err != nil {
			return nil, fmt.Errorf("manifests in %s: %s %q: %w", dir, object.GetKind(), object.GetName(), err)
		}
		if err := i.apply(ctx, object); err != nil {
			return nil, err
		}
	}
	return objects, nil
}

// installTypes applies the CRDs and waits until the API server serves them.
func (i *installer) installTypes(ctx context.Context, configDir string) error {
	crds, err := i.applyDirectory(ctx, filepath.Join(configDir, "crd", "bases"))
	if err != nil {
		return err
	}
	for _, crd := range crds {
		if err := i.await(ctx, crd, established); err != nil {
			return fmt.Errorf("wait for CustomResourceDefinition %q: %w", crd.GetName(), err)
		}
	}
	return nil
}

func established(object *unstructured.Unstructured) bool {
	return hasCondition(object, "Established")
}

// hasCondition says whether the object's condition is True.
func hasCondition(object *unstructured.Unstructured, kind string) bool {
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, c := range conditions {
		if m, ok := c.(map[string]any); ok && m["type"] == kind && m["status"] == "True" {
			return true
		}
	}
	return false
}

// await waits until want returns true for the object.
func (i *installer) await(ctx context.Context, object *unstructured.Unstructured, want func(*unstructured.Unstructured) bool) error {
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion(object.GetAPIVersion())
	list.SetKind(object.GetKind() + "List")
	watcher, err := i.client.Watch(ctx, list, client.MatchingFields{"metadata.name": object.GetName()}, client.InNamespace(object.GetNamespace()))
	if err != nil {
		return err
	}
	defer watcher.Stop()
	for {
		select {
		case event, ok := <-watcher.ResultChan():
			if !ok {
				return errors.New("the API server ended the watch")
			}
			if current, ok := event.Object.(*unstructured.Unstructured); ok && event.Type != watch.Deleted && want(current) {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (i *installer) createNamespace(ctx context.Context) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: i.namespace}}
	if err := i.client.Create(ctx, ns); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace %q: %w", i.namespace, err)
	}
	return nil
}

// applyStart applies the initial objects, such as TokenBudgets and WorkerPools, and
// writes the provider's key to the Secrets that the budgets name. It skips scans:
// the user submits them.
func (i *installer) applyStart(ctx context.Context, dir, key string) (names []string, err error) {
	objects, err := readManifests(dir)
	if err != nil {
		return nil, err
	}
	secrets := map[string]map[string]any{}
	for _, ref := range providerKeys(objects) {
		if secrets[ref.name] == nil {
			secrets[ref.name] = map[string]any{}
		}
		secrets[ref.name][ref.key] = key
	}
	for name, data := range secrets {
		secret := &unstructured.Unstructured{Object: map[string]any{"stringData": data}}
		secret.SetAPIVersion("v1")
		secret.SetKind("Secret")
		secret.SetName(name)
		secret.SetNamespace(i.namespace)
		if err := i.apply(ctx, secret); err != nil {
			return nil, err
		}
	}
	for _, object := range objects {
		_, ours := secrets[object.GetName()]
		if object.GetKind() == "ScanRequest" || object.GetKind() == "Secret" && ours {
			continue
		}
		if err := manifests.MoveTo(object, i.namespace); err != nil {
			return nil, fmt.Errorf("manifests in %s: %s %q: %w", dir, object.GetKind(), object.GetName(), err)
		}
		if err := i.apply(ctx, object); err != nil {
			return nil, err
		}
		names = append(names, object.GetKind()+" "+object.GetName())
	}
	return names, nil
}

// awaitWorkers waits until every Deployment in the namespace has its replicas,
// and there are as many Deployments as pools. It fails after the limit.
func (i *installer) awaitWorkers(ctx context.Context, pools int, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion("apps/v1")
	list.SetKind("DeploymentList")
	watcher, err := i.client.Watch(ctx, list, client.InNamespace(i.namespace))
	if err != nil {
		return err
	}
	defer watcher.Stop()
	ready := map[string]bool{}
	for {
		select {
		case event, ok := <-watcher.ResultChan():
			if !ok {
				return errors.New("the API server ended the watch")
			}
			current, ok := event.Object.(*unstructured.Unstructured)
			if !ok {
				continue
			}
			ready[current.GetName()] = event.Type != watch.Deleted && complete(current)
			if len(ready) >= pools && allTrue(ready) {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func complete(deployment *unstructured.Unstructured) bool {
	number := func(path ...string) int64 {
		n, _, _ := unstructured.NestedInt64(deployment.Object, path...)
		return n
	}
	return number("status", "observedGeneration") == deployment.GetGeneration() &&
		number("status", "readyReplicas") == number("spec", "replicas") &&
		number("status", "replicas") == number("spec", "replicas")
}

func allTrue(m map[string]bool) bool {
	for _, v := range m {
		if !v {
			return false
		}
	}
	return true
}
