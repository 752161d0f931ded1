// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscale

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// steady is a budget of 2 M tokens per minute. One scan costs it 1,000 tokens in this pool and as many in another; a
// call takes 6 s. It sustains 2e6/60/2000*6 = 100 calls.
func steady(change ...func(*BudgetSupply)) BudgetSupply {
	f := BudgetSupply{
		TokensPerMinute: 2e6, RequestsPerMinute: 1e6, QuotaLeft: -1,
		Here: Cost{Tokens: 1000, Calls: 1, Seconds: 6}, Everywhere: Cost{Tokens: 2000, Calls: 2, Seconds: 13},
	}
	for _, c := range change {
		c(&f)
	}
	return f
}

func TestDecide(t *testing.T) {
	manual := int32(3)
	full := func(f *BudgetSupply) { f.Available = 2e6 }
	tests := map[string]struct {
		in          Input
		want        int32
		wantBy      v1alpha1.PoolLimit
		wantLimited string
		wantWhy     string
	}{
		"no work": {
			in: Input{Current: 0, Load: Load{Supplies: []BudgetSupply{steady()}}}, want: 0, wantBy: v1alpha1.LimitedByDemand,
			wantWhy: "0 calls to run, budgets allow 100, 20 per worker",
		},
		"one scan wakes a pool at zero": {
			in: Input{Load: Load{Queued: 1, Supplies: []BudgetSupply{steady()}}}, want: 1, wantBy: v1alpha1.LimitedByDemand,
			wantWhy: "1 calls to run, budgets allow 100, 20 per worker",
		},
		"demand is queued and running calls": {
			in: Input{Load: Load{Queued: 30, InFlight: 31, Supplies: []BudgetSupply{steady()}}}, want: 4, wantBy: v1alpha1.LimitedByDemand,
			wantWhy: "61 calls to run, budgets allow 100, 20 per worker",
		},
		"tokens bound it": {
			in: Input{Load: Load{Queued: 900, Supplies: []BudgetSupply{steady()}}}, want: 5, wantBy: v1alpha1.LimitedByTokenBudget,
			wantWhy: "900 calls to run, budgets allow 100, 20 per worker", wantLimited: "45 workers needed, 5 allowed",
		},
		"requests bound it": {
			in:   Input{Load: Load{Queued: 900, Supplies: []BudgetSupply{steady(func(f *BudgetSupply) { f.RequestsPerMinute = 600 })}}},
			want: 2, wantBy: v1alpha1.LimitedByTokenBudget, wantWhy: "900 calls to run, budgets allow 30, 20 per worker",
			wantLimited: "the token budgets allow no more",
		},
		"a full bucket admits a burst": {
			in: Input{Load: Load{Queued: 900, Supplies: []BudgetSupply{steady(full)}}}, want: 45, wantBy: v1alpha1.LimitedByDemand,
			wantWhy: "900 calls to run, budgets allow 1000, 20 per worker",
		},
		"running calls are charged already": {
			in: Input{Load: Load{InFlight: 600, Queued: 300, Supplies: []BudgetSupply{steady()}}}, want: 30, wantBy: v1alpha1.LimitedByTokenBudget,
			wantWhy: "900 calls to run, budgets allow 600, 20 per worker", wantLimited: "45 workers needed, 30 allowed",
		},
		"budgets add up": {
			in: Input{Load: Load{Queued: 900, Supplies: []BudgetSupply{steady(), steady()}}}, want: 10, wantBy: v1alpha1.LimitedByTokenBudget,
			wantWhy: "900 calls to run, budgets allow 200, 20 per worker", wantLimited: "45 workers needed",
		},
		"an unshared budget sustains twice as many": {
			in: Input{Load: Load{Queued: 900, Supplies: []BudgetSupply{steady(func(f *BudgetSupply) { f.Everywhere = f.Here })}}}, want: 10,
			wantBy: v1alpha1.LimitedByTokenBudget, wantWhy: "900 calls to run, budgets allow 200, 20 per worker", wantLimited: "45 workers",
		},
		"no tokens needed": {
			in: Input{Load: Load{Queued: 900, Unmetered: true}}, want: 45, wantBy: v1alpha1.LimitedByDemand,
			wantWhy: "900 calls to run, 20 per worker",
		},
		"max": {
			in: Input{Max: 3, Load: Load{Queued: 900, Supplies: []BudgetSupply{steady()}}}, want: 3, wantBy: v1alpha1.LimitedByMaxReplicas,
			wantWhy: "900 calls to run, budgets allow 100, 20 per worker, at most 3 workers", wantLimited: "spec.maxReplicas is 3; raise it",
		},
		"min": {
			in: Input{Min: 2, Current: 2, Load: Load{Queued: 1, Supplies: []BudgetSupply{steady()}}}, want: 2, wantBy: v1alpha1.LimitedByMinReplicas,
			wantWhy: "1 calls to run, budgets allow 100, 20 per worker, at least 2 workers",
		},
		"the bounds apply at once": {
			in: Input{Min: 2, Max: 4, Current: 9, Load: Load{Queued: 60, Supplies: []BudgetSupply{steady()}}}, want: 4, wantBy: v1alpha1.LimitedByDemand,
			wantWhy: "60 calls to run, budgets allow 100, 20 per worker",
		},
		"the provider's quota is exhausted: a worker for the probe": {
			in: Input{Load: Load{Queued: 900, Supplies: []BudgetSupply{steady(full, func(f *BudgetSupply) { f.Hold = HeldByQuota })}}}, want: 1,
			wantBy: v1alpha1.LimitedByQuota, wantWhy: "900 calls to run, budgets allow 1, 20 per worker", wantLimited: "the budgets' quotas are exhausted",
		},
		"spec.quota is nearly exhausted": {
			in:   Input{Load: Load{Queued: 900, Supplies: []BudgetSupply{steady(full, func(f *BudgetSupply) { f.QuotaLeft = 50_000 })}}},
			want: 2, wantBy: v1alpha1.LimitedByQuota, wantWhy: "900 calls to run, budgets allow 25, 20 per worker", wantLimited: "45 workers needed, 2 allowed",
		},
		"one budget's quota is exhausted, another's is not": {
			in: Input{Load: Load{Queued: 900, Supplies: []BudgetSupply{steady(func(f *BudgetSupply) { f.Hold = HeldByQuota }), steady()}}}, want: 6,
			wantBy: v1alpha1.LimitedByTokenBudget, wantWhy: "900 calls to run, budgets allow 101, 20 per worker", wantLimited: "45 workers needed, 6 allowed",
		},
		"no key": {
			in: Input{Load: Load{Queued: 900, Supplies: []BudgetSupply{steady(full, func(f *BudgetSupply) { f.Hold = HeldByKey })}}}, want: 0,
			wantBy: v1alpha1.LimitedByTokenBudget, wantWhy: "900 calls to run, budgets allow 0, 20 per worker", wantLimited: "45 workers needed, 0 allowed",
		},
		"a new key: a worker for the probe": {
			in: Input{Load: Load{Queued: 9, Supplies: []BudgetSupply{steady(full, func(f *BudgetSupply) { f.Hold = KeyProbed })}}}, want: 1,
			wantBy: v1alpha1.LimitedByDemand, wantWhy: "9 calls to run, budgets allow 1, 20 per worker",
		},
		"no budget": {
			in: Input{Load: Load{Queued: 9}}, want: 0, wantBy: v1alpha1.LimitedByTokenBudget,
			wantWhy: "9 calls to run, budgets allow 0, 20 per worker", wantLimited: "1 workers needed, 0 allowed",
		},
		"manual": {
			in: Input{Manual: &manual, Max: 2, Current: 9, Load: Load{Queued: 50, Supplies: []BudgetSupply{steady()}}}, want: 3, wantBy: v1alpha1.LimitedByManual,
			wantWhy: "autoscaling is off; 50 calls to run, budgets allow 100, 20 per worker",
		},
		"manual, too few": {
			in: Input{Manual: &manual, Current: 9, Load: Load{Queued: 900, Supplies: []BudgetSupply{steady()}}}, want: 3, wantBy: v1alpha1.LimitedByManual,
			wantWhy:     "autoscaling is off; 900 calls to run, budgets allow 100, 20 per worker",
			wantLimited: "45 workers needed, 3 allowed (autoscaling is off; 900 calls to run, budgets allow 100, 20 per worker): the number is set manually; raise spec.replicas",
		},
		"manual, as many as the budgets allow": {
			in: Input{Manual: &manual, Current: 9, Load: Load{Queued: 900, Supplies: []BudgetSupply{steady(func(f *BudgetSupply) { f.RequestsPerMinute = 600 })}}}, want: 3,
			wantBy: v1alpha1.LimitedByManual, wantWhy: "autoscaling is off; 900 calls to run, budgets allow 30, 20 per worker",
			wantLimited: "the token budgets allow no more",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			in := tc.in
			in.Concurrency, in.Now = 20, t0
			if in.Max == 0 {
				in.Max = 100
			}
			got := Decide(in, &History{})
			if got.Replicas != tc.want || got.LimitedBy != tc.wantBy || got.Why != tc.wantWhy {
				t.Errorf("%d by %s (%s), want %d by %s (%s)", got.Replicas, got.LimitedBy, got.Why, tc.want, tc.wantBy, tc.wantWhy)
			}
			if got.Limited != (tc.wantLimited != "") || !strings.Contains(got.Limit, tc.wantLimited) {
				t.Errorf("limited: %t, %q; want %q", got.Limited, got.Limit, tc.wantLimited)
			}
		})
	}
}

