// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/stages"
)

func TestEveryAssignmentIsRunOnce(t *testing.T) {
	keyA := types.NamespacedName{Namespace: namespace, Name: "a"}
	tests := map[string]struct {
		events      func(*testing.T, *assignments, *stubRunner)
		wantStarted []string
		wantReports []string
	}{
		"one assignment": {
			events: func(t *testing.T, a *assignments, r *stubRunner) {
				t.Helper()
				a.observe(t.Context(), assigned(t, "a", "1"))
				r.answer("1", classified())
			},
			wantStarted: []string{"1"}, wantReports: []string{"1 Succeeded"},
		},
		"the same event again while it runs": {
			events: func(t *testing.T, a *assignments, r *stubRunner) {
				t.Helper()
				scan := assigned(t, "a", "1")
				a.observe(t.Context(), scan)
				synctest.Wait()
				a.observe(t.Context(), scan.DeepCopy())
				r.answer("1", classified())
			},
			wantStarted: []string{"1"}, wantReports: []string{"1 Succeeded"},
		},
		"the same event again after it has run": {
			events: func(t *testing.T, a *assignments, r *stubRunner) {
				t.Helper()
				scan := assigned(t, "a", "1")
				a.observe(t.Context(), scan)
				r.answer("1", classified())
				a.observe(t.Context(), scan.DeepCopy())
				synctest.Wait()
			},
			wantStarted: []string{"1"}, wantReports: []string{"1 Succeeded"},
		},
		"a late event after the scan has left the watch": {
			events: func(t *testing.T, a *assignments, r *stubRunner) {
				t.Helper()
				scan := assigned(t, "a", "1")
				a.observe(t.Context(), scan)
				r.answer("1", classified())
				a.removed(keyA, errSuperseded)
				a.observe(t.Context(), scan.DeepCopy())
				synctest.Wait()
			},
			wantStarted: []string{"1"}, wantReports: []string{"1 Succeeded"},
		},
		"the watch lists again": {
			events: func(t *testing.T, a *assignments, r *stubRunner) {
				t.Helper()
				store := &assignedScans{ctx: t.Context(), assignments: a}
				one, two := assigned(t, "a", "1"), assigned(t, "b", "2")
				for range 3 {
					if err := store.Replace([]any{one.DeepCopy(), two.DeepCopy()}, "7"); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				r.answer("1", classified())
				r.answer("2", classified())
			},
			wantStarted: []string{"1", "2"}, wantReports: []string{"1 Succeeded", "2 Succeeded"},
		},
		"a scan that a new watch does not show": {
			events: func(t *testing.T, a *assignments, r *stubRunner) {
				t.Helper()
				store := &assignedScans{ctx: t.Context(), assignments: a}
				if err := store.Replace([]any{assigned(t, "a", "1")}, "7"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if err := store.Replace(nil, "9"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if !errors.Is(r.causeOf("1"), errSuperseded) {
					t.Errorf("the call was ended by %v, want %v", r.causeOf("1"), errSuperseded)
				}
			},
			wantStarted: []string{"1"}, wantReports: []string{},
		},
		"the next assignment of the same scan": {
			events: func(t *testing.T, a *assignments, r *stubRunner) {
				t.Helper()
				scan := assigned(t, "a", "1")
				a.observe(t.Context(), scan.DeepCopy())
				synctest.Wait()
				a.observe(t.Context(), assign(t, release(t, scan), "2", me))
				synctest.Wait()
				if !errors.Is(r.causeOf("1"), errSuperseded) {
					t.Errorf("the first call was ended by %v, want %v", r.causeOf("1"), errSuperseded)
				}
				r.answer("2", classified())
			},
			wantStarted: []string{"1", "2"}, wantReports: []string{"2 Succeeded"},
		},
		"another worker's assignment": {
			events: func(t *testing.T, a *assignments, _ *stubRunner) {
				t.Helper()
				a.observe(t.Context(), assign(t, scanNamed("a"), "1", "other"))
				a.observe(t.Context(), scanNamed("b"))
				synctest.Wait()
			},
			wantStarted: []string{}, wantReports: []string{},
		},
		"a scan that is taken away": {
			events: func(t *testing.T, a *assignments, r *stubRunner) {
				t.Helper()
				scan := assigned(t, "a", "1")
				a.observe(t.Context(), scan.DeepCopy())
				synctest.Wait()
				a.observe(t.Context(), release(t, scan))
				synctest.Wait()
				if !errors.Is(r.causeOf("1"), errSuperseded) {
					t.Errorf("the call was ended by %v, want %v", r.causeOf("1"), errSuperseded)
				}
			},
			wantStarted: []string{"1"}, wantReports: []string{},
		},
		"a scan that is being deleted": {
			events: func(t *testing.T, a *assignments, r *stubRunner) {
				t.Helper()
				scan := assigned(t, "a", "1")
				a.observe(t.Context(), scan.DeepCopy())
				synctest.Wait()
				now := metav1.Now()
				scan.DeletionTimestamp = &now
				a.observe(t.Context(), scan)
				synctest.Wait()
				if !errors.Is(r.causeOf("1"), errDeleted) {
					t.Errorf("the call was ended by %v, want %v", r.causeOf("1"), errDeleted)
				}
			},
			wantStarted: []string{"1"}, wantReports: []string{},
		},
		"a scan that was deleted": {
			events: func(t *testing.T, a *assignments, _ *stubRunner) {
				t.Helper()
				store := &assignedScans{ctx: t.Context(), assignments: a}
				scan := assigned(t, "a", "1")
				if err := errors.Join(store.Add(scan), store.Delete(scan)); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			},
			wantStarted: []string{}, wantReports: []string{},
		},
		"a deadline that passes while it runs": {
			events: func(t *testing.T, a *assignments, _ *stubRunner) {
				t.Helper()
				a.observe(t.Context(), assigned(t, "a", "1"))
				pass(time.Minute)
			},
			wantStarted: []string{"1"}, wantReports: []string{"1 Timeout"},
		},
		"a deadline that has passed": {
			events: func(t *testing.T, a *assignments, _ *stubRunner) {
				t.Helper()
				scan := assigned(t, "a", "1")
				pass(61 * time.Second)
				a.observe(t.Context(), scan)
				synctest.Wait()
			},
			wantStarted: []string{}, wantReports: []string{"1 Timeout"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				runner, rep := newStubRunner(), &stubReporter{}
				a := testAssignments(runner, 10, rep, newStubMembership(true))
				tc.events(t, a, runner)
				started := slices.Sorted(slices.Values(runner.startedIDs())) // goroutines start in any order
				if diff := cmp.Diff(tc.wantStarted, started, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("calls (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(tc.wantReports, rep.reported()); diff != "" {
					t.Errorf("reports (-want +got):\n%s", diff)
				}
				if a.load() != 0 {
					t.Errorf("%d assignments are still being processed", a.load())
				}
			})
		})
	}
}

func TestCapacityIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runner, rep := newStubRunner(), &stubReporter{}
		a := testAssignments(runner, 2, rep, newStubMembership(true))
		for _, id := range []string{"1", "2", "3"} {
			a.observe(t.Context(), assigned(t, "scan-"+id, id))
			synctest.Wait()
		}
		if diff := cmp.Diff([]string{"1", "2"}, runner.startedIDs()); diff != "" {
			t.Errorf("calls with two slots (-want +got):\n%s", diff)
		}
		runner.answer("1", classified())
		if diff := cmp.Diff([]string{"1", "2", "3"}, runner.startedIDs()); diff != "" {
			t.Errorf("calls after a slot was freed (-want +got):\n%s", diff)
		}
		runner.answer("2", classified())
		runner.answer("3", classified())
	})
}

