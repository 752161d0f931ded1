// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/budget"
)

func TestWaitModel(t *testing.T) {
	empty, full := capacity{rate: 1000}, capacity{rate: 1000, level: 60_000}
	tests := map[string]struct {
		model  waitModel
		want   time.Duration
		wantOK bool
	}{
		"a full bucket":   {model: waitModel{tokens: full, own: 1000, slots: 10}, want: 0, wantOK: true},
		"an empty bucket": {model: waitModel{tokens: empty, own: 1000, slots: 10}, want: time.Second, wantOK: true},
		"a bucket that owes": {
			model: waitModel{tokens: capacity{rate: 1000, level: -2000}, own: 1000, slots: 10}, want: 3 * time.Second, wantOK: true,
		},
		"others ahead": {
			model: waitModel{tokens: capacity{rate: 1000, level: 500}, own: 1000, ahead: 5, aheadForSlots: 5, tokensAhead: 5000, slots: 10},
			want:  5500 * time.Millisecond, wantOK: true,
		},
		"calls under way want their next stage first": { // half of the ten are done in the time it takes
			model: waitModel{tokens: empty, own: 1000, slots: 100, running: 10, answerTokens: 200, callSeconds: 4}, want: 2 * time.Second, wantOK: true,
		},
		"those ahead want theirs too": { // 10 s for the tokens ahead, and all answers of the first 12 of the 17 s
			model: waitModel{tokens: empty, own: 1000, slots: 100, ahead: 9, aheadInStage: 10, tokensAhead: 9000, answerTokens: 1000, callSeconds: 5},
			want:  17071 * time.Millisecond, wantOK: true,
		},
		"requests are short": {
			model: waitModel{tokens: full, requests: []capacity{{rate: 2, level: 1}}, own: 100, ahead: 10, slots: 100}, want: 5 * time.Second, wantOK: true,
		},
		"requests of the day are short": {
			model: waitModel{tokens: full, requests: []capacity{{rate: 100}, {rate: 0.01}}, own: 100, slots: 100}, want: 100 * time.Second, wantOK: true,
		},
		"busy workers": {
			model: waitModel{tokens: full, own: 1000, aheadForSlots: 9, slots: 10, busy: 10, callSeconds: 5}, want: 5 * time.Second, wantOK: true,
		},
		"busy workers that run the later stage too": { // ten of the places that become free go to answers
			model: waitModel{tokens: capacity{level: 1e6}, own: 1, aheadForSlots: 9, slots: 10, busy: 10, running: 10, answerTokens: 1, answersUseSlots: true, callSeconds: 5},
			want:  10 * time.Second, wantOK: true,
		},
		"a held budget": {
			model: waitModel{tokens: full, own: 1000, slots: 10, held: 20 * time.Second}, want: 20 * time.Second, wantOK: true,
		},
		"a slow API server": {
			model: waitModel{tokens: full, own: 1000, ahead: 100, slots: 1000, storesPerSecond: 50}, want: 2 * time.Second, wantOK: true,
		},
		"a slow API server that later stages use first": { // half of the ten are done in the time it takes
			model: waitModel{tokens: capacity{level: 1e9}, own: 1000, ahead: 35, slots: 1000, storesPerSecond: 20, running: 10, answerTokens: 200, callSeconds: 4}, want: 2 * time.Second, wantOK: true,
		},
		"no worker":              {model: waitModel{tokens: full, own: 1000}},
		"no budget":              {model: waitModel{own: 1000, slots: 10}},
		"no requests":            {model: waitModel{tokens: full, requests: []capacity{{}}, own: 1000, slots: 10}},
		"a stage without tokens": {model: waitModel{slots: 10}, want: 0, wantOK: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, ok := tc.model.estimate()
			if ok != tc.wantOK || math.Abs((got-tc.want).Seconds()) > 0.05 {
				t.Errorf("wait = %s, %t; want %s, %t", got, ok, tc.want, tc.wantOK)
			}
		})
	}
}