func TestDecisionAsText(t *testing.T) {
	in := Input{
		Current: 2, Concurrency: 100, Max: 8, Now: t0,
		Load: Load{Queued: 400, InFlight: 12, Supplies: []BudgetSupply{steady(func(f *BudgetSupply) { f.TokensPerMinute = 9.6e6 })}},
	}
	want := "2 → 5: 412 calls to run, budgets allow 480, 100 per worker"
	if diff := cmp.Diff(want, Decide(in, &History{}).String()); diff != "" {
		t.Error(diff)
	}
}

// TestDecideProperties checks random loads, bounds and histories: the decision is never outside the bounds, never
// falls when more is needed, and the history does not change.
func TestDecideProperties(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 1000 {
		var history History
		in := Input{Concurrency: 1 + rnd.Int32N(200), Min: rnd.Int32N(5), Now: t0, Current: rnd.Int32N(40)}
		in.Max = in.Min + 1 + rnd.Int32N(30)
		for range rnd.IntN(3) {
			in.Supplies = append(in.Supplies, steady(func(f *BudgetSupply) {
				f.TokensPerMinute, f.Available = 1e7*rnd.Float64(), 1e6*(rnd.Float64()-0.2)
				f.QuotaLeft, f.Hold = 1e7*(rnd.Float64()-0.5), Hold(rnd.IntN(4))
			}))
		}
		if rnd.IntN(2) == 0 {
			in.Behavior = up(rules(rnd.Int32N(60), "", pods(1+rnd.Int32N(9), 15), percent(1+rnd.Int32N(200), 30)))
			in.Behavior.ScaleDown = rules(rnd.Int32N(400), "", pods(1+rnd.Int32N(9), 15))
		}
		for range rnd.IntN(20) {
			in.Queued, in.InFlight = rnd.IntN(3000), rnd.IntN(1000)
			d := Decide(in, &history)
			history.Note(d, in.Now)
			history.Scaled(d.From, d.Replicas, in.Now)
			in.Current = d.Replicas
			in.Now = in.Now.Add(time.Duration(rnd.IntN(90)) * time.Second)
		}
		in.InFlight = rnd.IntN(300)
		last := int32(-1)
		for queued := 0; queued < 5000; queued += 1 + rnd.IntN(200) {
			in.Queued = queued
			d := Decide(in, &history)
			if again := Decide(in, &history); again != d {
				t.Fatalf("round %d: the same input gave %+v and %+v", round, d, again)
			}
			if d.Replicas < in.Min || d.Replicas > in.Max {
				t.Fatalf("round %d: %d workers, want %d to %d", round, d.Replicas, in.Min, in.Max)
			}
			if d.Replicas < last {
				t.Fatalf("round %d: %d workers for %d queued calls, %d for fewer", round, d.Replicas, queued, last)
			}
			last = d.Replicas
		}
	}
}
