// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus/testutil"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

var leaseKey = types.NamespacedName{Namespace: namespace, Name: me}

func testLease(c client.Client) *lease {
	return newLease(registrant{
		namespace: namespace, pool: "vision", track: v1alpha1.TrackCanary, capacity: 100, pod: "pod-0", podUID: "uid-0",
		stages: []v1alpha1.StageName{v1alpha1.StageVision, v1alpha1.StageRule},
	}, c, clock.RealClock{}, logr.Discard(), testMetrics())
}

// keeping runs keep until the returned function is called, which returns keep's error.
func keeping(t *testing.T, l *lease) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.keep(ctx, me) }()
	synctest.Wait()
	return func() error {
		cancel()
		return <-ended
	}
}

func getLease(t *testing.T, c client.Client) *coordinationv1.Lease {
	t.Helper()
	object := &coordinationv1.Lease{}
	if err := c.Get(t.Context(), leaseKey, object); err != nil {
		t.Fatal(err)
	}
	return object
}

func TestLeaseDescribesTheWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeClient(t, interceptor.Funcs{})
		stop := keeping(t, testLease(c))
		now := metav1.NewMicroTime(time.Now())
		want := &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: namespace, Name: me,
				Labels: map[string]string{"scan.growbin.app/component": "worker", "scan.growbin.app/pool": "vision", "scan.growbin.app/track": "canary"},
				Annotations: map[string]string{
					"scan.growbin.app/capacity": "100", "scan.growbin.app/state": "active",
					"scan.growbin.app/pod": "pod-0",
				},
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "pod-0", UID: "uid-0"}},
			},
			Spec: coordinationv1.LeaseSpec{
				HolderIdentity: new(me), LeaseDurationSeconds: new(int32(15)), AcquireTime: &now, RenewTime: &now,
			},
		}
		if diff := cmp.Diff(want, getLease(t, c), cmpopts.IgnoreFields(metav1.ObjectMeta{}, "ResourceVersion")); diff != "" {
			t.Errorf("Lease (-want +got):\n%s", diff)
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("keep ended with %v, want the context's end", err)
		}
	})
}

func TestLeaseIsRenewedEveryFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		renewals := 0
		c := newFakeClient(t, interceptor.Funcs{
			Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
				renewals++
				return c.Update(ctx, o, opts...)
			},
		})
		l := testLease(c)
		stop := keeping(t, l)
		for range 60 {
			pass(time.Second)
			if age := time.Since(getLease(t, c).Spec.RenewTime.Time); age > 6*time.Second || !l.valid() {
				t.Fatalf("the Lease is %s old, valid: %t", age, l.valid())
			}
		}
		if renewals < 10 || renewals > 14 {
			t.Errorf("%d renewals in a minute, want about 12", renewals)
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestLeaseSurvivesAnAPIServerThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		c := newFakeClient(t, interceptor.Funcs{
			Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
				if down.Load() {
					return errDown
				}
				return c.Update(ctx, o, opts...)
			},
		})
		l := testLease(c)
		stop := keeping(t, l)
		down.Store(true)
		pass(leaseDuration)
		if l.valid() {
			t.Error("the Lease is valid although it was not renewed for its whole duration")
		}
		if !l.registered() {
			t.Error("the registration was given up although the Lease was not lost")
		}
		if got := testutil.ToFloat64(l.metrics.renewFailures); got < 5 {
			t.Errorf("%v failures counted, want one a second after the first", got)
		}
		renewed := make(chan error, 1)
		go func() { renewed <- l.awaitValid(t.Context()) }()
		pass(30 * time.Second)
		select {
		case err := <-renewed:
			t.Fatalf("awaitValid returned %v while the API server was down", err)
		default:
		}
		down.Store(false)
		if err := <-renewed; err != nil || !l.valid() {
			t.Errorf("awaitValid = %v, valid = %t", err, l.valid())
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestLeaseTakenByOthers(t *testing.T) {
	tests := map[string]struct {
		change   func(*testing.T, client.Client)
		wantLost bool
	}{
		"deleted": {
			change: func(t *testing.T, c client.Client) {
				t.Helper()
				if err := c.Delete(t.Context(), getLease(t, c)); err != nil {
					t.Fatal(err)
				}
			},
			wantLost: true,
		},
		"another holder": {
			change: func(t *testing.T, c client.Client) {
				t.Helper()
				object := getLease(t, c)
				object.Spec.HolderIdentity = new("other")
				if err := c.Update(t.Context(), object); err != nil {
					t.Fatal(err)
				}
			},
			wantLost: true,
		},
		"released by another client": {
			change: func(t *testing.T, c client.Client) {
				t.Helper()
				object := getLease(t, c)
				object.Spec.HolderIdentity = nil
				if err := c.Update(t.Context(), object); err != nil {
					t.Fatal(err)
				}
			},
			wantLost: true,
		},
		"labeled by another client": {
			change: func(t *testing.T, c client.Client) {
				t.Helper()
				object := getLease(t, c)
				object.Labels["team"] = "a"
				if err := c.Update(t.Context(), object); err != nil {
					t.Fatal(err)
				}
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newFakeClient(t, interceptor.Funcs{})
				l := testLease(c)
				stop := keeping(t, l)
				tc.change(t, c)
				pass(6 * time.Second)
				if l.registered() == tc.wantLost {
					t.Errorf("registered = %t, want lost = %t", l.registered(), tc.wantLost)
				}
				if err := stop(); errors.Is(err, errLeaseLost) != tc.wantLost {
					t.Errorf("keep = %v, want lost = %t", err, tc.wantLost)
				}
				before := &coordinationv1.Lease{}
				existed := c.Get(t.Context(), leaseKey, before) == nil
				if err := l.release(t.Context()); err != nil {
					t.Fatal(err)
				}
				exists := c.Get(t.Context(), leaseKey, before) == nil
				if wantExists := existed && tc.wantLost; exists != wantExists {
					t.Errorf("after the release the Lease exists: %t, want %t", exists, wantExists)
				}
				if !tc.wantLost && before.Labels["team"] != "a" {
					t.Error("the renewal removed another client's label")
				}
			})
		})
	}
}

