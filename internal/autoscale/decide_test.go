package autoscale

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// steady is a budget of 2 M tokens per minute that one scan takes 1,000 tokens of in this pool, and as many in
// another; a call takes 6 s. By itself it feeds 2e6/60/2000*6 = 100 calls.
func steady(change ...func(*Feed)) Feed {
	f := Feed{
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
	full := func(f *Feed) { f.Available = 2e6 }
	tests := map[string]struct {
		in          Input
		want        int32
		wantBy      v1alpha1.PoolLimit
		wantLimited string
		wantWhy     string
	}{
		"no work": {
			in: Input{Current: 0, Load: Load{Feeds: []Feed{steady()}}}, want: 0, wantBy: v1alpha1.LimitedByDemand,
			wantWhy: "0 calls wanted, tokens feed 100, 20 per worker",
		},
		"one scan wakes a pool at zero": {
			in: Input{Load: Load{Queued: 1, Feeds: []Feed{steady()}}}, want: 1, wantBy: v1alpha1.LimitedByDemand,
			wantWhy: "1 calls wanted, tokens feed 100, 20 per worker",
		},
		"demand is what waits and what runs": {
			in: Input{Load: Load{Queued: 30, InFlight: 31, Feeds: []Feed{steady()}}}, want: 4, wantBy: v1alpha1.LimitedByDemand,
			wantWhy: "61 calls wanted, tokens feed 100, 20 per worker",
		},
		"tokens bound it": {
			in: Input{Load: Load{Queued: 900, Feeds: []Feed{steady()}}}, want: 5, wantBy: v1alpha1.LimitedByTokenBudget,
			wantWhy: "900 calls wanted, tokens feed 100, 20 per worker", wantLimited: "45 workers wanted, 5 given",
		},
		"requests bound it": {
			in:   Input{Load: Load{Queued: 900, Feeds: []Feed{steady(func(f *Feed) { f.RequestsPerMinute = 600 })}}},
			want: 2, wantBy: v1alpha1.LimitedByTokenBudget, wantWhy: "900 calls wanted, tokens feed 30, 20 per worker",
			wantLimited: "the token budgets feed no more",
		},
		"a full bucket feeds a burst": {
			in: Input{Load: Load{Queued: 900, Feeds: []Feed{steady(full)}}}, want: 45, wantBy: v1alpha1.LimitedByDemand,
			wantWhy: "900 calls wanted, tokens feed 1000, 20 per worker",
		},
		"calls that run are paid for": {
			in: Input{Load: Load{InFlight: 600, Queued: 300, Feeds: []Feed{steady()}}}, want: 30, wantBy: v1alpha1.LimitedByTokenBudget,
			wantWhy: "900 calls wanted, tokens feed 600, 20 per worker", wantLimited: "45 workers wanted, 30 given",
		},
		"budgets add up": {
			in: Input{Load: Load{Queued: 900, Feeds: []Feed{steady(), steady()}}}, want: 10, wantBy: v1alpha1.LimitedByTokenBudget,
			wantWhy: "900 calls wanted, tokens feed 200, 20 per worker", wantLimited: "45 workers wanted",
		},
		"an unshared budget feeds twice as many": {
			in: Input{Load: Load{Queued: 900, Feeds: []Feed{steady(func(f *Feed) { f.Everywhere = f.Here })}}}, want: 10,
			wantBy: v1alpha1.LimitedByTokenBudget, wantWhy: "900 calls wanted, tokens feed 200, 20 per worker", wantLimited: "45 workers",
		},
		"no tokens needed": {
			in: Input{Load: Load{Queued: 900, Unmetered: true}}, want: 45, wantBy: v1alpha1.LimitedByDemand,
			wantWhy: "900 calls wanted, 20 per worker",
		},
		"max": {
			in: Input{Max: 3, Load: Load{Queued: 900, Feeds: []Feed{steady()}}}, want: 3, wantBy: v1alpha1.LimitedByMaxReplicas,
			wantWhy: "900 calls wanted, tokens feed 100, 20 per worker, at most 3 workers", wantLimited: "spec.maxReplicas is 3; raise it",
		},
		"min": {
			in: Input{Min: 2, Current: 2, Load: Load{Queued: 1, Feeds: []Feed{steady()}}}, want: 2, wantBy: v1alpha1.LimitedByMinReplicas,
			wantWhy: "1 calls wanted, tokens feed 100, 20 per worker, at least 2 workers",
		},
		"the bounds are kept at once": {
			in: Input{Min: 2, Max: 4, Current: 9, Load: Load{Queued: 60, Feeds: []Feed{steady()}}}, want: 4, wantBy: v1alpha1.LimitedByDemand,
			wantWhy: "60 calls wanted, tokens feed 100, 20 per worker",
		},
		"the provider's quota is used up: a worker for the probe": {
			in: Input{Load: Load{Queued: 900, Feeds: []Feed{steady(full, func(f *Feed) { f.Hold = HeldByQuota })}}}, want: 1,
			wantBy: v1alpha1.LimitedByQuota, wantWhy: "900 calls wanted, tokens feed 1, 20 per worker", wantLimited: "the budgets' quotas are used up",
		},
		"the own quota is nearly used up": {
			in:   Input{Load: Load{Queued: 900, Feeds: []Feed{steady(full, func(f *Feed) { f.QuotaLeft = 50_000 })}}},
			want: 2, wantBy: v1alpha1.LimitedByQuota, wantWhy: "900 calls wanted, tokens feed 25, 20 per worker", wantLimited: "45 workers wanted, 2 given",
		},
		"one budget's quota is used up, another's is not": {
			in: Input{Load: Load{Queued: 900, Feeds: []Feed{steady(func(f *Feed) { f.Hold = HeldByQuota }), steady()}}}, want: 6,
			wantBy: v1alpha1.LimitedByTokenBudget, wantWhy: "900 calls wanted, tokens feed 101, 20 per worker", wantLimited: "45 workers wanted, 6 given",
		},
		"no key": {
			in: Input{Load: Load{Queued: 900, Feeds: []Feed{steady(full, func(f *Feed) { f.Hold = HeldByKey })}}}, want: 0,
			wantBy: v1alpha1.LimitedByTokenBudget, wantWhy: "900 calls wanted, tokens feed 0, 20 per worker", wantLimited: "45 workers wanted, 0 given",
		},
		"a new key: a worker for the probe": {
			in: Input{Load: Load{Queued: 9, Feeds: []Feed{steady(full, func(f *Feed) { f.Hold = KeyProbed })}}}, want: 1,
			wantBy: v1alpha1.LimitedByDemand, wantWhy: "9 calls wanted, tokens feed 1, 20 per worker",
		},
		"no budget": {
			in: Input{Load: Load{Queued: 9}}, want: 0, wantBy: v1alpha1.LimitedByTokenBudget,
			wantWhy: "9 calls wanted, tokens feed 0, 20 per worker", wantLimited: "1 workers wanted, 0 given",
		},
		"by hand": {
			in: Input{Manual: &manual, Max: 2, Current: 9, Load: Load{Queued: 50, Feeds: []Feed{steady()}}}, want: 3, wantBy: v1alpha1.LimitedByManual,
			wantWhy: "autoscaling is off; 50 calls wanted, tokens feed 100, 20 per worker",
		},
		"by hand, too few": {
			in: Input{Manual: &manual, Current: 9, Load: Load{Queued: 900, Feeds: []Feed{steady()}}}, want: 3, wantBy: v1alpha1.LimitedByManual,
			wantWhy:     "autoscaling is off; 900 calls wanted, tokens feed 100, 20 per worker",
			wantLimited: "45 workers wanted, 3 given (autoscaling is off; 900 calls wanted, tokens feed 100, 20 per worker): set by hand; raise spec.replicas",
		},
		"by hand, as many as the tokens feed": {
			in: Input{Manual: &manual, Current: 9, Load: Load{Queued: 900, Feeds: []Feed{steady(func(f *Feed) { f.RequestsPerMinute = 600 })}}}, want: 3,
			wantBy: v1alpha1.LimitedByManual, wantWhy: "autoscaling is off; 900 calls wanted, tokens feed 30, 20 per worker",
			wantLimited: "the token budgets feed no more",
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
		Load: Load{Queued: 400, InFlight: 12, Feeds: []Feed{steady(func(f *Feed) { f.TokensPerMinute = 9.6e6 })}},
	}
	want := "2 → 5: 412 calls wanted, tokens feed 480, 100 per worker"
	if diff := cmp.Diff(want, Decide(in, &History{}).String()); diff != "" {
		t.Error(diff)
	}
}

// TestDecideProperties checks random loads, bounds and histories: the decision is never outside the bounds, never
// falls when more is wanted, and changes nothing.
func TestDecideProperties(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 1000 {
		var history History
		in := Input{Concurrency: 1 + rnd.Int32N(200), Min: rnd.Int32N(5), Now: t0, Current: rnd.Int32N(40)}
		in.Max = in.Min + 1 + rnd.Int32N(30)
		for range rnd.IntN(3) {
			in.Feeds = append(in.Feeds, steady(func(f *Feed) {
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
