// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// The scenarios here are of an audit that drove the scheduler with faults that no test had, and of reports by
// users of load balancers and LLM gateways. Each comment has what happened before.

// callEnd is how a call ends: after a while, with a class of failure or none.
type callEnd struct {
	after time.Duration
	class v1alpha1.FailureClass
}

// simulation runs the workers of a world: each assignment ends as outcome says.
type simulation struct {
	*world
	outcome func(scan string, a *v1alpha1.Assignment) callEnd
	// ending are the running assignments, by scan.
	ending map[string]simulatedRun
	// assigned counts the assignments by worker.
	assigned map[string]int
	// calls counts the assignments of stages with tokens, by budget.
	calls map[string]int
}

type simulatedRun struct {
	id  string
	at  time.Time
	end callEnd
}

func simulate(w *world, outcome func(scan string, a *v1alpha1.Assignment) callEnd) *simulation {
	return &simulation{world: w, outcome: outcome, ending: map[string]simulatedRun{}, assigned: map[string]int{}, calls: map[string]int{}}
}

const tickLength = 50 * time.Millisecond

// run lets time pass, and calls each after every tick.
func (s *simulation) run(d time.Duration, each func(elapsed time.Duration)) {
	for elapsed := time.Duration(0); elapsed < d; elapsed += tickLength {
		if each != nil {
			each(elapsed)
		}
		s.tick()
	}
}

func (s *simulation) tick() {
	s.settle()
	for n, obj := range s.store {
		a := obj.Status.Assignment
		if a == nil || s.ending[n.Name].id == a.ID {
			continue
		}
		end := s.outcome(n.Name, a)
		s.assigned[a.Worker]++
		s.calls[a.Budget]++
		s.ending[n.Name] = simulatedRun{id: a.ID, at: s.clk.Now().Add(end.after), end: end}
	}
	s.clk.Step(tickLength)
	for _, name := range sortedKeys(s.ending) {
		r := s.ending[name]
		obj := s.store[types.NamespacedName{Namespace: "ns", Name: name}]
		if obj == nil || obj.Status.Assignment == nil || obj.Status.Assignment.ID != r.id || s.clk.Now().Before(r.at) {
			continue
		}
		delete(s.ending, name)
		if r.end.class == "" {
			s.complete(name)
			continue
		}
		a := obj.Status.Assignment
		failure := &pipeline.Failure{Class: r.end.class, Message: "it failed"}
		o := pipeline.Outcome{Stage: a.Stage, StartedAt: a.AssignedAt.Time, FinishedAt: s.clk.Now(), Failure: failure, Message: failure.Message}
		if err := s.fold(name, pipeline.Completed{AssignmentID: a.ID, Outcomes: []pipeline.Outcome{o}}); err != nil {
			s.t.Fatalf("fail %s: %v", name, err)
		}
	}
	for n := range s.leases { // every worker is alive
		l := s.leases[n]
		l.RenewedAt = s.clk.Now()
		s.leases[n] = l
		s.s.WorkerChanged(l)
	}
	for n, obj := range s.store { // the manager's timers
		if !pipeline.IsFinished(&obj.Status) && !s.clk.Now().Before(pipeline.Deadline(obj.Spec, obj.CreationTimestamp.Time)) {
			if err := s.fold(n.Name, pipeline.Expired{}); err != nil {
				s.t.Fatalf("expire %s: %v", n, err)
			}
		}
	}
}

func sortedKeys(m map[string]simulatedRun) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// results counts the scans by how they ended; "" are those that have not.
func (s *simulation) results() map[string]int {
	got := map[string]int{}
	for _, obj := range s.store {
		reason := ""
		if c := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionFinished); c != nil && c.Status == "True" {
			reason = c.Reason
		}
		got[reason]++
	}
	return got
}

func (s *simulation) wantAll(reason string, n int) {
	s.t.Helper()
	if got := s.results(); got[reason] != n {
		s.t.Errorf("scans by how they ended: %v; want %d %s", got, n, reason)
	}
}

// createEvery returns a function that creates scans at a rate until there are n.
func (s *simulation) createEvery(interval time.Duration, n int, opts ...scanOption) func(time.Duration) {
	made := 0
	return func(elapsed time.Duration) {
		for made < n && time.Duration(made)*interval <= elapsed {
			s.create(fmt.Sprintf("s%04d", made), opts...)
			made++
		}
	}
}

// capacious sets up a pool with workers of many slots and a budget with room.
func (w *world) capacious(workers ...string) {
	w.standard(100_000_000)
	for _, n := range workers {
		w.worker(n, "p", 100)
	}
}

const works = v1alpha1.FailureClass("")

