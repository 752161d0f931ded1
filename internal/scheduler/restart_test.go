// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/queue"
)

// state is what a new leader would find.
func (w *world) state(budgets []*v1alpha1.TokenBudget, workers ...string) State {
	s := State{
		Pools:   []*v1alpha1.WorkerPool{w.pool("p", v1alpha1.StageVision, v1alpha1.StageRule, v1alpha1.StageAnswer, v1alpha1.StageReward)},
		Budgets: budgets,
	}
	for range budgets {
		s.Keys = append(s.Keys, readyKey)
	}
	for _, n := range workers {
		s.Workers = append(s.Workers, Worker{Name: name(n), Pool: "p", Capacity: 2, RenewedAt: w.clk.Now(), LeaseDuration: 15 * time.Second})
	}
	for _, obj := range w.store {
		s.Scans = append(s.Scans, obj)
	}
	return s
}

func TestRestartGoesOnWithRunningCalls(t *testing.T) {
	w := newWorld(t)
	w.standard(1_000_000, "w1", "w2")
	for i := range 5 {
		w.create(fmt.Sprint("s", i))
	}
	w.settle()
	ids := map[string]string{}
	for i := range 5 {
		n := fmt.Sprint("s", i)
		if a := w.get(n).Status.Assignment; a != nil {
			ids[n] = a.ID
		}
	}

	w.restart()
	w.s.Restore(w.state([]*v1alpha1.TokenBudget{w.budget("b", 1_000_000)}, "w1", "w2"))
	w.settle()
	for n, id := range ids {
		if a := w.get(n).Status.Assignment; a == nil || a.ID != id {
			t.Errorf("scan %s: assignment %+v after the restart, want %s", n, a, id)
		}
	}
	if got := w.s.workers[name("w1")].inFlight + w.s.workers[name("w2")].inFlight; got != 4 {
		t.Errorf("%d scans are counted at the workers, want 4", got)
	}
	stats, _ := w.s.BudgetStats(name("b"))
	if stats.InFlight != 4 || stats.ReservedTokens == 0 {
		t.Errorf("the ledger counts %d calls with %d tokens, want 4", stats.InFlight, stats.ReservedTokens)
	}
	w.clk.Step(10 * time.Second) // what was spent without our knowing has refilled
	w.worker("w1", "p", 2)
	for range 2 { // vision, then answer: what is begun goes first
		for n := range ids {
			w.complete(n)
		}
		w.settle()
	}
	if got := w.workerOf("s4"); got == "" {
		t.Error("the waiting scan was not assigned when workers became free")
	}
}

// TestRestartKeepsWhatWasLearned has two budgets that know what calls cost: the one that saw the latest call is
// believed, and reservations, waits and demand are what they were under the leader before.
func TestRestartKeepsWhatWasLearned(t *testing.T) {
	w := newWorld(t)
	estimate := func(stage v1alpha1.StageName, percent int32, charge, millis int64, at time.Time) v1alpha1.CallEstimate {
		return v1alpha1.CallEstimate{
			Stage: stage, Model: "gpt-5.1", ReservedPercent: percent, ChargeSamples: 8, Calls: 50,
			ChargeTokens: charge, DurationMilliseconds: millis, LastCallAt: metav1.NewMicroTime(at),
		}
	}
	fresh, stale := w.budget("b", 1_000_000), w.budget("a", 1_000_000)
	fresh.Status.Estimates = []v1alpha1.CallEstimate{
		estimate(v1alpha1.StageVision, 80, 900, 2500, t0),
		estimate(v1alpha1.StageAnswer, 120, 1300, 7000, t0.Add(-2*time.Hour)),
	}
	stale.Status.Estimates = []v1alpha1.CallEstimate{
		estimate(v1alpha1.StageVision, 300, 9000, 60_000, t0.Add(-time.Hour)),
		estimate(v1alpha1.StageAnswer, 70, 800, 5000, t0.Add(-time.Hour)),
	}
	w.s.Restore(w.state([]*v1alpha1.TokenBudget{stale, fresh}, "w1"))

	w.create("s")
	w.settle()
	st := w.s.scans[name("s")]
	if got, want := w.get("s").Status.Assignment.ReservedTokens, (st.size.tokens*800+999)/1000; got != want {
		t.Errorf("%d tokens are reserved for vision, want %d: four fifths of the formula's %d", got, want, st.size.tokens)
	}
	if got := w.s.estimator.Charge("answer", "gpt-5.1", 1000); got != 700 {
		t.Errorf("an answer of 1000 is reserved %d, want the fresher budget's 700", got)
	}
	facts := w.s.gatherWaitFacts(queue.Lane{Namespace: "ns", Stage: "vision", Model: "gpt-5.1"})
	if facts.callSeconds != 2.5 || facts.answers == nil || facts.answers.tokens != 800 {
		t.Errorf("waits are estimated from calls of %v s and answers %+v, want 2.5 s and 800 tokens", facts.callSeconds, facts.answers)
	}
	cost := w.s.usualCost(w.s.pools[name("p")], v1alpha1.StageAnswer, w.s.budgets[name("b")])
	if diff := cmp.Diff(CallCost{Tokens: 800, Calls: 1, Seconds: 5}, cost); diff != "" {
		t.Errorf("demand is estimated from (-want +got):\n%s", diff)
	}
}

