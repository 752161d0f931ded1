// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

func TestDrain(t *testing.T) {
	type end struct {
		State v1alpha1.StageState
		Class v1alpha1.FailureClass
	}
	var (
		succeeded  = end{State: v1alpha1.StageSucceeded}
		handedBack = end{State: v1alpha1.StageWaiting, Class: v1alpha1.FailureDrained}
		untouched  = end{State: v1alpha1.StageRunning}
	)
	tests := map[string]struct {
		during      func(*testing.T, *testbed) // after the first signal
		wantWithin  time.Duration              // Run returns
		wantStarted []string
		want        map[string]end
		wantLeases  int
	}{
		"what runs is finished": {
			during: func(_ *testing.T, b *testbed) {
				pass(20 * time.Second)
				b.runner.answer("1", classified())
			},
			wantWithin: 20 * time.Second, wantStarted: []string{"1"},
			want: map[string]end{"a": succeeded},
		},
		"what does not finish is handed back": {
			during:     func(*testing.T, *testbed) {},
			wantWithin: 30 * time.Second, wantStarted: []string{"1"},
			want: map[string]end{"a": handedBack},
		},
		"a second signal hands back at once": {
			during: func(_ *testing.T, b *testbed) {
				pass(3 * time.Second)
				b.worker.HandBack()
			},
			wantWithin: 3 * time.Second, wantStarted: []string{"1"},
			want: map[string]end{"a": handedBack},
		},
		"what arrives late is handed back unstarted": {
			during: func(t *testing.T, b *testbed) {
				t.Helper()
				b.assign(t, "b", "2")
				pass(time.Second)
				b.runner.answer("1", classified())
			},
			wantWithin: time.Second, wantStarted: []string{"1"},
			want: map[string]end{"a": succeeded, "b": handedBack},
		},
		"a result that cannot be written yet is waited for": {
			during: func(_ *testing.T, b *testbed) {
				b.down.Store(true)
				b.runner.answer("1", classified())
				pass(25 * time.Second)
				b.down.Store(false)
			},
			wantWithin: 31 * time.Second, wantStarted: []string{"1"},
			want: map[string]end{"a": succeeded},
		},
		"an API server that stays down does not hold the process": {
			during:     func(_ *testing.T, b *testbed) { b.down.Store(true) },
			wantWithin: 34 * time.Second, wantStarted: []string{"1"},
			want: map[string]end{"a": untouched}, wantLeases: 1,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startWorker(t)
				b.assign(t, "a", "1")
				began := time.Now()
				b.stop()
				synctest.Wait()
				if err := b.worker.health.ready(); err == nil {
					t.Error("the worker is ready while it drains")
				}
				if state := b.leases(t)[0].Annotations[v1alpha1.AnnotationState]; state != v1alpha1.WorkerDraining {
					t.Errorf("the Lease says %q, want draining", state)
				}
				tc.during(t, b)
				<-b.ended
				if took := time.Since(began); took > tc.wantWithin {
					t.Errorf("the worker left after %s, want %s", took, tc.wantWithin)
				}
				if diff := cmp.Diff(tc.wantStarted, b.runner.startedIDs()); diff != "" {
					t.Errorf("calls (-want +got):\n%s", diff)
				}
				got := map[string]end{}
				for name := range tc.want {
					stage := b.vision(t, name)
					e := end{State: stage.State}
					if stage.Failure != nil {
						e.Class = stage.Failure.Class
					}
					got[name] = e
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("vision stages (-want +got):\n%s", diff)
				}
				if left := b.leases(t); len(left) != tc.wantLeases {
					t.Errorf("%d Leases are left, want %d", len(left), tc.wantLeases)
				}
			})
		})
	}
}

func TestDrainHandsBackWhatWaitsForASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runner, rep := newStubRunner(), &stubReporter{}
		a := testAssignments(runner, 1, rep, newStubMembership(true))
		a.observe(t.Context(), assigned(t, "a", "1"))
		synctest.Wait()
		a.observe(t.Context(), assigned(t, "b", "2"))
		synctest.Wait()
		a.drain()
		synctest.Wait()
		if diff := cmp.Diff([]string{"2 released Drained"}, rep.reported()); diff != "" {
			t.Errorf("reports (-want +got):\n%s", diff)
		}
		runner.answer("1", classified())
		if diff := cmp.Diff([]string{"1"}, runner.startedIDs()); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
}

func TestALeaseThatIsLostWhileDrainingEndsTheDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startWorker(t)
		b.assign(t, "a", "1")
		began := time.Now()
		b.stop()
		synctest.Wait()
		if err := b.client.Delete(t.Context(), &b.leases(t)[0]); err != nil {
			t.Fatal(err)
		}
		pass(10 * time.Second)
		if left := b.leases(t); len(left) != 0 {
			t.Errorf("the worker registered as %s while it was leaving", left[0].Name)
		}
		<-b.ended
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the worker left after %s although its scans were taken", took)
		}
	})
}

func TestHandBackDoesNotCountAsAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startWorker(t)
		b.assign(t, "a", "1")
		b.worker.HandBack()
		b.stop()
		<-b.ended
		scan := b.vision(t, "a")
		if scan.Attempts != 0 || pipeline.CountsAsAttempt(scan.Failure.Class) {
			t.Errorf("%d attempts with class %s, want a hand-back that does not count", scan.Attempts, scan.Failure.Class)
		}
	})
}