// One of three workers has no egress. Its calls fail within 50 ms, so that it always had the most free slots: it was
// given 3,086 of 3,238 assignments, and 586 of 600 scans ended with RetriesExhausted.
func TestOneBadWorkerHurtsNoScan(t *testing.T) {
	for _, class := range []v1alpha1.FailureClass{v1alpha1.FailureUnreachable, v1alpha1.FailureUnavailable, v1alpha1.FailureInternal, v1alpha1.FailureKeyMissing} {
		t.Run(string(class), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.capacious("good-1", "good-2", "bad")
			s := simulate(w, func(_ string, a *v1alpha1.Assignment) callEnd {
				if a.Worker == "bad" {
					return callEnd{50 * time.Millisecond, class}
				}
				return callEnd{4 * time.Second, works}
			})
			s.run(3*time.Minute, s.createEvery(200*time.Millisecond, 600))
			s.wantAll(v1alpha1.ReasonSucceeded, 600)
			if got := s.assigned["bad"]; got > 60 {
				t.Errorf("the bad worker was given %d of %d assignments, want at most a probe now and then", got, got+s.assigned["good-1"]+s.assigned["good-2"])
			}
			w.wantIdle()
		})
	}
}

// A worker that was ejected comes back when its calls work again.
func TestAnEjectedWorkerComesBack(t *testing.T) {
	w := newWorld(t)
	w.capacious("good", "bad")
	broken := true
	s := simulate(w, func(_ string, a *v1alpha1.Assignment) callEnd {
		if a.Worker == "bad" && broken {
			return callEnd{50 * time.Millisecond, v1alpha1.FailureUnreachable}
		}
		return callEnd{4 * time.Second, works}
	})
	create := s.createEvery(100*time.Millisecond, 3000)
	var before map[string]int
	s.run(3*time.Minute, func(elapsed time.Duration) {
		create(elapsed)
		switch elapsed {
		case time.Minute:
			broken = false
		case 2 * time.Minute: // within probeLast of the repair it is back
			before = map[string]int{"good": s.assigned["good"], "bad": s.assigned["bad"]}
		}
	})
	good, bad := s.assigned["good"]-before["good"], s.assigned["bad"]-before["bad"]
	if bad < good/2 {
		t.Errorf("in the last minute the repaired worker was given %d assignments, the other one %d", bad, good)
	}
}

// The provider is away: connections are refused, or everything is answered 503. With 10 scans a second an outage of
// 10, 20, 30 or 60 s failed 133, 243, 345 or 641 scans that had minutes left.
func TestAnOutageFailsNoScan(t *testing.T) {
	for _, class := range []v1alpha1.FailureClass{v1alpha1.FailureUnreachable, v1alpha1.FailureUnavailable} {
		for _, outage := range []time.Duration{10 * time.Second, 20 * time.Second, time.Minute, 2 * time.Minute} {
			t.Run(fmt.Sprintf("%s for %s", class, outage), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.capacious("w1", "w2", "w3")
				away, calls := false, 0
				s := simulate(w, func(string, *v1alpha1.Assignment) callEnd {
					if away {
						calls++
						return callEnd{50 * time.Millisecond, class}
					}
					return callEnd{4 * time.Second, works}
				})
				n := int((10*time.Second + outage).Seconds()) * 10
				create := s.createEvery(100*time.Millisecond, n)
				s.run(outage+2*time.Minute, func(elapsed time.Duration) {
					create(elapsed)
					away = elapsed >= 5*time.Second && elapsed < 5*time.Second+outage
				})
				s.wantAll(v1alpha1.ReasonSucceeded, n)
				if calls > 100 {
					t.Errorf("%d calls were sent into the outage, want a few and then probes", calls)
				}
				w.wantIdle()
			})
		}
	}
}

// One of a pool's two budgets refuses connections: it was given half of all calls, and 35 of 600 scans failed.
func TestADeadBudgetGetsNoShare(t *testing.T) {
	w := newWorld(t)
	p := w.pool("p", v1alpha1.StageVision, v1alpha1.StageRule, v1alpha1.StageAnswer, v1alpha1.StageReward)
	p.Spec.Budgets = append(p.Spec.Budgets, v1alpha1.BudgetReference{Name: "dead", Weight: 1})
	w.s.PoolChanged(p)
	w.s.BudgetChanged(w.budget("b", 100_000_000), readyKey)
	w.s.BudgetChanged(w.budget("dead", 100_000_000), readyKey)
	w.worker("w1", "p", 100)
	w.worker("w2", "p", 100)
	s := simulate(w, func(_ string, a *v1alpha1.Assignment) callEnd {
		if a.Budget == "dead" {
			return callEnd{50 * time.Millisecond, v1alpha1.FailureUnavailable}
		}
		return callEnd{4 * time.Second, works}
	})
	s.run(3*time.Minute, s.createEvery(200*time.Millisecond, 600))
	s.wantAll(v1alpha1.ReasonSucceeded, 600)
	if got := s.calls["dead"]; got > 40 {
		t.Errorf("the dead budget was given %d of %d calls, want probes", got, got+s.calls["b"])
	}
}

