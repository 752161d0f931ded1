// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// waitTimeout bounds every wait for something that is expected to happen within seconds, or within the 15 s of a
// Lease. It only decides how long a failure takes.
const waitTimeout = 2 * time.Minute

// observer receives every event of some objects since its creation, beginning with those that existed.
type observer[T client.Object] struct {
	t       *testing.T
	watcher watch.Interface
}

// newObserver watches the list's objects that the options select.
func newObserver[T client.Object](t *testing.T, c client.WithWatch, list client.ObjectList, options ...client.ListOption) *observer[T] {
	t.Helper()
	watcher, err := c.Watch(t.Context(), list, options...)
	if err != nil {
		t.Fatalf("watch %T: %v", list, err)
	}
	t.Cleanup(watcher.Stop)
	return &observer[T]{t: t, watcher: watcher}
}

// until passes one event after another to see until it returns true.
func (o *observer[T]) until(what string, see func(watch.EventType, T) bool) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), waitTimeout)
	defer cancel()
	var last T
	for {
		select {
		case event, ok := <-o.watcher.ResultChan():
			object, fits := event.Object.(T)
			if !ok || !fits {
				o.t.Fatalf("the watch for %s ended: %v; last state:\n%s", what, event.Object, text(last))
			}
			if last = object; see(event.Type, object) {
				return
			}
		case <-ctx.Done():
			o.t.Fatalf("timed out waiting for %s; last state:\n%s", what, text(last))
		}
	}
}

// await waits until an object is as wanted and returns it.
func await[T client.Object](t *testing.T, c client.WithWatch, list client.ObjectList, namespace, name, what string, done func(T) bool) T {
	t.Helper()
	o := newObserver[T](t, c, list, client.InNamespace(namespace), client.MatchingFields{"metadata.name": name})
	defer o.watcher.Stop()
	var found T
	o.until(name+": "+what, func(kind watch.EventType, object T) bool {
		if kind == watch.Deleted {
			t.Fatalf("%s was deleted while waiting for %s", name, what)
		}
		found = object
		return done(object)
	})
	return found
}

func text(object client.Object) string {
	out, err := yaml.Marshal(object)
	if err != nil {
		return fmt.Sprint(object)
	}
	return string(out)
}

// awaitClosed waits until a channel is closed.
func awaitClosed(t *testing.T, closed <-chan struct{}, what string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	select {
	case <-closed:
	case <-ctx.Done():
		t.Fatalf("timed out waiting for %s", what)
	}
}
