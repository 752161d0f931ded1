package scanstatus

import (
	"context"
	"errors"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/controllers/controllertest"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

var resource = schema.GroupResource{Group: v1alpha1.GroupName, Resource: "scanrequests"}

func assign(id string) pipeline.Assigned {
	return pipeline.Assigned{AcceptedAt: controllertest.T0, Assignment: v1alpha1.Assignment{ID: id, Stage: v1alpha1.StageVision, Worker: "w1", Attempt: 1, MaxAttempts: 3}}
}

// TestStatusWriter has a patch go wrong in one way each, once, and looks at how the writer finds its way.
func TestStatusWriter(t *testing.T) {
	tests := map[string]struct {
		// first is what happens to the first patch; nil lets it pass.
		first       func(ctx context.Context, c client.Client, obj client.Object, patch client.Patch) error
		event       pipeline.Event
		wantErr     error
		wantPatches int
		wantID      string // of the stored assignment
	}{
		"a write": {event: assign("x-1"), wantPatches: 1, wantID: "x-1"},
		"the scan was changed by others in a way that does not matter": {
			first: func(ctx context.Context, c client.Client, obj client.Object, _ client.Patch) error {
				live := &v1alpha1.ScanRequest{}
				if err := c.Get(ctx, client.ObjectKeyFromObject(obj), live); err != nil {
					return err
				}
				live.Labels = map[string]string{"changed": "yes"}
				if err := c.Update(ctx, live); err != nil {
					return err
				}
				return apierrors.NewConflict(resource, "a", errors.New("changed"))
			},
			event: assign("x-1"), wantPatches: 2, wantID: "x-1",
		},
		"the scan was suspended meanwhile": {
			first: func(ctx context.Context, c client.Client, obj client.Object, _ client.Patch) error {
				live := &v1alpha1.ScanRequest{}
				if err := c.Get(ctx, client.ObjectKeyFromObject(obj), live); err != nil {
					return err
				}
				live.Spec.Suspend = true
				if err := c.Update(ctx, live); err != nil {
					return err
				}
				return apierrors.NewConflict(resource, "a", errors.New("changed"))
			},
			event: assign("x-1"), wantErr: pipeline.ErrStale, wantPatches: 1,
		},
		"the answer was lost and the write took place": {
			first: func(ctx context.Context, c client.Client, obj client.Object, patch client.Patch) error {
				if err := c.Status().Patch(ctx, obj, patch); err != nil {
					return err
				}
				return errors.New("connection reset by peer")
			},
			event: assign("x-1"), wantPatches: 1, wantID: "x-1",
		},
		"the answer was lost and the write did not take place": {
			first: func(context.Context, client.Client, client.Object, client.Patch) error {
				return errors.New("connection refused")
			},
			event: assign("x-1"), wantPatches: 2, wantID: "x-1",
		},
		"the scan was deleted": {
			first: func(ctx context.Context, c client.Client, obj client.Object, _ client.Patch) error {
				live := &v1alpha1.ScanRequest{}
				if err := c.Get(ctx, client.ObjectKeyFromObject(obj), live); err != nil {
					return err
				}
				if err := c.Delete(ctx, live); err != nil {
					return err
				}
				return apierrors.NewNotFound(resource, "a")
			},
			event: assign("x-1"), wantErr: scheduler.ErrGone, wantPatches: 1,
		},
		"an event of an old assignment makes no call": {
			event: pipeline.Released{AssignmentID: "x-0", Class: v1alpha1.FailureWorkerLost}, wantErr: pipeline.ErrFenced,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			patches := 0
			base := controllertest.NewClient(t, &controllertest.Calls{}, controllertest.MakeScan())
			c := interceptor.NewClient(base, interceptor.Funcs{
				SubResourcePatch: func(ctx context.Context, _ client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
					patches++
					if patches == 1 && tc.first != nil {
						return tc.first(ctx, base, obj, patch)
					}
					return base.SubResource(sub).Patch(ctx, obj, patch, opts...)
				},
			})
			scan := &v1alpha1.ScanRequest{}
			if err := c.Get(t.Context(), controllertest.Request("a").NamespacedName, scan); err != nil {
				t.Fatal(err)
			}
			clk := clocktesting.NewFakeClock(controllertest.T0)
			done := make(chan struct{})
			go func() { // time passes whenever the writer waits
				for {
					select {
					case <-done:
						return
					default:
						if clk.HasWaiters() {
							clk.Step(backoffCap)
						}
					}
				}
			}()
			got, err := (&Writer{Client: c, APIReader: c, Clock: clk}).Write(t.Context(), scan, tc.event)
			close(done)
			if !errors.Is(err, tc.wantErr) || (tc.wantErr == nil && err != nil) {
				t.Fatalf("error = %v, want %v", err, tc.wantErr)
			}
			if patches != tc.wantPatches {
				t.Errorf("%d patches, want %d", patches, tc.wantPatches)
			}
			id := ""
			if a := got.Status.Assignment; a != nil {
				id = a.ID
			}
			if id != tc.wantID {
				t.Errorf("assignment %q, want %q", id, tc.wantID)
			}
		})
	}
}