// A firewall answers 403 to one photo, or the key may not use one model. The scan was the oldest, and so every probe: 20
// good scans beside it waited for 590 s.
func TestOneBlockedScanHoldsNothing(t *testing.T) {
	tests := map[string]struct{ bad, good []scanOption }{
		"one photo, one model": {nil, nil},
		"a model of its own":   {[]scanOption{model("gpt-5.4-mini")}, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.capacious("w1", "w2")
			w.s.BudgetChanged(w.budget("b", 100_000_000, "gpt-5.1", "gpt-5.4-mini"), readyKey)
			w.clk.Step(specSettle)
			s := simulate(w, func(scan string, _ *v1alpha1.Assignment) callEnd {
				if scan[0] == 'x' {
					return callEnd{50 * time.Millisecond, v1alpha1.FailureBlocked}
				}
				return callEnd{4 * time.Second, works}
			})
			for i := range 9 { // more than one, so that they are evidence together
				w.create(fmt.Sprintf("x%d", i), tc.bad...)
			}
			s.run(5*time.Second, nil)
			for i := range 20 {
				w.create(fmt.Sprintf("s%02d", i), tc.good...)
			}
			s.run(80*time.Second, nil)
			if got := s.results(); got[v1alpha1.ReasonSucceeded] != 20 || got[""] != 0 && got[v1alpha1.ReasonRetriesExhausted] == 0 {
				t.Errorf("scans by how they ended: %v; want 20 Succeeded", got)
			}
		})
	}
}

// Scans whose key is rejected keep their place, so that the oldest was every probe. Now others are tried as well.
func TestAnotherScanIsProbedNext(t *testing.T) {
	w := newWorld(t)
	w.capacious("w1")
	s := simulate(w, func(scan string, _ *v1alpha1.Assignment) callEnd {
		if scan == "x" {
			return callEnd{50 * time.Millisecond, v1alpha1.FailureUnauthorized}
		}
		return callEnd{4 * time.Second, works}
	})
	w.create("x")
	s.run(time.Second, nil)
	for i := range 20 {
		w.create(fmt.Sprintf("s%02d", i))
	}
	s.run(100*time.Second, nil)
	if got := s.results(); got[v1alpha1.ReasonSucceeded] != 20 {
		t.Errorf("scans by how they ended: %v; want 20 Succeeded", got)
	}
}

// One response with a wrong limit, or a typo in a spec, ended 29 of 30 waiting scans for good.
func TestANewLimitEndsNoScan(t *testing.T) {
	w := newWorld(t)
	w.capacious("w1")
	s := simulate(w, func(string, *v1alpha1.Assignment) callEnd { return callEnd{4 * time.Second, works} })
	typo := w.budget("b", 100)
	w.s.BudgetChanged(typo, readyKey)
	for i := range 30 {
		w.create(fmt.Sprintf("s%02d", i))
	}
	s.run(40*time.Second, nil)
	s.wantAll("", 30)
	if got := w.admitted("s00"); got != "False "+v1alpha1.ReasonWaitingForTokens {
		t.Errorf("a waiting scan says %s, want WaitingForTokens", got)
	}
	w.s.BudgetChanged(w.budget("b", 100_000_000), readyKey)
	s.run(20*time.Second, nil)
	s.wantAll(v1alpha1.ReasonSucceeded, 30)

	// What the spec says for a minute is meant.
	w.s.BudgetChanged(typo, readyKey)
	w.create("late")
	s.run(specSettle+time.Second, nil)
	s.wantAll(v1alpha1.ReasonRequestTooLarge, 1)
}

// Removing a model from a budget ended its waiting scans at once, before a mistake could be corrected.
func TestARemovedModelEndsNoScanAtOnce(t *testing.T) {
	w := newWorld(t)
	w.capacious()
	s := simulate(w, func(string, *v1alpha1.Assignment) callEnd { return callEnd{time.Second, works} })
	w.s.BudgetChanged(w.budget("b", 100_000_000, "gpt-5.1", "gpt-5.4-mini"), readyKey)
	w.create("a", model("gpt-5.4-mini"))
	s.run(time.Second, nil)
	w.s.BudgetChanged(w.budget("b", 100_000_000, "gpt-5.1"), readyKey)
	s.run(specSettle-2*time.Second, nil)
	s.wantAll("", 1)
	s.run(3*time.Second, nil)
	s.wantAll(v1alpha1.ReasonUnsupportedModel, 1)
}

