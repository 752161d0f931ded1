// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"testing"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

func TestPeriods(t *testing.T) {
	t.Parallel()
	seoul := time.FixedZone("KST", 9*60*60)
	tests := map[string]struct {
		period             v1alpha1.QuotaPeriod
		now                time.Time
		wantStart, wantEnd string
	}{
		"an hour":              {v1alpha1.QuotaPerHour, time.Date(2026, 2, 28, 23, 59, 59, 1, time.UTC), "2026-02-28T23:00:00Z", "2026-03-01T00:00:00Z"},
		"a day":                {v1alpha1.QuotaPerDay, time.Date(2024, 2, 28, 12, 0, 0, 0, time.UTC), "2024-02-28T00:00:00Z", "2024-02-29T00:00:00Z"},
		"a day, in Seoul time": {v1alpha1.QuotaPerDay, time.Date(2026, 3, 1, 8, 0, 0, 0, seoul), "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z"},
		"a month":              {v1alpha1.QuotaPerMonth, time.Date(2026, 12, 31, 12, 0, 0, 0, time.UTC), "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		"the first nanosecond": {v1alpha1.QuotaPerMonth, time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC), "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"},
	}
	for name, test := range tests {
		start, end := period(test.period, test.now)
		if got := start.Format(time.RFC3339); got != test.wantStart {
			t.Errorf("%s: starts %s, want %s", name, got, test.wantStart)
		}
		if got := end.Format(time.RFC3339); got != test.wantEnd {
			t.Errorf("%s: ends %s, want %s", name, got, test.wantEnd)
		}
	}
}

func TestOwnQuota(t *testing.T) {
	t.Parallel()
	limits := plain(100_000)
	limits.Quota = &Quota{Tokens: 1000, Period: v1alpha1.QuotaPerHour}
	l := New(limits, epoch)
	now := epoch.Add(59 * time.Minute)
	nextHour := epoch.Add(time.Hour)
	used := func(want int64) {
		t.Helper()
		s := l.Stats(now)
		if s.QuotaUsed != want {
			t.Errorf("used %d, want %d", s.QuotaUsed, want)
		}
	}
	if !l.Reserve("a", 600, now).OK {
		t.Fatal("600 of 1000 do not fit")
	}
	if v := l.Reserve("b", 500, now); v.OK || v.Dimension != QuotaTokens || !v.RetryAt.Equal(nextHour) {
		t.Errorf("reserved calls count: %+v, want QuotaTokens until %v", v, nextHour)
	}
	l.Settle("a", Result{Usage: v1alpha1.TokenUsage{Input: 100, CachedInput: 50, Output: 20}}, now)
	used(120)
	if !l.Reserve("b", 500, now).OK {
		t.Error("500 do not fit though only 120 were used")
	}
	l.Settle("b", Result{Class: v1alpha1.FailureUnavailable}, now)
	used(120)
	l.Reserve("c", 300, now)
	l.Settle("c", Result{Class: v1alpha1.FailureTimeout}, now)
	used(420) // may be billed: the reservation counts
	l.Reserve("d", 300, now)
	l.Lost("d", now)
	used(720)
	l.Reserve("e", 200, now)
	l.Cancel("e", now)
	used(720)
	now = nextHour
	used(0)
	if !l.Reserve("f", 1000, now).OK {
		t.Error("the whole quota does not fit in a new hour")
	}
	if got := l.Stats(now).QuotaPeriodStart; !got.Equal(nextHour) {
		t.Errorf("period began %v, want %v", got, nextHour)
	}
	limits.Quota = nil
	l.SetLimits(limits, now)
	if !l.Reserve("g", 5000, now).OK {
		t.Error("a quota that was removed still holds")
	}
}

// TestQuotaIsExhausted checks that the quota is exhausted after a denial of a call that would not fit even if the
// running ones used nothing, until the next period or a higher quota.
func TestQuotaIsExhausted(t *testing.T) {
	t.Parallel()
	limits := plain(100_000)
	quota := func(tokens int64) { limits.Quota = &Quota{Tokens: tokens, Period: v1alpha1.QuotaPerHour} }
	quota(1000)
	l := New(limits, epoch)
	want := func(what string, now time.Time, want bool) {
		t.Helper()
		s := l.Stats(now)
		if s.QuotaExhausted != want || !s.QuotaPeriodEnd.Equal(now.Truncate(time.Hour).Add(time.Hour)) {
			t.Errorf("%s: exhausted %t until %s, want %t until the hour is over", what, s.QuotaExhausted, s.QuotaPeriodEnd, want)
		}
	}
	l.Reserve("a", 600, epoch)
	l.Reserve("b", 600, epoch)
	want("what is reserved may not be used", epoch, false)
	l.Settle("a", Result{Usage: v1alpha1.TokenUsage{Input: 500}}, epoch)
	l.Reserve("b", 600, epoch)
	want("too little is left for a call", epoch, true)
	quota(900)
	l.SetLimits(limits, epoch)
	want("a lower quota", epoch, true)
	quota(2000)
	l.SetLimits(limits, epoch)
	want("a higher quota", epoch, false)
	l.Reserve("c", 1600, epoch)
	want("too little is left for a larger call", epoch, true)
	want("a new period", epoch.Add(time.Hour), false)
	l.Reserve("d", 2000, epoch.Add(time.Hour))
	l.Settle("d", Result{Usage: v1alpha1.TokenUsage{Output: 2000}}, epoch.Add(time.Hour))
	want("all is used", epoch.Add(time.Hour), true)
	limits.Quota = nil
	l.SetLimits(limits, epoch.Add(time.Hour))
	if l.Stats(epoch.Add(time.Hour)).QuotaExhausted {
		t.Error("a quota that was removed is exhausted")
	}
}

// TestQuotaIsChangedLive checks that a changed number counts at once and that a changed period starts from zero.
func TestQuotaIsChangedLive(t *testing.T) {
	t.Parallel()
	limits := plain(100_000)
	limits.Quota = &Quota{Tokens: 1000, Period: v1alpha1.QuotaPerHour}
	l := New(limits, epoch)
	l.Reserve("a", 1000, epoch)
	l.Settle("a", Result{Usage: v1alpha1.TokenUsage{Input: 900}}, epoch)
	limits.Quota = &Quota{Tokens: 1500, Period: v1alpha1.QuotaPerHour}
	l.SetLimits(limits, epoch)
	if s := l.Stats(epoch); s.QuotaUsed != 900 || !l.Check(600, epoch).OK || l.Check(601, epoch).OK {
		t.Errorf("used %d of 1500, want 900, with room for 600", s.QuotaUsed)
	}
	limits.Quota = &Quota{Tokens: 1500, Period: v1alpha1.QuotaPerDay}
	l.SetLimits(limits, epoch)
	if s := l.Stats(epoch); s.QuotaUsed != 0 {
		t.Errorf("used %d in the new period, want 0", s.QuotaUsed)
	}
}