// TestRunsOfAnotherLeaderTeachNothing: what they reserved was calibrated already, and would be a second time.
func TestRunsOfAnotherLeaderTeachNothing(t *testing.T) {
	w := newWorld(t)
	w.standard(1_000_000, "w1")
	w.create("s")
	w.settle()
	b := w.budget("b", 1_000_000)
	b.Status.Estimates = []v1alpha1.CallEstimate{{
		Stage: "vision", Model: "gpt-5.1", ReservedPercent: 200, ChargeSamples: 16, Calls: 1, ChargeTokens: 2112, DurationMilliseconds: 5000,
		LastCallAt: metav1.NewMicroTime(t0),
	}}
	w.restart()
	w.s.Restore(w.state([]*v1alpha1.TokenBudget{b}, "w1"))
	before := w.s.BudgetEstimates(name("b"))
	w.clk.Step(time.Second)
	w.complete("s")
	w.settle()
	if diff := cmp.Diff(before, w.s.BudgetEstimates(name("b"))); diff != "" {
		t.Errorf("what is known of calls (-before +after):\n%s", diff)
	}
}

// TestBudgetEstimates checks that a budget's estimates are those of its own models.
func TestBudgetEstimates(t *testing.T) {
	w := newWorld(t)
	w.standard(1_000_000, "w1")
	w.s.BudgetChanged(w.budget("other", 1_000_000, "gpt-4o"), readyKey)
	w.create("s")
	w.settle()
	w.clk.Step(5 * time.Second)
	w.complete("s")
	w.settle()
	got := w.s.BudgetEstimates(name("b"))
	if len(got) != 1 || got[0].Stage != "vision" || got[0].Model != "gpt-5.1" || got[0].Ratio != 1000 ||
		got[0].Usual.Seconds != 5 || got[0].Usual.Samples != 1 || !got[0].At.Equal(t0.Add(5*time.Second)) {
		t.Errorf("estimates of the budget: %+v, want what the one call taught", got)
	}
	for _, n := range []string{"other", "none"} {
		if got := w.s.BudgetEstimates(name(n)); len(got) != 0 {
			t.Errorf("estimates of budget %s: %+v, want none", n, got)
		}
	}
}

func TestRestartTakesScansOfDeadWorkersBack(t *testing.T) {
	w := newWorld(t)
	w.standard(1_000_000, "w1")
	w.create("a")
	w.settle()
	w.restart()
	w.s.Restore(w.state([]*v1alpha1.TokenBudget{w.budget("b", 1_000_000)}, "w2"))
	w.settle()
	w.clk.Step(10 * time.Second) // a new leader does not know what was spent: it lets the bucket refill
	w.settle()
	if got := w.workerOf("a"); got != "w2" {
		t.Errorf("the scan is at %q, want w2", got)
	}
	w.complete("a")
	w.settle()
	w.complete("a")
	w.settle()
	w.wantIdle()
}