// The API server refuses the writes of some scans: a policy, a changed role, a tightened schema. One such scan caused
// 1,000 writes in 1,000 cycles, and 16 of them stopped all assignments.
func TestRefusedWritesHoldUpNoOthers(t *testing.T) {
	for kind, poison := range map[writeKind]func(*world, string){
		writeReject:  func(w *world, n string) { w.create(n, model("gpt-0")) },
		writeRelease: func(w *world, n string) { w.create(n); w.settle() },
		writeAssign:  func(w *world, n string) { w.create(n) },
	} {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWorld(t)
			w.capacious("w1")
			if kind == writeRelease {
				w.worker("lost", "p", 1000)
				w.worker("w1", "p", 1)
			}
			refused := 0
			s := simulate(w, func(string, *v1alpha1.Assignment) callEnd { return callEnd{time.Hour, works} })
			w.fail = func(wr *write) error {
				if wr.kind == kind && wr.scan.name.Name[0] == 'x' {
					refused++
					return errors.New("admission webhook denied the request")
				}
				return nil
			}
			for i := range 64 {
				poison(w, fmt.Sprintf("x%02d", i))
			}
			if kind == writeRelease {
				delete(w.leases, name("lost"))
				w.s.WorkerGone(name("lost"))
				w.worker("w1", "p", 100)
			}
			s.run(10*time.Second, nil)
			w.create("good")
			s.run(10*time.Second, nil)
			if w.workerOf("good") == "" {
				t.Errorf("a scan beside 64 with refused writes is not assigned: %s", w.admitted("good"))
			}
			if most := 64 * 6; refused > most { // at 0, 1, 3, 7, 15 s, and one more
				t.Errorf("%d writes were refused in 20 s, want at most %d", refused, most)
			}
			w.fail = nil
			s.run(writeHoldLast+time.Second, nil)
			for i := range 64 {
				n := fmt.Sprintf("x%02d", i)
				if ended := pipeline.IsFinished(&w.get(n).Status); kind == writeReject && !ended || kind != writeReject && w.workerOf(n) != "w1" {
					t.Fatalf("%s is not written after the API server accepts it again: finished %t, worker %q", n, ended, w.workerOf(n))
				}
			}
		})
	}
}

// A scan that kills its worker was given to 200 workers in a row, each time with all that the worker ran besides.
func TestAScanThatKillsItsWorkersRunsAlone(t *testing.T) {
	w := newWorld(t)
	w.capacious("w0")
	s := simulate(w, func(string, *v1alpha1.Assignment) callEnd { return callEnd{4 * time.Second, works} })
	w.create("killer")
	create := s.createEvery(200*time.Millisecond, 400)
	lost, hurt, replaced := 0, 0, time.Duration(0)
	s.run(2*time.Minute, func(elapsed time.Duration) {
		create(elapsed)
		victim := w.workerOf("killer")
		if victim == "" || elapsed < replaced {
			return
		}
		for _, obj := range w.store { // what dies with it
			if a := obj.Status.Assignment; a != nil && a.Worker == victim && obj.Name != "killer" && lost >= pipeline.MaxLosses {
				hurt++
			}
		}
		lost++
		delete(w.leases, name(victim))
		w.worker(fmt.Sprintf("w%d", lost), "p", 100)
		w.s.mu.Lock()
		w.s.dropWorker(w.s.workers[name(victim)], v1alpha1.FailureWorkerLost, "it was killed")
		w.s.mu.Unlock()
		replaced = elapsed + time.Second
	})
	if c := meta.FindStatusCondition(w.get("killer").Status.Conditions, v1alpha1.ConditionFinished); c == nil || c.Reason != v1alpha1.ReasonWorkersLost {
		t.Errorf("the scan that kills its workers ended with %+v, want WorkersLost", c)
	}
	if lost != pipeline.MaxLosses+1 || hurt != 0 {
		t.Errorf("%d workers were lost, %d runs of others beside it when it ran alone; want %d and 0", lost, hurt, pipeline.MaxLosses+1)
	}
	s.run(time.Minute, nil)
	s.wantAll(v1alpha1.ReasonSucceeded, 400)
	w.wantIdle()
}

// A scan that failed at the only usable worker must neither wait for an ejected one nor hold up the scans behind it.
func TestAnEjectedWorkerHoldsUpNoScan(t *testing.T) {
	w := newWorld(t)
	w.capacious("good", "ejected")
	w.s.workers[name("ejected")].links = map[string]*link{"b": {ejected: true, probeAt: t0.Add(time.Hour)}}
	first := true
	s := simulate(w, func(scan string, _ *v1alpha1.Assignment) callEnd {
		if scan == "a" && first {
			first = false
			return callEnd{50 * time.Millisecond, v1alpha1.FailureUnreachable}
		}
		return callEnd{time.Second, works}
	})
	w.create("a")
	s.run(200*time.Millisecond, nil)
	w.create("z")
	s.run(5*time.Second, nil)
	s.wantAll(v1alpha1.ReasonSucceeded, 2)
}
