// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// testbed is a running worker and what is around it.
type testbed struct {
	client client.WithWatch
	runner *stubRunner
	worker *Worker
	stop   context.CancelFunc // the first SIGTERM
	ended  chan struct{}      // closed when Run has returned
	down   *atomic.Bool       // the API server's writes fail
}

func testOptions(c client.WithWatch, runner Runner) Options {
	registry := prometheus.NewRegistry()
	return Options{
		Namespace: namespace, Pool: "vision", Stages: []v1alpha1.StageName{v1alpha1.StageVision, v1alpha1.StageRule},
		Capacity: 10, Pod: "pod-0", PodUID: "uid-0", DrainTimeout: 30 * time.Second,
		Client: c, LeaseClient: c, Runner: runner, Clock: clock.RealClock{}, Log: logr.Discard(),
		Registry: registry, Gatherer: registry,
	}
}

func startWorker(t *testing.T) *testbed {
	t.Helper()
	down := &atomic.Bool{}
	c := newFakeClient(t, interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			if down.Load() {
				return errDown
			}
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			if down.Load() {
				return errDown
			}
			return c.Update(ctx, o, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			if down.Load() {
				return errDown
			}
			return c.Delete(ctx, o, opts...)
		},
	})
	runner := newStubRunner()
	w, err := New(testOptions(c, runner))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	b := &testbed{client: c, runner: runner, worker: w, stop: stop, ended: make(chan struct{}), down: down}
	go func() {
		defer close(b.ended)
		w.Run(ctx)
	}()
	synctest.Wait()
	return b
}

// leases returns the Leases there are.
func (b *testbed) leases(t *testing.T) []coordinationv1.Lease {
	t.Helper()
	var list coordinationv1.LeaseList
	if err := b.client.List(t.Context(), &list, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// identity is the name of the only Lease.
func (b *testbed) identity(t *testing.T) string {
	t.Helper()
	leases := b.leases(t)
	if len(leases) != 1 {
		t.Fatalf("%d Leases, want 1", len(leases))
	}
	return leases[0].Name
}

// assign creates a scan and assigns it to the worker.
func (b *testbed) assign(t *testing.T, name, id string) {
	t.Helper()
	scan := scanNamed(name)
	if err := b.client.Create(t.Context(), scan); err != nil {
		t.Fatal(err)
	}
	if err := b.client.Status().Update(t.Context(), assign(t, scan, id, b.identity(t))); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

// vision returns the scan's vision stage.
func (b *testbed) vision(t *testing.T, name string) v1alpha1.StageStatus {
	t.Helper()
	scan := &v1alpha1.ScanRequest{}
	if err := b.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, scan); err != nil {
		t.Fatal(err)
	}
	return *pipeline.Stage(&scan.Status, v1alpha1.StageVision)
}

func TestWorkerRunsWhatItIsAssigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startWorker(t)
		if err := b.worker.health.ready(); err != nil {
			t.Fatalf("not ready: %v", err)
		}
		b.assign(t, "a", "1")
		b.assign(t, "b", "2")
		if diff := cmp.Diff([]string{"1", "2"}, b.runner.startedIDs()); diff != "" {
			t.Fatalf("calls (-want +got):\n%s", diff)
		}
		b.runner.answer("1", classified())
		b.runner.answer("2", failedWith(v1alpha1.FailureUnavailable))
		for name, want := range map[string]v1alpha1.StageState{"a": v1alpha1.StageSucceeded, "b": v1alpha1.StageWaiting} {
			if got := b.vision(t, name).State; got != want {
				t.Errorf("vision of scan %s is %s, want %s", name, got, want)
			}
		}
		b.stop()
		<-b.ended
		if left := b.leases(t); len(left) != 0 {
			t.Errorf("%d Leases are left", len(left))
		}
	})
}

func TestResultsSurviveAnAPIServerThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startWorker(t)
		identity := b.identity(t)
		b.assign(t, "a", "1")
		b.assign(t, "b", "2")
		b.down.Store(true)
		b.runner.answer("1", classified())
		pass(45 * time.Second)
		if cause := b.runner.causeOf("2"); cause != nil {
			t.Errorf("a call was stopped because the API server was down: %v", cause)
		}
		b.runner.answer("2", classified())
		b.down.Store(false)
		pass(2 * maxRetryDelay)
		for _, name := range []string{"a", "b"} {
			if got := b.vision(t, name).State; got != v1alpha1.StageSucceeded {
				t.Errorf("vision of scan %s is %s, want Succeeded", name, got)
			}
		}
		if got := b.identity(t); got != identity {
			t.Errorf("the worker is now %s, want %s still", got, identity)
		}
		b.stop()
		<-b.ended
	})
}

func TestWorkerWhoseLeaseWasDeletedComesBackAsAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startWorker(t)
		before := b.leases(t)
		b.assign(t, "a", "1")
		if err := b.client.Delete(t.Context(), &before[0]); err != nil {
			t.Fatal(err)
		}
		pass(10 * time.Second)
		if !errors.Is(b.runner.causeOf("1"), errLeaseLost) {
			t.Errorf("the call was ended by %v, want %v", b.runner.causeOf("1"), errLeaseLost)
		}
		if state := b.vision(t, "a").State; state != v1alpha1.StageRunning {
			t.Errorf("vision is %s: the worker wrote although its scans were taken", state)
		}
		if b.identity(t) == before[0].Name {
			t.Errorf("the worker is %s again", before[0].Name)
		}
		b.assign(t, "b", "2")
		b.runner.answer("2", classified())
		if state := b.vision(t, "b").State; state != v1alpha1.StageSucceeded {
			t.Errorf("vision of a scan assigned to the new identity is %s, want Succeeded", state)
		}
		b.stop()
		<-b.ended
	})
}

func TestOptionsAreChecked(t *testing.T) {
	tests := map[string]struct {
		change  func(*Options)
		wantErr string
	}{
		"good":              {change: func(*Options) {}},
		"no namespace":      {change: func(o *Options) { o.Namespace = "" }, wantErr: "namespace"},
		"no pool":           {change: func(o *Options) { o.Pool = "" }, wantErr: "pool"},
		"pool is no label":  {change: func(o *Options) { o.Pool = strings.Repeat("a", 64) }, wantErr: "pool"},
		"no stages":         {change: func(o *Options) { o.Stages = nil }, wantErr: "stages"},
		"no capacity":       {change: func(o *Options) { o.Capacity = 0 }, wantErr: "capacity"},
		"too much capacity": {change: func(o *Options) { o.Capacity = MaxCapacity + 1 }, wantErr: "capacity"},
		"negative drain":    {change: func(o *Options) { o.DrainTimeout = -1 }, wantErr: "drain"},
		"no pod":            {change: func(o *Options) { o.Pod = "" }, wantErr: "pod"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			options := testOptions(newFakeClient(t, interceptor.Funcs{}), newStubRunner())
			tc.change(&options)
			_, err := New(options)
			if tc.wantErr == "" && err != nil || tc.wantErr != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.wantErr)) {
				t.Errorf("New: %v, want an error that starts with %q", err, tc.wantErr)
			}
		})
	}
}