// TestEstimateWait covers what estimateWait adds to the model: several budgets, backoff, and answers.
func TestEstimateWait(t *testing.T) {
	stats := budget.New(budget.Limits{TokensPerMinute: 60_000, RequestsPerMinute: 6000}, t0).Stats(t0)
	stats.Tokens.Available = 0 // 1000 tokens refill per second
	held := stats
	held.Hold, held.ResumeAt = budget.HoldQuotaExhausted, t0.Add(time.Minute)
	tests := map[string]struct {
		facts  waitFacts
		want   time.Duration
		wantOK bool
	}{
		"no budget": {facts: waitFacts{own: 1000, slots: 10}},
		"one budget": {
			facts: waitFacts{own: 1000, slots: 10, budgets: []budget.Stats{stats}}, want: time.Second, wantOK: true,
		},
		"two budgets": {
			facts: waitFacts{own: 1000, slots: 10, budgets: []budget.Stats{stats, stats}}, want: time.Second / 2, wantOK: true,
		},
		"a held budget beside another": {
			facts: waitFacts{own: 1000, slots: 10, budgets: []budget.Stats{held, stats}}, want: time.Second, wantOK: true,
		},
		"a backoff that ends later": {
			facts: waitFacts{own: 1000, slots: 10, budgets: []budget.Stats{stats}, notBefore: t0.Add(5 * time.Second)}, want: 5 * time.Second, wantOK: true,
		},
		"a backoff that ends earlier": {
			facts: waitFacts{own: 1000, slots: 10, budgets: []budget.Stats{stats}, notBefore: t0.Add(time.Second / 2)}, want: time.Second, wantOK: true,
		},
		"answers of the running scans go first": { // half of the ten are done in the time it takes
			facts: waitFacts{
				own: 1000, slots: 100, callSeconds: 4, running: 10, budgets: []budget.Stats{stats}, answers: &answerFacts{tokens: 200},
			}, want: 2 * time.Second, wantOK: true,
		},
		"answers at other workers take no slot": { // of the nine ahead, four are answers: five photos and the scan itself need slots
			facts: waitFacts{
				own: 0, ahead: 9, slots: 10, busy: 10, callSeconds: 5, answers: &answerFacts{ready: 4},
			}, want: 3 * time.Second, wantOK: true,
		},
		"answers at the same workers take slots": {
			facts: waitFacts{
				own: 0, ahead: 9, slots: 10, busy: 10, callSeconds: 5, answers: &answerFacts{ready: 4, sameWorkers: true},
			}, want: 5 * time.Second, wantOK: true,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			tc.facts.now = t0
			got, ok := estimateWait(tc.facts)
			if ok != tc.wantOK || math.Abs((got-tc.want).Seconds()) > 0.05 {
				t.Errorf("wait = %s, %t; want %s, %t", got, ok, tc.want, tc.wantOK)
			}
		})
	}
}

// TestPredictedWaits lets a backlog run in simulated time and compares the wait predicted for each scan when it was
// created with the one it had.
func TestPredictedWaits(t *testing.T) {
	allStages := []v1alpha1.StageName{v1alpha1.StageVision, v1alpha1.StageRule, v1alpha1.StageAnswer, v1alpha1.StageReward}
	tests := map[string]struct {
		setup func(*world)
		// users are those who create a scan in turn.
		users []string
		// capacity is that of a worker of each pool.
		capacity int
		// most is the mean error that is allowed, as a part of the mean wait.
		most float64
	}{
		"one pool": {
			setup: func(w *world) {
				w.s.PoolChanged(w.pool("p", allStages...))
				w.s.BudgetChanged(w.budget("b", 300_000), readyKey)
			},
			users: []string{"u"}, capacity: 1000, most: 0.05,
		},
		"two pools with a model each": {
			setup: func(w *world) {
				w.s.PoolChanged(w.pool("p", v1alpha1.StageVision, v1alpha1.StageRule))
				p := w.pool("q", v1alpha1.StageAnswer, v1alpha1.StageReward)
				p.Spec.StageDefaults.Model = "gpt-4.1"
				w.s.PoolChanged(p)
				w.s.BudgetChanged(w.budget("b", 300_000, "gpt-5.1", "gpt-4.1"), readyKey)
			},
			users: []string{"u"}, capacity: 1000, most: 0.05,
		},
		"two budgets": {
			setup: func(w *world) {
				p := w.pool("p", allStages...)
				p.Spec.Budgets = append(p.Spec.Budgets, v1alpha1.BudgetReference{Name: "c", Weight: 1})
				w.s.PoolChanged(p)
				w.s.BudgetChanged(w.budget("b", 200_000), readyKey)
				w.s.BudgetChanged(w.budget("c", 100_000), readyKey)
			},
			users: []string{"u"}, capacity: 1000, most: 0.05,
		},
		"few requests": {
			setup: func(w *world) {
				w.s.PoolChanged(w.pool("p", allStages...))
				b := w.budget("b", 10_000_000)
				b.Spec.RequestsPerMinute = 300
				w.s.BudgetChanged(b, readyKey)
			},
			users: []string{"u"}, capacity: 1000, most: 0.05,
		},
		"few workers": {
			setup: func(w *world) {
				w.s.PoolChanged(w.pool("p", allStages...))
				w.s.BudgetChanged(w.budget("b", 10_000_000), readyKey)
			},
			users: []string{"u"}, capacity: 24, most: 0.1,
		},
		"a busy and a quiet user": {
			setup: func(w *world) {
				w.s.PoolChanged(w.pool("p", allStages...))
				w.s.BudgetChanged(w.budget("b", 300_000), readyKey)
			},
			users: []string{"busy", "busy", "busy", "busy", "quiet"}, capacity: 1000, most: 0.25,
		},
	}
	for title, tc := range tests {
		t.Run(title, func(t *testing.T) {
			w := newWorld(t)
			tc.setup(w)
			waits := w.backlog(tc.users, tc.capacity)
			var errs, sum float64
			for _, p := range waits {
				errs += math.Abs((p.predicted - p.actual).Seconds())
				sum += p.actual.Seconds()
			}
			n := float64(len(waits))
			if n < 100 || sum/n < 5 {
				t.Fatalf("%.0f predictions with a mean wait of %.1f s: the backlog is too small for the test", n, sum/n)
			}
			t.Logf("%.0f predictions, mean wait %.1f s, mean error %.1f s", n, sum/n, errs/n)
			if errs > tc.most*sum {
				t.Errorf("mean error %.1f s of a mean wait of %.1f s, want at most %.0f %%", errs/n, sum/n, 100*tc.most)
			}
		})
	}
}

