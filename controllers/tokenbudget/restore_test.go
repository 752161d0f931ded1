// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tokenbudget

import (
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/controllers/controllertest"
	"github.com/eco2-team/scan-operator/internal/budget"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

// TestANewLeaderKnowsWhatTheStatusSays writes a ledger's figures to a status and has a new leader read them: nothing
// that keeps calls back may be lost on the way.
func TestANewLeaderKnowsWhatTheStatusSays(t *testing.T) {
	said := func(o v1alpha1.RateLimitObservation) budget.Result { return budget.Result{Observation: &o} }
	tests := map[string]struct {
		quota   *v1alpha1.TokenQuota
		results []budget.Result
		// refused is what a call was refused that came after the results, in tokens.
		refused int64
		// after is how much later the new leader leads.
		after time.Duration
		check func(t *testing.T, before, after budget.Stats)
	}{
		"an exhausted quota of the provider": {
			results: []budget.Result{{Class: v1alpha1.FailureQuotaExhausted}},
			after:   5 * time.Second,
			check: func(t *testing.T, before, after budget.Stats) {
				t.Helper()
				if after.Hold != budget.HoldQuotaExhausted || !after.ResumeAt.Equal(before.ResumeAt) {
					t.Errorf("hold %q until %s, want %q until %s", after.Hold, after.ResumeAt, before.Hold, before.ResumeAt)
				}
			},
		},
		"a refused key": {
			results: []budget.Result{{Class: v1alpha1.FailureUnauthorized}},
			check: func(t *testing.T, _, after budget.Stats) {
				t.Helper()
				if after.Hold != budget.HoldUnauthorized {
					t.Errorf("hold %q, want %q", after.Hold, budget.HoldUnauthorized)
				}
			},
		},
		"a Retry-After": {
			results: []budget.Result{{Class: v1alpha1.FailureRateLimited, RetryAfter: 40 * time.Second}},
			after:   16 * time.Second,
			check: func(t *testing.T, before, after budget.Stats) {
				t.Helper()
				if !after.ResumeAt.Equal(before.ResumeAt) {
					t.Errorf("calls are sent again at %s, want %s", after.ResumeAt, before.ResumeAt)
				}
			},
		},
		"a limit by day": {
			results: []budget.Result{said(v1alpha1.RateLimitObservation{
				LimitTokens: 60_000, RemainingTokens: 59_000, LimitRequests: 1000, RemainingRequests: 0, ResetRequestsMilliseconds: 86_400_000,
			})},
			after: 16 * time.Second,
			check: func(t *testing.T, _, after budget.Stats) {
				t.Helper()
				if d := after.RequestsPerDay; d == nil || d.Limit != 1000 || d.Available > 0 {
					t.Errorf("requests per day %+v, want none left of 1000", d)
				}
			},
		},
		"a project's limit": {
			results: []budget.Result{said(v1alpha1.RateLimitObservation{
				LimitTokens: 60_000, RemainingTokens: 59_000, ProjectLimitTokens: 6000, ProjectRemainingTokens: 500,
			})},
			after: 16 * time.Second,
			check: func(t *testing.T, _, after budget.Stats) {
				t.Helper()
				if after.TokensPerMinute != 6000 || after.Tokens.Available > 600 {
					t.Errorf("%d tokens of %d per minute are left, want some 500 of 6000", after.Tokens.Available, after.TokensPerMinute)
				}
			},
		},
		"a used own quota": {
			quota:   &v1alpha1.TokenQuota{Tokens: 5000, Period: v1alpha1.QuotaPerDay},
			results: []budget.Result{{Usage: v1alpha1.TokenUsage{Input: 3000, Output: 1500}}},
			refused: 1000,
			check: func(t *testing.T, _, after budget.Stats) {
				t.Helper()
				if after.QuotaUsed != 4500 || !after.ResumeAt.IsZero() {
					t.Errorf("%d tokens of the quota are used and calls are blocked until %s, want 4500 and no block: the quota may be raised",
						after.QuotaUsed, after.ResumeAt)
				}
			},
		},
		"a rate that recovers": {
			results: []budget.Result{{Class: v1alpha1.FailureSlowDown}},
			check: func(t *testing.T, _, after budget.Stats) {
				t.Helper()
				if after.RatePercent != 50 {
					t.Errorf("%d %% of the limits are used, want 50", after.RatePercent)
				}
			},
		},
	}
	for title, tc := range tests {
		t.Run(title, func(t *testing.T) {
			b := controllertest.MakeBudget()
			b.Spec.Quota = tc.quota
			limits := budget.Limits{TokensPerMinute: 60_000, RequestsPerMinute: 600, TargetUtilizationPercent: 100, FollowHeaders: true}
			if q := tc.quota; q != nil {
				limits.Quota = &budget.Quota{Tokens: q.Tokens, Period: q.Period}
			}
			ledger := budget.New(limits, controllertest.T0)
			now := controllertest.T0
			for _, r := range tc.results {
				ledger.Reserve("a", 1000, now)
				now = now.Add(time.Second)
				ledger.Settle("a", r, now)
			}
			if tc.refused > 0 && ledger.Reserve("b", tc.refused, now).OK {
				t.Fatalf("a call of %d tokens was not refused", tc.refused)
			}
			before := ledger.Stats(now)
			key := scheduler.KeyState{Ready: true, Reason: v1alpha1.ReasonKeyFound, Message: "found", Version: "1"}
			computeBudgetStatus(b, budgetInput{key: key, stats: before, now: now})

			sched := scheduler.New(scheduler.Options{
				Clock: clocktesting.NewFakeClock(now.Add(tc.after)), Pack: knowledge.Default(), Log: logr.Discard(), LeaderTerm: "t",
			})
			sched.Restore(scheduler.State{Budgets: []*v1alpha1.TokenBudget{b}, Keys: []scheduler.KeyState{key}})
			after, ok := sched.BudgetStats(types.NamespacedName{Namespace: b.Namespace, Name: b.Name})
			if !ok {
				t.Fatal("the budget is not known")
			}
			tc.check(t, before, after)
			unwritten := cmpopts.IgnoreFields(budget.Totals{}, "Lost", "Unauthorized")
			if diff := cmp.Diff(before.Totals, after.Totals, unwritten); diff != "" {
				t.Errorf("totals (-before +after):\n%s", diff)
			}
		})
	}
}

func TestResumeAt(t *testing.T) {
	end, probe := controllertest.T0.Add(time.Hour), controllertest.T0.Add(time.Minute)
	tests := map[string]struct {
		stats budget.Stats
		want  time.Time
	}{
		"nothing is held":         {stats: budget.Stats{QuotaPeriodEnd: end}},
		"a probe is due":          {stats: budget.Stats{Hold: budget.HoldQuotaExhausted, ResumeAt: probe}, want: probe},
		"a probe is under way":    {stats: budget.Stats{Hold: budget.HoldQuotaExhausted, QuotaPeriodEnd: end}},
		"the own quota is used":   {stats: budget.Stats{QuotaExhausted: true, QuotaPeriodEnd: end}, want: end},
		"a Retry-After":           {stats: budget.Stats{ResumeAt: probe}, want: probe},
		"a hold counts the first": {stats: budget.Stats{Hold: budget.HoldUnauthorized, ResumeAt: probe, QuotaExhausted: true, QuotaPeriodEnd: end}, want: probe},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var got time.Time
			if at := resumeAt(tc.stats); at != nil {
				got = at.Time
			}
			if !got.Equal(tc.want) {
				t.Errorf("resume at %s, want %s", got, tc.want)
			}
		})
	}
}