func TestLeaseCreation(t *testing.T) {
	tests := map[string]struct {
		existing bool
		create   func(attempt int, create func() error) error
		wantErr  error
		wantLive bool
	}{
		"the API server comes up late": {
			create: func(attempt int, create func() error) error {
				if attempt < 20 {
					return errDown
				}
				return create()
			},
			wantLive: true,
		},
		"the first answer is lost": {
			create: func(attempt int, create func() error) error {
				err := create()
				if attempt == 1 {
					return errDown
				}
				return err
			},
			wantLive: true,
		},
		"the name is in use": {
			existing: true,
			create:   func(_ int, create func() error) error { return create() },
			wantErr:  errLeaseLost,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				attempts := 0
				var existing []client.Object
				if tc.existing {
					existing = append(existing, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: me}})
				}
				c := newFakeClient(t, interceptor.Funcs{
					Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
						attempts++
						return tc.create(attempts, func() error { return c.Create(ctx, o, opts...) })
					},
				}, existing...)
				l := testLease(c)
				stop := keeping(t, l)
				pass(2 * time.Minute)
				if l.valid() != tc.wantLive {
					t.Errorf("valid = %t after %d attempts, want %t", l.valid(), attempts, tc.wantLive)
				}
				if err := stop(); tc.wantErr != nil && !errors.Is(err, tc.wantErr) {
					t.Errorf("keep = %v, want %v", err, tc.wantErr)
				}
			})
		})
	}
}

func TestLeaseIsMarkedAtOnceWhenDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeClient(t, interceptor.Funcs{})
		l := testLease(c)
		stop := keeping(t, l)
		began := time.Now()
		l.drain()
		synctest.Wait()
		if state := getLease(t, c).Annotations[v1alpha1.AnnotationState]; state != v1alpha1.WorkerDraining || time.Since(began) != 0 {
			t.Errorf("state %q after %s, want draining at once", state, time.Since(began))
		}
		pass(20 * time.Second)
		if state := getLease(t, c).Annotations[v1alpha1.AnnotationState]; state != v1alpha1.WorkerDraining || !l.valid() {
			t.Errorf("state %q, valid %t after renewals, want a valid, draining worker", state, l.valid())
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestLeaseIsDeletedOnRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failures := 2
		c := newFakeClient(t, interceptor.Funcs{
			Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
				if p := (&client.DeleteOptions{}).ApplyOptions(opts).Preconditions; p == nil || p.UID == nil {
					t.Error("the deletion would hit any Lease of that name")
				}
				if failures--; failures >= 0 {
					return errDown
				}
				return c.Delete(ctx, o, opts...)
			},
		})
		l := testLease(c)
		stop := keeping(t, l)
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := l.release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.Get(t.Context(), leaseKey, &coordinationv1.Lease{}); !apierrors.IsNotFound(err) {
			t.Errorf("get after release = %v, want not found", err)
		}
	})
}