// prediction is the wait of a scan as predicted when it was created, and as it was.
type prediction struct{ predicted, actual time.Duration }

// backlog lets more scans come than can be served for a while, and then no more until all are done.
func (w *world) backlog(users []string, capacity int) map[string]prediction {
	w.t.Helper()
	const seconds = 5 // of a call
	live := func() {
		w.worker("w", "p", capacity)
		w.worker("x", "q", capacity)
	}
	live()
	due, created := map[string]time.Time{}, map[string]time.Time{}
	predicted, waits := map[string]time.Duration{}, map[string]prediction{}
	n := 0
	for tick := range 4000 { // 400 s in steps of 100 ms
		if tick < 2000 && tick%5 == 0 && len(w.s.scans) < 400 {
			for range 2 {
				scan := fmt.Sprint("s", n)
				w.create(scan, user(users[n%len(users)]))
				created[scan] = w.clk.Now()
				if s, ok := w.s.QueuePosition(name(scan)); ok && s.WaitKnown && tick > 300 {
					predicted[scan] = s.Wait
				}
				n++
			}
		}
		live()
		for scan, at := range due {
			if !w.clk.Now().Before(at) {
				delete(due, scan)
				w.complete(scan)
			}
		}
		w.settle()
		for id, obj := range w.store {
			if _, known := due[id.Name]; !known && obj.Status.Assignment != nil {
				due[id.Name] = w.clk.Now().Add(seconds * time.Second)
			}
		}
		for scan := range created {
			if len(w.get(scan).Status.Stages) > 0 {
				if p, ok := predicted[scan]; ok {
					waits[scan] = prediction{p, w.clk.Since(created[scan])}
				}
				delete(created, scan)
			}
		}
		w.clk.Step(100 * time.Millisecond)
	}
	return waits
}