// A worker that was suspended reads old events. It must not spend tokens on them.
func TestOldEventsAreConfirmedWhenTheLeaseHasExpired(t *testing.T) {
	notFound := apierrors.NewNotFound(schema.GroupResource{Resource: "scanrequests"}, "a")
	tests := map[string]struct {
		current     func(*testing.T, *v1alpha1.ScanRequest) *v1alpha1.ScanRequest
		readErr     error
		wantStarted []string
	}{
		"still assigned": {
			current:     func(_ *testing.T, scan *v1alpha1.ScanRequest) *v1alpha1.ScanRequest { return scan },
			wantStarted: []string{"1"},
		},
		"released meanwhile": {
			current:     release,
			wantStarted: []string{},
		},
		"assigned to another worker": {
			current: func(t *testing.T, scan *v1alpha1.ScanRequest) *v1alpha1.ScanRequest {
				t.Helper()
				return assign(t, release(t, scan), "2", "other")
			},
			wantStarted: []string{},
		},
		"deleted": {
			current:     func(*testing.T, *v1alpha1.ScanRequest) *v1alpha1.ScanRequest { return nil },
			readErr:     notFound,
			wantStarted: []string{},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				runner, rep, mem := newStubRunner(), &stubReporter{}, newStubMembership(false)
				a := testAssignments(runner, 10, rep, mem)
				scan := assigned(t, "a", "1")
				a.observe(t.Context(), scan.DeepCopy())
				synctest.Wait()
				if len(runner.startedIDs()) != 0 || rep.reads != 0 {
					t.Fatalf("calls %v, %d reads before the Lease was renewed", runner.startedIDs(), rep.reads)
				}
				rep.current, rep.readErr = tc.current(t, scan.DeepCopy()), tc.readErr
				mem.renew()
				if diff := cmp.Diff(tc.wantStarted, runner.startedIDs()); diff != "" {
					t.Errorf("calls (-want +got):\n%s", diff)
				}
				if rep.reads != 1 {
					t.Errorf("%d reads, want 1", rep.reads)
				}
				if len(tc.wantStarted) > 0 {
					runner.answer("1", classified())
				}
			})
		})
	}
}

