// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"maps"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/budget"
)

// sized is a pool with a capacity.
func (w *world) sized(n string, most, perWorker int32, stages ...v1alpha1.StageName) *v1alpha1.WorkerPool {
	p := w.pool(n, stages...)
	p.Spec.MaxReplicas, p.Spec.ConcurrencyPerWorker = most, perWorker
	return p
}

// teach makes the estimator know what a call costs.
func (w *world) teach(stage v1alpha1.StageName, tokens int64, seconds float64) {
	w.s.estimator.Observe(string(stage), "gpt-5.1", budget.Sample{Formula: tokens, Input: 1, Output: 1, Seconds: seconds})
}

func TestPoolDemand(t *testing.T) {
	const vision, rule, answer, reward = v1alpha1.StageVision, v1alpha1.StageRule, v1alpha1.StageAnswer, v1alpha1.StageReward
	whole := CallCost{Tokens: 1200, Calls: 2, Seconds: 12}
	tests := map[string]struct {
		pools func(w *world)
		want  PoolDemand
	}{
		"one pool for all": {
			pools: func(w *world) { w.s.PoolChanged(w.sized("p", 8, 10, vision, rule, answer, reward)) },
			want:  PoolDemand{Queued: 9, QueuedShare: 9, Supplies: []BudgetSupply{{Here: whole, Everywhere: whole}}},
		},
		"a budget shared by stages": {
			pools: func(w *world) {
				w.s.PoolChanged(w.sized("p", 8, 10, vision, rule))
				w.s.PoolChanged(w.sized("q", 8, 10, answer, reward))
			},
			want: PoolDemand{Queued: 9, QueuedShare: 9, Supplies: []BudgetSupply{{Here: CallCost{Tokens: 400, Calls: 1, Seconds: 5}, Everywhere: whole}}},
		},
		"two pools for a stage": {
			pools: func(w *world) {
				w.s.PoolChanged(w.sized("p", 2, 10, vision))
				w.s.PoolChanged(w.sized("q", 4, 10, vision, rule, answer))
			},
			want: PoolDemand{Queued: 9, QueuedShare: 3, Supplies: []BudgetSupply{{Here: CallCost{Tokens: 200, Calls: 0.5, Seconds: 2.5}, Everywhere: whole}}},
		},
		"no tokens needed": {
			pools: func(w *world) { w.s.PoolChanged(w.sized("p", 8, 10, rule)) },
			want:  PoolDemand{Unmetered: true},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.s.BudgetChanged(w.budget("b", 600_000), readyKey)
			w.teach(vision, 400, 5)
			w.teach(answer, 800, 7)
			tc.pools(w)
			for i := range 9 {
				w.create(fmt.Sprint("s", i))
			}
			w.create("later", suspended)
			got, ok := w.s.PoolDemand(types.NamespacedName{Namespace: "ns", Name: "p"})
			if !ok {
				t.Fatal("the pool is not known")
			}
			for i := range tc.want.Supplies {
				f := &tc.want.Supplies[i]
				f.TokensPerMinute, f.RequestsPerMinute, f.Available, f.QuotaLeft = 600_000, 100_000, 600_000, -1
			}
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPoolDemandBeforeAnythingIsLearned(t *testing.T) {
	w := newWorld(t)
	w.standard(600_000, "w1")
	got, _ := w.s.PoolDemand(name("p"))
	c := got.Supplies[0].Here
	if c.Calls != 2 || c.Seconds != 12 || c.Tokens < 1600 || c.Tokens > 20_000 {
		t.Errorf("one scan is taken to cost %+v, want two calls of 6 s and of 800 output tokens and their prompts", c)
	}
}

func TestPoolDemandHeldBudgets(t *testing.T) {
	tests := map[string]struct {
		key      KeyState
		quota    *v1alpha1.TokenQuota
		class    v1alpha1.FailureClass
		wantHold SupplyHold
		wantLeft float64
	}{
		"ready":           {key: readyKey, wantLeft: -1},
		"no key":          {wantHold: HeldByKey, wantLeft: -1},
		"quota exhausted": {key: readyKey, class: v1alpha1.FailureQuotaExhausted, wantHold: HeldByQuota, wantLeft: -1},
		"own quota":       {key: readyKey, quota: &v1alpha1.TokenQuota{Tokens: 5000, Period: v1alpha1.QuotaPerHour}, wantLeft: 5000},
	}
	for tn, tc := range tests {
		t.Run(tn, func(t *testing.T) {
			w := newWorld(t)
			b := w.budget("b", 600_000)
			b.Spec.Quota = tc.quota
			w.s.PoolChanged(w.sized("p", 8, 10, v1alpha1.StageVision))
			w.s.BudgetChanged(b, tc.key)
			if tc.class != "" {
				l := w.s.budgets[name("b")].ledger
				l.Reserve("x", 100, w.clk.Now())
				l.Settle("x", budget.Result{Class: tc.class}, w.clk.Now())
			}
			got, _ := w.s.PoolDemand(name("p"))
			if f := got.Supplies[0]; f.Hold != tc.wantHold || math.Abs(f.QuotaLeft-tc.wantLeft) > 0 {
				t.Errorf("hold %d with %g left, want %d with %g", f.Hold, f.QuotaLeft, tc.wantHold, tc.wantLeft)
			}
		})
	}
}

// TestDrainingWorkersAddNoDemand: a pool that shrinks must not grow again for the scans that its draining workers finish.
func TestDrainingWorkersAddNoDemand(t *testing.T) {
	w := newWorld(t)
	w.standard(600_000, "w1", "w2")
	for i := range 4 {
		w.create(fmt.Sprint("s", i))
	}
	w.settle()
	info := w.leases[name("w1")]
	info.Draining, info.Pod = true, "pod-1"
	w.s.WorkerChanged(info)
	got, _ := w.s.PoolDemand(name("p"))
	if got.calls() != 2 || got.InFlight != 4 {
		t.Errorf("%d of %d calls in flight need a slot, want 2 of 4", got.calls(), got.InFlight)
	}
	if loads := w.s.PodLoads(name("p")); loads["pod-1"] != 2 {
		t.Errorf("loads by pod = %v, want 2 at pod-1", loads)
	}
}

// TestScaleUpIsSignaled counts the signals for a pool: one each time its calls need more workers than before.
func TestScaleUpIsSignaled(t *testing.T) {
	w := newWorld(t)
	signals := map[types.NamespacedName]int{}
	w.s.opts.ScaleUp = func(n types.NamespacedName) { signals[n]++ }
	w.s.BudgetChanged(w.budget("b", 600_000), readyKey)
	w.s.PoolChanged(w.sized("p", 8, 10, v1alpha1.StageVision, v1alpha1.StageRule))
	w.settle()
	wantSignals := func(want int) {
		t.Helper()
		if diff := cmp.Diff(map[types.NamespacedName]int{name("p"): want}, signals); diff != "" {
			t.Errorf("signals (-want +got):\n%s", diff)
		}
	}
	w.create("s0")
	w.settle()
	wantSignals(1) // from none to some
	for i := range 9 {
		w.create(fmt.Sprint("more", i))
		w.settle()
	}
	wantSignals(1) // one worker holds them
	w.create("last")
	w.settle()
	wantSignals(2)
	maps.DeleteFunc(w.store, func(n types.NamespacedName, _ *v1alpha1.ScanRequest) bool { w.s.ScanGone(n); return true })
	w.settle()
	w.clk.Step(time.Second)
	w.create("again")
	w.settle()
	wantSignals(3)
}

func TestCanaryShare(t *testing.T) {
	weight := func(n int32) *v1alpha1.CanaryWorkers { return &v1alpha1.CanaryWorkers{WeightPercent: &n} }
	tests := map[string]struct {
		canary             *v1alpha1.CanaryWorkers
		stable, canaryRoom int // capacities; zero for no such worker
		want               int // of 40 scans, given to the canary
	}{
		"a tenth":                   {canary: weight(10), stable: 100, canaryRoom: 100, want: 4},
		"a third, nearly":           {canary: weight(33), stable: 100, canaryRoom: 100, want: 13},
		"all":                       {canary: weight(100), stable: 100, canaryRoom: 100, want: 40},
		"nothing":                   {canary: weight(0), stable: 100, canaryRoom: 100, want: 0},
		"canary over":               {canary: nil, stable: 100, canaryRoom: 100, want: 0},
		"the canary is full":        {canary: weight(50), stable: 100, canaryRoom: 5, want: 5},
		"the others are full":       {canary: weight(10), stable: 9, canaryRoom: 100, want: 1},
		"there is none but it":      {canary: weight(10), canaryRoom: 100, want: 40},
		"no canary has started yet": {canary: weight(10), stable: 100, want: 0},
	}
	for tn, tc := range tests {
		t.Run(tn, func(t *testing.T) {
			w := newWorld(t)
			w.s.BudgetChanged(w.budget("b", 6_000_000), readyKey)
			p := w.sized("p", 8, 100, v1alpha1.StageVision)
			p.Spec.Canary = tc.canary
			w.s.PoolChanged(p)
			for n, capacity := range map[string]int{"stable": tc.stable, "canary": tc.canaryRoom} {
				if capacity > 0 {
					w.s.WorkerChanged(Worker{Name: name(n), Pool: "p", Canary: n == "canary", Capacity: capacity, RenewedAt: t0, LeaseDuration: time.Minute})
				}
			}
			for i := range 40 {
				w.create(fmt.Sprint("s", i))
			}
			w.settle()
			got := 0
			for n := range w.store {
				if w.workerOf(n.Name) == "canary" {
					got++
				}
			}
			if got != tc.want {
				t.Errorf("%d scans were assigned to the canary, want %d", got, tc.want)
			}
		})
	}
}
