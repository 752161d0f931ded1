// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"math"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

func TestRateLimited(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		retryAfter    time.Duration
		said          *v1alpha1.RateLimitObservation
		wantDimension Dimension
		wantWait      time.Duration
		wantTokens    int64 // rejections counted
	}{
		"tokens, with Retry-After": {
			retryAfter: 7 * time.Second, said: said(60_000, 0, 500, 400, 12_000),
			wantDimension: Tokens, wantWait: 7 * time.Second, wantTokens: 1,
		},
		"requests, with Retry-After": {
			retryAfter: 7 * time.Second, said: said(60_000, 50_000, 500, 0, 60_000),
			wantDimension: Requests, wantWait: 7 * time.Second,
		},
		"no headers": {retryAfter: 7 * time.Second, wantDimension: Tokens, wantWait: 7 * time.Second, wantTokens: 1},
		"neither":    {wantDimension: Tokens, wantWait: time.Second, wantTokens: 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := New(Limits{TokensPerMinute: 60_000, RequestsPerMinute: 500, FollowHeaders: true}, epoch)
			l.Reserve("a", 1000, epoch)
			now := epoch.Add(50 * time.Millisecond)
			if test.said != nil {
				test.said.SentAt = metav1.NewMicroTime(epoch)
			}
			l.Settle("a", Result{Class: v1alpha1.FailureRateLimited, RetryAfter: test.retryAfter, Observation: test.said}, now)
			v := l.Check(1, now)
			if v.OK || v.Dimension != test.wantDimension || v.RetryAt.Sub(now) < test.wantWait || v.RetryAt.Sub(now) > test.wantWait+3*time.Second {
				t.Errorf("verdict %+v, want %v in %v", v, test.wantDimension, test.wantWait)
			}
			s := l.Stats(now)
			if s.Totals.RateLimitedTokens != test.wantTokens || s.Totals.RateLimitedRequests != 1-test.wantTokens || !s.Throttled {
				t.Errorf("counted %+v, throttled %v", s.Totals, s.Throttled)
			}
			if s.ResumeAt.Sub(now) != test.wantWait {
				t.Errorf("resumes at %v, want in %v", s.ResumeAt, test.wantWait)
			}
			if s := l.Stats(now.Add(time.Minute)); s.Throttled || !s.ResumeAt.IsZero() {
				t.Errorf("a minute later: throttled %v, resumes %v", s.Throttled, s.ResumeAt)
			}
			wantEmpty(t, l, now)
		})
	}
}

// TestBlindRejections checks that without headers and Retry-After the wait doubles, up to 16 s.
func TestBlindRejections(t *testing.T) {
	t.Parallel()
	s := newScript(t, plain(100_000))
	wantBlocked := func(want time.Duration) {
		t.Helper()
		if got := s.l.Stats(s.now).ResumeAt.Sub(s.now); got != want {
			t.Errorf("blocked for %v, want %v", got, want)
		}
	}
	for _, seconds := range []int{1, 2, 4, 8, 16, 16} {
		want := time.Duration(seconds) * time.Second
		s.settle(s.reserve(false), v1alpha1.FailureRateLimited)
		wantBlocked(want)
		s.wait(want + 20*time.Second)
	}
	s.settle(s.reserve(false), "")
	s.settle(s.reserve(false), v1alpha1.FailureRateLimited)
	wantBlocked(time.Second)
}

func TestSlowDown(t *testing.T) {
	t.Parallel()
	s := newScript(t, following(60_000, 80))
	rate := func() int32 { return s.l.Stats(s.now).RatePercent }
	calls := []string{s.reserve(false), s.reserve(false), s.reserve(false)}
	for _, id := range calls { // calls that fail together count once
		s.settle(id, v1alpha1.FailureSlowDown)
	}
	for _, step := range []struct {
		wait time.Duration
		want int32
	}{{0, 40}, {3 * time.Minute, 40}, {6 * time.Minute, 60}, {3 * time.Minute, 70}, {3 * time.Minute, 80}, {time.Hour, 80}} {
		s.wait(step.wait)
		if got := rate(); got != step.want {
			t.Errorf("at %v: %d %%, want %d", s.now.Sub(epoch), got, step.want)
		}
	}
	if s.l.Stats(s.now).Throttled {
		t.Error("still throttled when recovered")
	}
	for range 10 {
		s.settle(s.reserve(false), v1alpha1.FailureSlowDown)
		s.wait(20 * time.Second)
	}
	if got := rate(); got != 5 {
		t.Errorf("%d %% after ten in a row, want a sixteenth: 5", got)
	}
}

// TestSlowDownHalvesTheRefill checks the rate by what the bucket refills.
func TestSlowDownHalvesTheRefill(t *testing.T) {
	t.Parallel()
	l := New(plain(60_000), epoch)
	l.Reserve("a", 60_000, epoch)
	l.Settle("a", Result{Class: v1alpha1.FailureSlowDown}, epoch)
	if got := l.Stats(epoch.Add(time.Minute)).Tokens.Available; got != 30_000 {
		t.Errorf("%d refilled in a minute, want half of 60000", got)
	}
}

// TestSlowDownReturns checks that the factor neither jumps nor falls during the recovery.
func TestSlowDownReturns(t *testing.T) {
	t.Parallel()
	s := slowdown{}
	s.hit(0)
	last := s.factor(0)
	for at := ledgerTime(0); at <= slowRecovery; at += ledgerTime(time.Second) {
		got := s.factor(at)
		if got < last || got-last > 0.001 {
			t.Fatalf("at %v: %.4f after %.4f", time.Duration(at), got, last)
		}
		last = got
	}
	if math.Abs(last-1) > 1e-9 {
		t.Errorf("%.4f at the end, want 1", last)
	}
}
