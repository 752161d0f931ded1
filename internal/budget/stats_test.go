// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

func TestStats(t *testing.T) {
	t.Parallel()
	l := New(Limits{TokensPerMinute: 60_000, RequestsPerMinute: 600, TargetUtilizationPercent: 50}, epoch)
	l.Reserve("a", 1000, epoch)
	l.Reserve("b", 2000, epoch)
	l.Reserve("c", 3000, epoch.Add(30*time.Second))
	l.Settle("a", Result{Usage: v1alpha1.TokenUsage{Input: 500, CachedInput: 100, Output: 50}}, epoch.Add(30*time.Second))
	l.Cancel("c", epoch.Add(31*time.Second))
	l.Lost("b", epoch.Add(31*time.Second))
	l.Reserve("d", 4000, epoch.Add(31*time.Second))
	want := Stats{
		TokensPerMinute: 60_000, RequestsPerMinute: 600, RatePercent: 50,
		TokensLastMinute: 7000, RequestsLastMinute: 3, ReservedTokens: 4000, InFlight: 1,
		Totals:        Totals{Calls: 1, Lost: 1, InputTokens: 500, CachedInputTokens: 100, OutputTokens: 50},
		Tokens:        Level{Limit: 60_000, Window: time.Minute, Available: 56_000},
		Requests:      Level{Limit: 600, Window: time.Minute, Available: 599},
		DispatchDelay: DefaultDispatchDelay,
	}
	if diff := cmp.Diff(want, l.Stats(epoch.Add(31*time.Second)), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s := l.Stats(epoch.Add(60 * time.Second)); s.TokensLastMinute != 4000 || s.RequestsLastMinute != 1 {
		t.Errorf("%d tokens in %d calls in the last minute, want 4000 in 1", s.TokensLastMinute, s.RequestsLastMinute)
	}
}

func TestPerSecond(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		level   Level
		percent int32
		want    float64
	}{
		"all of it":                     {Level{Limit: 60_000, Window: time.Minute}, 100, 1000},
		"a part":                        {Level{Limit: 60_000, Window: time.Minute}, 95, 950},
		"a day's":                       {Level{Limit: 86_400, Window: day}, 50, 0.5},
		"others use less than is left":  {Level{Limit: 60_000, Window: time.Minute, OtherUsagePerMinute: 3000}, 90, 900},
		"others use more than that":     {Level{Limit: 60_000, Window: time.Minute, OtherUsagePerMinute: 18_000}, 95, 700},
		"others use more than there is": {Level{Limit: 60_000, Window: time.Minute, OtherUsagePerMinute: 90_000}, 95, 0},
		"a limit that is not in use":    {Level{}, 95, 0},
	}
	for name, test := range tests {
		if got := test.level.PerSecond(test.percent); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestThrottlesAreListed(t *testing.T) {
	t.Parallel()
	s := newScript(t, plain(100_000))
	for _, class := range []v1alpha1.FailureClass{v1alpha1.FailureSlowDown, v1alpha1.FailureRateLimited, v1alpha1.FailureQuotaExhausted} {
		s.settle(s.reserve(false), class)
		s.wait(time.Minute)
	}
	want := []v1alpha1.ThrottleCount{
		{Kind: v1alpha1.FailureRateLimited, Count: 1},
		{Kind: v1alpha1.FailureQuotaExhausted, Count: 1},
		{Kind: v1alpha1.FailureSlowDown, Count: 1},
	}
	if diff := cmp.Diff(want, s.l.Stats(s.now).Throttles); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestBlockedSeconds checks that time counts while a call is denied, until it would have fitted.
func TestBlockedSeconds(t *testing.T) {
	t.Parallel()
	l := New(Limits{TokensPerMinute: 6000, RequestsPerMinute: 100}, epoch)
	at := func(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }
	l.Reserve("a", 6000, at(0))
	l.Settle("a", Result{}, at(0))
	l.Reserve("b", 1000, at(0)) // fits at 10 s
	l.Reserve("b", 1000, at(4))
	if got := l.Stats(at(4)).BlockedSeconds[Tokens]; got != 4 {
		t.Errorf("blocked for %v s so far, want 4", got)
	}
	// No retry follows: time after the call would have fitted does not count.
	if got := l.Stats(at(50)).BlockedSeconds[Tokens]; got != 10 {
		t.Errorf("blocked for %v s, want 10", got)
	}
	l.Reserve("b", 1000, at(50))
	l.Reserve("c", 7000, at(51)) // too large calls do not count as blocked
	s := l.Stats(at(99))
	want := [dimensions]float64{}
	want[Tokens] = 10
	if diff := cmp.Diff(want, s.BlockedSeconds); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDimensionLabels(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for d := range Dimension(dimensions) {
		if label := d.String(); label == "unknown" || seen[label] {
			t.Errorf("dimension %d is called %q", d, label)
		} else {
			seen[label] = true
		}
	}
	if got := Dimension(dimensions).String(); got != "unknown" {
		t.Errorf("no dimension is called %q", got)
	}
}