// TestNothingLeaks throws random events at the scheduler: completions, failures, lost workers, deleted scans,
// failed writes, restarts. In the end every scan is terminal or deleted and nothing is reserved.
func TestNothingLeaks(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			w := newWorld(t)
			w.standard(400_000, "w0")
			w.fail = func(*write) error {
				if rnd.IntN(10) == 0 {
					return pipeline.ErrStale
				}
				return nil
			}
			created, workers := 0, 1
			running := func() []string {
				var names []string
				for n, obj := range w.store {
					if obj.Status.Assignment != nil {
						names = append(names, n.Name)
					}
				}
				slices.Sort(names)
				return names
			}
			for range 600 {
				switch k := rnd.IntN(20); {
				case k < 6 && created < 120:
					w.create(fmt.Sprint("s", created), user(fmt.Sprint("u", rnd.IntN(4))), priority(int32(rnd.IntN(2))))
					created++
				case k < 12:
					if names := running(); len(names) > 0 {
						w.complete(names[rnd.IntN(len(names))])
					}
				case k < 14:
					if names := running(); len(names) > 0 {
						n := names[rnd.IntN(len(names))]
						a := w.get(n).Status.Assignment
						classes := []v1alpha1.FailureClass{
							v1alpha1.FailureUnavailable, v1alpha1.FailureRateLimited, v1alpha1.FailureRefused, v1alpha1.FailureDrained,
							v1alpha1.FailureUnreachable, v1alpha1.FailureKeyMissing, v1alpha1.FailureBlocked, v1alpha1.FailureUnauthorized,
						}
						if err := w.fold(n, pipeline.Completed{AssignmentID: a.ID, Outcomes: []pipeline.Outcome{{
							Stage: a.Stage, StartedAt: a.AssignedAt.Time, FinishedAt: w.clk.Now(),
							Failure: &pipeline.Failure{Class: classes[rnd.IntN(len(classes))], Message: "random"},
						}}}); err != nil {
							t.Fatal(err)
						}
					}
				case k == 14:
					w.worker(fmt.Sprint("w", workers), "p", 1+rnd.IntN(4))
					workers++
				case k == 15:
					w.s.WorkerGone(name(fmt.Sprint("w", rnd.IntN(workers))))
				case k == 16 && created > 0:
					n := name(fmt.Sprint("s", rnd.IntN(created)))
					if w.store[n] != nil {
						delete(w.store, n)
						w.s.ScanGone(n)
					}
				case k == 17 && rnd.IntN(10) == 0:
					w.restart()
					w.s.Restore(w.state([]*v1alpha1.TokenBudget{w.budget("b", 400_000)}, "w0"))
				default:
					w.clk.Step(time.Duration(rnd.IntN(3000)) * time.Millisecond)
				}
				w.step()
				checkAccounts(t, w)
			}
			w.fail = nil
			for i := 0; len(w.s.scans) > 0; i++ {
				if i == 2000 {
					t.Fatalf("%d scans are not finished", len(w.s.scans))
				}
				w.worker("last", "p", 100)
				for _, n := range running() {
					w.complete(n)
				}
				w.clk.Step(time.Second)
				w.step()
			}
			for n, obj := range w.store {
				if !pipeline.IsFinished(&obj.Status) {
					t.Errorf("scan %s is not finished: %s", n, obj.Status.Phase)
				}
			}
			w.wantIdle()
		})
	}
}

// checkAccounts compares the counters with what they count.
func checkAccounts(t *testing.T, w *world) {
	t.Helper()
	load := map[types.NamespacedName]int{}
	for _, st := range w.s.scans {
		if st.run != nil {
			load[st.run.worker]++
		}
		_, queued := w.s.queue.Get(st.name.String())
		if wants := st.run == nil && st.pending == nil; queued != wants {
			t.Fatalf("scan %s: queued %t, want %t", st.name, queued, wants)
		}
	}
	for n, worker := range w.s.workers {
		if worker.inFlight != load[n] {
			t.Fatalf("worker %s counts %d scans and has %d", n, worker.inFlight, load[n])
		}
		if worker.inFlight > worker.Capacity {
			t.Fatalf("worker %s has %d scans and a capacity of %d", n, worker.inFlight, worker.Capacity)
		}
	}
}