func TestConfirmationIsRepeatedUntilTheAPIServerAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runner, mem := newStubRunner(), newStubMembership(false)
		rep := &stubReporter{readErr: errDown}
		a := testAssignments(runner, 10, rep, mem)
		scan := assigned(t, "a", "1")
		a.observe(t.Context(), scan)
		synctest.Wait()
		mem.renew()
		pass(20 * time.Second)
		if len(runner.startedIDs()) != 0 || rep.reads < 3 {
			t.Fatalf("calls %v after %d reads that failed", runner.startedIDs(), rep.reads)
		}
		rep.mu.Lock()
		rep.current, rep.readErr = scan, nil
		rep.mu.Unlock()
		pass(2 * maxRetryDelay)
		if diff := cmp.Diff([]string{"1"}, runner.startedIDs()); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
		runner.answer("1", classified())
	})
}

func TestLostLease(t *testing.T) {
	tests := map[string]struct {
		run         func(context.Context) pipeline.Outcome
		wantReports []string
		wantOutcome string // as the metrics label it
	}{
		"a call that is stopped is not reported": {
			run:         func(context.Context) pipeline.Outcome { return failedWith(v1alpha1.FailureDrained) },
			wantReports: []string{}, wantOutcome: "WorkerLost",
		},
		"a result that has just arrived is offered": {
			run:         func(context.Context) pipeline.Outcome { return classified() },
			wantReports: []string{"1 Succeeded"}, wantOutcome: "Succeeded",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rep := &stubReporter{}
				runner := runnerFunc(func(ctx context.Context) pipeline.Outcome {
					<-ctx.Done()
					return tc.run(ctx)
				})
				a := testAssignments(runner, 10, rep, newStubMembership(true))
				a.observe(t.Context(), assigned(t, "a", "1"))
				synctest.Wait()
				a.cancelAll(errLeaseLost)
				a.setIdentity("pod-0-fedcba")
				synctest.Wait()
				if diff := cmp.Diff(tc.wantReports, rep.reported()); diff != "" {
					t.Errorf("reports (-want +got):\n%s", diff)
				}
				if !a.metrics.stageSeconds.DeleteLabelValues("vision", tc.wantOutcome, "m") {
					t.Errorf("no stage duration with outcome %s", tc.wantOutcome)
				}
				a.observe(t.Context(), assigned(t, "b", "2")) // to the old identity
				synctest.Wait()
				if a.load() != 0 {
					t.Error("an assignment of the old identity was taken")
				}
			})
		})
	}
}

func TestAPanicCostsAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rep := &stubReporter{}
		a := testAssignments(runnerFunc(func(context.Context) pipeline.Outcome { panic("index out of range") }), 1, rep, newStubMembership(true))
		for _, id := range []string{"1", "2"} {
			a.observe(t.Context(), assigned(t, "scan-"+id, id))
			synctest.Wait()
		}
		if diff := cmp.Diff([]string{"1 Internal", "2 Internal"}, rep.reported()); diff != "" {
			t.Errorf("reports (-want +got):\n%s", diff)
		}
	})
}

func TestOldAssignmentsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := testAssignments(runnerFunc(func(context.Context) pipeline.Outcome { return classified() }), 10, &stubReporter{}, newStubMembership(true))
		staying := assigned(t, "staying", "staying")
		a.observe(t.Context(), staying)
		for i := range 5 * minSweep {
			scan := assigned(t, "a", strconv.Itoa(i))
			a.observe(t.Context(), scan)
			a.removed(client.ObjectKeyFromObject(scan), errSuperseded)
			if i%100 == 0 {
				pass(20 * time.Second)
			}
		}
		if len(a.seen) > 2*minSweep {
			t.Errorf("%d assignments are remembered", len(a.seen))
		}
		if _, ok := a.seen["staying"]; !ok {
			t.Error("an assignment was forgotten although its scan is in the watch")
		}
		synctest.Wait()
	})
}

// runnerFunc is a Runner with one outcome, which the function returns.
type runnerFunc func(context.Context) pipeline.Outcome

func (f runnerFunc) Run(ctx context.Context, _ stages.Scan, _ []v1alpha1.StageName) []pipeline.Outcome {
	return []pipeline.Outcome{f(ctx)}
}