// TestHeldBudgetsAdmitNothing: of several budgets, those with the shortest hold count.
func TestHeldBudgetsAdmitNothing(t *testing.T) {
	end := func(class v1alpha1.FailureClass) func(*budget.Ledger) {
		return func(l *budget.Ledger) {
			l.Reserve("a", 100, t0)
			l.Settle("a", budget.Result{Class: class, RetryAfter: 10 * time.Second}, t0)
		}
	}
	exhausted := func(l *budget.Ledger) {
		l.SetLimits(budget.Limits{TokensPerMinute: 60_000, RequestsPerMinute: 600, Quota: &budget.Quota{Tokens: 100, Period: v1alpha1.QuotaPerHour}}, t0)
		l.Reserve("a", 90, t0)
		l.Settle("a", budget.Result{Usage: v1alpha1.TokenUsage{Input: 80}}, t0)
		l.Reserve("b", 90, t0)
	}
	probed := func(l *budget.Ledger) {
		end(v1alpha1.FailureQuotaExhausted)(l)
		l.Reserve("probe", 100, t0.Add(time.Hour))
	}
	full := capacity{level: 60_000, rate: 1000}
	tests := map[string]struct {
		ledgers    []func(*budget.Ledger)
		wantHeld   time.Duration
		wantTokens capacity
	}{
		"none is held":               {ledgers: []func(*budget.Ledger){nil, nil}, wantTokens: capacity{level: 120_000, rate: 2000}},
		"one has no quota left":      {ledgers: []func(*budget.Ledger){nil, end(v1alpha1.FailureQuotaExhausted)}, wantTokens: full},
		"the same the other way":     {ledgers: []func(*budget.Ledger){end(v1alpha1.FailureQuotaExhausted), nil}, wantTokens: full},
		"both have a Retry-After":    {ledgers: []func(*budget.Ledger){end(v1alpha1.FailureRateLimited), end(v1alpha1.FailureRateLimited)}, wantHeld: 10 * time.Second, wantTokens: capacity{level: 17_000, rate: 1800}},
		"the key is rejected":        {ledgers: []func(*budget.Ledger){end(v1alpha1.FailureUnauthorized)}, wantHeld: 30 * time.Second, wantTokens: full},
		"its own quota is used up":   {ledgers: []func(*budget.Ledger){exhausted}, wantHeld: time.Hour, wantTokens: full},
		"a probe is under way":       {ledgers: []func(*budget.Ledger){probed}},
		"a probe, and one that runs": {ledgers: []func(*budget.Ledger){probed, nil}, wantTokens: full},
	}
	for title, tc := range tests {
		t.Run(title, func(t *testing.T) {
			var stats []budget.Stats
			for _, prepare := range tc.ledgers {
				l := budget.New(budget.Limits{TokensPerMinute: 60_000, RequestsPerMinute: 600}, t0)
				if prepare != nil {
					prepare(l)
				}
				stats = append(stats, l.Stats(t0))
			}
			var m waitModel
			m.addBudgets(stats, t0)
			if m.held != tc.wantHeld || math.Abs(m.tokens.level-tc.wantTokens.level) > 1000 || math.Abs(m.tokens.rate-tc.wantTokens.rate) > 5 {
				t.Errorf("held for %s, then %+v; want %s and %+v", m.held, m.tokens, tc.wantHeld, tc.wantTokens)
			}
			if admits := tc.wantTokens.rate > 0; admits != (len(m.requests) > 0) {
				t.Errorf("requests are limited to %+v", m.requests)
			}
		})
	}
}

func TestEstimateNewScanWait(t *testing.T) {
	w := newWorld(t)
	if _, ok := w.s.EstimateNewScanWait("ns"); ok {
		t.Error("a wait is known without a pool")
	}
	w.standard(60_000)
	w.worker("w", "p", 1000)
	if got, ok := w.s.EstimateNewScanWait("ns"); !ok || got != 0 {
		t.Errorf("wait with nothing queued = %s, %t; want none", got, ok)
	}
	for i := range 200 {
		w.create(fmt.Sprint("s", i))
	}
	w.settle()
	left := w.s.queue.Ready("ns", "vision")
	each := w.get("s0").Status.Assignment.ReservedTokens
	// All photos that wait, and the answers of all that are begun: those of the last seconds come later. 1000 tokens
	// refill in a second.
	answer := int64(w.s.costOf(w.s.pools[name("p")], v1alpha1.StageAnswer, "gpt-5.1").Tokens)
	want := time.Duration(int64(left+1)*each+200*answer) * time.Millisecond
	got, ok := w.s.EstimateNewScanWait("ns")
	if diff := got - want; !ok || diff.Abs() > 10*time.Second {
		t.Errorf("wait behind %d scans of %d tokens = %s, %t; want about %s", left, each, got, ok, want)
	}
}

// TestSlowStoresArePredicted lets assignments take up to 400 ms to be stored, while tokens and workers are plenty: the
// scans behind wait for the API server, and their estimates show it.
func TestSlowStoresArePredicted(t *testing.T) {
	w := newWorld(t)
	w.standard(1_000_000_000)
	w.worker("w", "p", 10_000)
	w.fail = func(*write) error {
		w.clk.Step(400 * time.Millisecond / 16)
		return nil
	}
	for i := range 500 {
		w.create(fmt.Sprintf("s-%03d", i))
	}
	for range 8 {
		w.work() // 16 writes, decided at once and stored one after the other: after 200 ms on average
	}
	const left = 500 - 8*16
	got, ok := w.s.EstimateNewScanWait("ns")
	if want := left * 200 * time.Millisecond / 16; !ok || got < want/2 || got > 2*want {
		t.Errorf("wait behind %d scans = %s, %t; want about %s", left, got, ok, want)
	}
}
