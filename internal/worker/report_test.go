// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus/testutil"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/scanstatus"
)

var scanKey = types.NamespacedName{Namespace: namespace, Name: "a"}

func testReporter(c client.Client) *statusReporter {
	return newStatusReporter(c, clock.RealClock{}, logr.Discard(), testMetrics())
}

func getScan(t *testing.T, c client.Client) *v1alpha1.ScanRequest {
	t.Helper()
	scan := &v1alpha1.ScanRequest{}
	if err := c.Get(t.Context(), scanKey, scan); err != nil {
		t.Fatal(err)
	}
	return scan
}

// rewrite stores another state of the scan, as the scheduler or a user does.
func rewrite(t *testing.T, c client.Client, change func(*testing.T, *v1alpha1.ScanRequest) *v1alpha1.ScanRequest) {
	t.Helper()
	if err := c.Status().Update(t.Context(), change(t, getScan(t, c))); err != nil {
		t.Fatal(err)
	}
}

func TestReport(t *testing.T) {
	invalid := apierrors.NewInvalid(schema.GroupKind{Kind: "ScanRequest"}, "a", field.ErrorList{
		field.Invalid(field.NewPath("status", "result", "answer", "userAnswer"), "what the user wrote", "too long"),
	})
	reassign := func(t *testing.T, scan *v1alpha1.ScanRequest) *v1alpha1.ScanRequest {
		t.Helper()
		return assign(t, release(t, scan), "2", "other")
	}
	completed := func() pipeline.Event {
		return pipeline.Completed{AssignmentID: "1", Outcomes: []pipeline.Outcome{classified()}}
	}
	tests := map[string]struct {
		event  func() pipeline.Event
		before func(*testing.T, client.Client) // happens unseen by the worker
		// answer decides how the nth patch is answered; do carries it out.
		answer      func(n int, do func() error) error
		want        scanstatus.Result
		wantPatches int
		wantState   v1alpha1.StageState // of vision, afterwards
		wantWorker  string              // of the assignment, afterwards
		wantClass   v1alpha1.FailureClass
	}{
		"nothing in the way": {
			event: completed, want: scanstatus.Written, wantPatches: 1, wantState: v1alpha1.StageSucceeded,
		},
		"hand-back": {
			event: func() pipeline.Event {
				return pipeline.Released{AssignmentID: "1", Class: v1alpha1.FailureDrained, Message: "bye"}
			},
			want: scanstatus.Written, wantPatches: 1, wantState: v1alpha1.StageWaiting, wantClass: v1alpha1.FailureDrained,
		},
		"another worker has the scan": {
			event:  completed,
			before: func(t *testing.T, c client.Client) { t.Helper(); rewrite(t, c, reassign) },
			want:   scanstatus.Fenced, wantPatches: 1, wantState: v1alpha1.StageRunning, wantWorker: "other",
			wantClass: v1alpha1.FailureWorkerLost,
		},
		"the scan was deleted": {
			event: completed,
			before: func(t *testing.T, c client.Client) {
				t.Helper()
				if err := c.Delete(t.Context(), getScan(t, c)); err != nil {
					t.Fatal(err)
				}
			},
			want: scanstatus.Deleted, wantPatches: 1,
		},
		"the API server refuses the result": {
			event: completed,
			answer: func(n int, do func() error) error {
				if n == 1 {
					return invalid
				}
				return do()
			},
			want: scanstatus.Written, wantPatches: 2, wantState: v1alpha1.StageWaiting, wantClass: v1alpha1.FailureInternal,
		},
		"the API server refuses everything": {
			event:  completed,
			answer: func(int, func() error) error { return invalid },
			want:   scanstatus.Rejected, wantPatches: 2, wantState: v1alpha1.StageRunning, wantWorker: me,
		},
		"outcomes that do not fit the scan": {
			event: func() pipeline.Event {
				o := classified()
				o.Stage = v1alpha1.StageAnswer
				return pipeline.Completed{AssignmentID: "1", Outcomes: []pipeline.Outcome{o}}
			},
			want: scanstatus.Written, wantPatches: 1, wantState: v1alpha1.StageWaiting, wantClass: v1alpha1.FailureInternal,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				patches := 0
				c := newFakeClient(t, interceptor.Funcs{
					SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
						patches++
						do := func() error { return c.SubResource(sub).Patch(ctx, o, p, opts...) }
						if tc.answer != nil {
							return tc.answer(patches, do)
						}
						return do()
					},
				}, assigned(t, "a", "1"))
				scan := getScan(t, c)
				if tc.before != nil {
					tc.before(t, c)
				}
				w := testReporter(c)
				if got := w.report(t.Context(), scan, tc.event()); got != tc.want {
					t.Errorf("report = %s, want %s", got, tc.want)
				}
				if patches != tc.wantPatches {
					t.Errorf("%d patches, want %d", patches, tc.wantPatches)
				}
				if got := testutil.ToFloat64(w.metrics.writes.WithLabelValues(string(tc.want))); got != 1 {
					t.Errorf("counted %v reports as %s, want 1", got, tc.want)
				}
				if tc.want == scanstatus.Deleted {
					return
				}
				after := getScan(t, c)
				stage := pipeline.Stage(&after.Status, v1alpha1.StageVision)
				if stage.State != tc.wantState {
					t.Errorf("vision is %s, want %s", stage.State, tc.wantState)
				}
				var worker string
				if a := after.Status.Assignment; a != nil {
					worker = a.Worker
				}
				if worker != tc.wantWorker {
					t.Errorf("assigned to %q, want %q", worker, tc.wantWorker)
				}
				var class v1alpha1.FailureClass
				if stage.Failure != nil {
					class = stage.Failure.Class
				}
				if class != tc.wantClass {
					t.Errorf("failure class %q, want %q", class, tc.wantClass)
				}
				if strings.Contains(stage.Message, "what the user wrote") {
					t.Errorf("the message repeats what was refused: %s", stage.Message)
				}
			})
		})
	}
}
