package worker

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
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
)

var scanKey = types.NamespacedName{Namespace: namespace, Name: "a"}

func testWriter(c client.Client) *writer {
	return newWriter(c, clock.RealClock{}, logr.Discard(), testMetrics())
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
	resource := schema.GroupResource{Group: v1alpha1.GroupName, Resource: "scanrequests"}
	invalid := apierrors.NewInvalid(schema.GroupKind{Kind: "ScanRequest"}, "a", field.ErrorList{
		field.Invalid(field.NewPath("status", "result", "answer", "userAnswer"), "what the user wrote", "too long"),
	})
	reassign := func(t *testing.T, scan *v1alpha1.ScanRequest) *v1alpha1.ScanRequest {
		t.Helper()
		return assign(t, release(t, scan), "2", "somebody")
	}
	suspend := func(t *testing.T, c client.Client) {
		t.Helper()
		scan := getScan(t, c)
		scan.Spec.Suspend = true
		if err := c.Update(t.Context(), scan); err != nil {
			t.Fatal(err)
		}
	}
	completed := func() pipeline.Event {
		return pipeline.Completed{AssignmentID: "1", Outcomes: []pipeline.Outcome{classified()}}
	}
	tests := map[string]struct {
		event  func() pipeline.Event
		before func(*testing.T, client.Client) // happens unseen by the worker
		// answer decides how the nth patch is answered; do carries it out.
		answer      func(n int, do func() error) error
		want        writeResult
		wantPatches int
		wantState   v1alpha1.StageState // of vision, afterwards
		wantWorker  string              // of the assignment, afterwards
		wantClass   v1alpha1.FailureClass
	}{
		"nothing in the way": {
			event: completed, want: resultWritten, wantPatches: 1, wantState: v1alpha1.StageSucceeded,
		},
		"hand-back": {
			event: func() pipeline.Event {
				return pipeline.Released{AssignmentID: "1", Class: v1alpha1.FailureDrained, Message: "bye"}
			},
			want: resultWritten, wantPatches: 1, wantState: v1alpha1.StageWaiting, wantClass: v1alpha1.FailureDrained,
		},
		"somebody has changed something else": {
			event: completed, before: suspend,
			want: resultWritten, wantPatches: 2, wantState: v1alpha1.StageSucceeded,
		},
		"another worker has the scan": {
			event:  completed,
			before: func(t *testing.T, c client.Client) { t.Helper(); rewrite(t, c, reassign) },
			want:   resultFenced, wantPatches: 1, wantState: v1alpha1.StageRunning, wantWorker: "somebody",
			wantClass: v1alpha1.FailureWorkerLost,
		},
		"the scan was taken and waits": {
			event:  completed,
			before: func(t *testing.T, c client.Client) { t.Helper(); rewrite(t, c, release) },
			want:   resultFenced, wantPatches: 1, wantState: v1alpha1.StageWaiting, wantClass: v1alpha1.FailureWorkerLost,
		},
		"the scan was deleted": {
			event: completed,
			before: func(t *testing.T, c client.Client) {
				t.Helper()
				if err := c.Delete(t.Context(), getScan(t, c)); err != nil {
					t.Fatal(err)
				}
			},
			want: resultDeleted, wantPatches: 1,
		},
		"the API server is down for minutes": {
			event: completed,
			answer: func(n int, do func() error) error {
				if n < 40 {
					return errDown
				}
				return do()
			},
			want: resultWritten, wantPatches: 40, wantState: v1alpha1.StageSucceeded,
		},
		"the answer of a patch that was carried out is lost": {
			event: completed,
			answer: func(_ int, do func() error) error {
				if err := do(); err != nil {
					return err
				}
				return errDown
			},
			want: resultWritten, wantPatches: 2, wantState: v1alpha1.StageSucceeded,
		},
		"the answer of a hand-back that was carried out is lost": {
			event: func() pipeline.Event {
				return pipeline.Released{AssignmentID: "1", Class: v1alpha1.FailureDrained, Message: "bye"}
			},
			answer: func(_ int, do func() error) error {
				if err := do(); err != nil {
					return err
				}
				return errDown
			},
			want: resultWritten, wantPatches: 2, wantState: v1alpha1.StageWaiting, wantClass: v1alpha1.FailureDrained,
		},
		"the right to write is missing for a while": {
			event: completed,
			answer: func(n int, do func() error) error {
				if n < 3 {
					return apierrors.NewForbidden(resource, "a", nil)
				}
				return do()
			},
			want: resultWritten, wantPatches: 3, wantState: v1alpha1.StageSucceeded,
		},
		"the API server refuses the result": {
			event: completed,
			answer: func(n int, do func() error) error {
				if n == 1 {
					return invalid
				}
				return do()
			},
			want: resultWritten, wantPatches: 2, wantState: v1alpha1.StageWaiting, wantClass: v1alpha1.FailureInternal,
		},
		"the API server refuses everything": {
			event:  completed,
			answer: func(int, func() error) error { return invalid },
			want:   resultRejected, wantPatches: 2, wantState: v1alpha1.StageRunning, wantWorker: me,
		},
		"outcomes that do not fit the scan": {
			event: func() pipeline.Event {
				o := classified()
				o.Stage = v1alpha1.StageAnswer
				return pipeline.Completed{AssignmentID: "1", Outcomes: []pipeline.Outcome{o}}
			},
			want: resultWritten, wantPatches: 1, wantState: v1alpha1.StageWaiting, wantClass: v1alpha1.FailureInternal,
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
				w := testWriter(c)
				if got := w.report(t.Context(), scan, tc.event()); got != tc.want {
					t.Errorf("report = %s, want %s", got, tc.want)
				}
				if patches != tc.wantPatches {
					t.Errorf("%d patches, want %d", patches, tc.wantPatches)
				}
				if got := testutil.ToFloat64(w.metrics.writes.WithLabelValues(string(tc.want))); got != 1 {
					t.Errorf("counted %v reports as %s, want 1", got, tc.want)
				}
				if tc.want == resultDeleted {
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

func TestReportThatChangesNothingMakesNoCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		event := pipeline.Waiting{Reason: v1alpha1.ReasonWaitingForTokens, Message: "12 s"}
		scan := scanNamed("a")
		if _, err := pipeline.Fold(contextOf(scan, time.Now()), &scan.Status, event); err != nil {
			t.Fatal(err)
		}
		calls := 0
		c := newFakeClient(t, interceptor.Funcs{
			Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
				calls++
				return nil
			},
			SubResourcePatch: func(context.Context, client.Client, string, client.Object, client.Patch, ...client.SubResourcePatchOption) error {
				calls++
				return nil
			},
		})
		if got := testWriter(c).report(t.Context(), scan, event); got != resultUnchanged || calls != 0 {
			t.Errorf("report = %s with %d calls, want %s with none", got, calls, resultUnchanged)
		}
	})
}

func TestRetriesAreSpacedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var patches []time.Time
		c := newFakeClient(t, interceptor.Funcs{
			SubResourcePatch: func(context.Context, client.Client, string, client.Object, client.Patch, ...client.SubResourcePatchOption) error {
				patches = append(patches, time.Now())
				return errDown
			},
		}, assigned(t, "a", "1"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		event := pipeline.Completed{AssignmentID: "1", Outcomes: []pipeline.Outcome{classified()}}
		if got := testWriter(c).report(ctx, getScan(t, c), event); got != resultAbandoned {
			t.Errorf("report = %s after the end of the process, want %s", got, resultAbandoned)
		}
		var gaps []bool
		for i := 1; i < len(patches); i++ {
			gap := patches[i].Sub(patches[i-1])
			gaps = append(gaps, gap >= 90*time.Millisecond && gap <= 5500*time.Millisecond)
		}
		if want := 10; len(patches) < want {
			t.Errorf("%d patches in a minute, want at least %d", len(patches), want)
		}
		for i, ok := range gaps {
			if !ok {
				t.Errorf("patch %d came %s after the one before", i+1, patches[i+1].Sub(patches[i]))
			}
		}
		if last := patches[len(patches)-1].Sub(patches[len(patches)-2]); last < 4*time.Second {
			t.Errorf("the last gap is %s: the delay does not grow", last)
		}
	})
}

func TestTheEventHappenedWhenItHappened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempt := 0
		c := newFakeClient(t, interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				if attempt++; attempt < 12 {
					return errDown
				}
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		}, assigned(t, "a", "1"))
		began := time.Now()
		event := pipeline.Released{AssignmentID: "1", Class: v1alpha1.FailureDrained, Message: "bye"}
		if got := testWriter(c).report(t.Context(), getScan(t, c), event); got != resultWritten {
			t.Fatalf("report = %s", got)
		}
		if time.Since(began) < 20*time.Second {
			t.Fatal("the write was not delayed: the test tests nothing")
		}
		got := pipeline.Stage(&getScan(t, c).Status, v1alpha1.StageVision).FinishedAt.Time
		if diff := cmp.Diff(began.UTC(), got.UTC()); diff != "" {
			t.Errorf("finishedAt (-want +got):\n%s", diff)
		}
	})
}

func TestConcurrentWritesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		proceed := make(chan struct{})
		c := newFakeClient(t, interceptor.Funcs{
			SubResourcePatch: func(context.Context, client.Client, string, client.Object, client.Patch, ...client.SubResourcePatchOption) error {
				if n := now.Add(1); n > most.Load() {
					most.Store(n)
				}
				defer now.Add(-1)
				<-proceed
				return nil
			},
		})
		w := testWriter(c)
		var reports sync.WaitGroup
		for range 3 * maxConcurrentWrites {
			scan := assigned(t, "a", "1")
			event := pipeline.Completed{AssignmentID: "1", Outcomes: []pipeline.Outcome{classified()}}
			reports.Go(func() { w.report(t.Context(), scan, event) })
		}
		synctest.Wait()
		if got := now.Load(); got != maxConcurrentWrites {
			t.Errorf("%d writes at a time, want %d", got, maxConcurrentWrites)
		}
		close(proceed)
		reports.Wait()
		if most.Load() > maxConcurrentWrites {
			t.Errorf("up to %d writes at a time, want %d", most.Load(), maxConcurrentWrites)
		}
	})
}
