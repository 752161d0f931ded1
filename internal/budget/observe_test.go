// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// otherClient uses a part of a limit in calls of random size at random times.
func otherClient(w *world, limit int64, part float64) func() (int64, time.Duration) {
	return func() (int64, time.Duration) {
		tokens := 500 + w.rng.Int64N(3000)
		mean := float64(tokens) / (part * float64(limit) / 60)
		return tokens, time.Duration(w.rng.ExpFloat64() * mean * float64(time.Second))
	}
}

// TestOtherClient has another client use 30 % of the limit, visible in the headers only.
func TestOtherClient(t *testing.T) {
	t.Parallel()
	for _, limit := range []int64{500_000, limit2M, 4_000_000} {
		for _, percent := range []int32{95, 100} {
			t.Run(fmt.Sprintf("%d at %d %%", limit, percent), func(t *testing.T) {
				t.Parallel()
				var calls, rejected int64
				var share float64
				const seeds = 3
				for seed := range uint64(seeds) {
					w := newWorld(t, seed, following(limit, percent), limit)
					w.headers = true
					w.otherCalls = otherClient(w, limit, 0.3)
					w.run(10 * time.Minute)
					calls += w.calls
					rejected += int64(len(w.rejected))
					share += float64(w.sum(time.Minute, 10*time.Minute)+w.takenAfterFirstMinute()) / (float64(limit) * 9) / seeds
				}
				if got := float64(rejected) / float64(calls); got > 0.005 {
					t.Errorf("%.2f %% of %d calls rejected, want at most 0.5 %%", 100*got, calls)
				}
				if share < 0.97 {
					t.Errorf("%.3f of the limit used by both, want 0.97", share)
				}
			})
		}
	}
}

// TestClocksAreOff checks that workers with wrong clocks, or without a time of sending, cause neither rejections nor
// lower throughput.
func TestClocksAreOff(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		skew   time.Duration
		blind  bool
		others float64
	}{
		{blind: true},
		{skew: 300 * time.Millisecond},
		{skew: -300 * time.Millisecond},
		{skew: 3 * time.Second},
		{skew: -3 * time.Second},
		{blind: true, others: 0.3},
		{skew: 300 * time.Millisecond, others: 0.3},
		{skew: -300 * time.Millisecond, others: 0.3},
	} {
		t.Run(fmt.Sprintf("%+v", test), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 16, following(limit2M, 100), limit2M)
			w.headers, w.skew, w.blind = true, test.skew, test.blind
			if test.others > 0 {
				w.otherCalls = otherClient(w, limit2M, test.others)
			}
			w.run(10 * time.Minute)
			most := 0.005 * float64(w.calls)
			if test.others == 0 {
				most = 0
			}
			if float64(len(w.rejected)) > most {
				t.Errorf("%d of %d calls rejected, want at most %.0f", len(w.rejected), w.calls, most)
			}
			used := float64(w.sum(time.Minute, 10*time.Minute)+w.takenAfterFirstMinute()) / (limit2M * 9)
			if used < 0.97 {
				t.Errorf("%.3f of the limit used, want 0.97", used)
			}
		})
	}
}

// TestOtherClientStartsAndStops checks that a client that starts during full load is noticed, and that the estimate
// decays when it stops.
func TestOtherClientStartsAndStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 11, following(limit2M, 100), limit2M)
	w.headers = true
	w.run(3 * time.Minute)
	w.otherCalls = otherClient(w, limit2M, 0.3)
	w.run(5 * time.Minute)
	if got := w.ledger.Stats(w.now).Tokens.OtherUsagePerMinute; got < limit2M/10 {
		t.Errorf("estimated %d tokens/min of other usage, want about %d", got, limit2M*3/10)
	}
	w.otherCalls = nil
	w.run(7 * time.Minute)
	if got := w.share(limit2M, 100, 10*time.Minute, 15*time.Minute); got < 0.99 {
		t.Errorf("used %.3f of the limit after the other client had stopped, want 0.99", got)
	}
	if got := float64(len(w.rejected)) / float64(w.calls); got > 0.005 {
		t.Errorf("%d of %d calls rejected, want at most 0.5 %%", len(w.rejected), w.calls)
	}
}

// TestHeadersMissing has another client on the key and no headers: only rejections show it.
func TestHeadersMissing(t *testing.T) {
	t.Parallel()
	for _, retryAfter := range []bool{true, false} {
		w := newWorld(t, 12, following(limit2M, 100), limit2M)
		w.retryAfter = retryAfter
		w.otherCalls = otherClient(w, limit2M, 0.3)
		w.run(10 * time.Minute)
		if got := float64(len(w.rejected)) / float64(w.calls); got > 0.01 {
			t.Errorf("Retry-After %v: %d of %d calls rejected, want at most 1 %%", retryAfter, len(w.rejected), w.calls)
		}
		if got := float64(w.sum(time.Minute, 10*time.Minute)) / (limit2M * 9); got < 0.6 {
			t.Errorf("Retry-After %v: used %.3f of the limit, want 0.6 of the available 0.7", retryAfter, got)
		}
	}
}

// TestWrongEstimates has the provider charge other amounts than the reserved ones, visible in the headers only.
func TestWrongEstimates(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		ratio        float64
		wantRejected float64
	}{{ratio: 0.8}, {ratio: 0.95}, {ratio: 1.05, wantRejected: 0.01}, {ratio: 1.2, wantRejected: 0.03}} {
		w := newWorld(t, 13, following(limit2M, 100), limit2M)
		w.headers = true
		w.charge = func(reserved int64) int64 { return int64(float64(reserved) * test.ratio) }
		w.run(10 * time.Minute)
		if got := float64(len(w.rejected)) / float64(w.calls); got > test.wantRejected {
			t.Errorf("ratio %.2f: %d of %d calls rejected, want at most %.3f", test.ratio, len(w.rejected), w.calls, test.wantRejected)
		}
		// The first burst is reserved with the wrong estimates; after that they are corrected.
		if got := w.rejectedIn(2*time.Minute, 10*time.Minute); float64(got) > 0.005*float64(w.calls) {
			t.Errorf("ratio %.2f: %d calls rejected after the second minute", test.ratio, got)
		}
		if got := w.share(limit2M, 100, time.Minute, 10*time.Minute); got < 0.97 {
			t.Errorf("ratio %.2f: used %.3f of the limit, want 0.97", test.ratio, got)
		}
	}
}

// TestLimitChanges has the provider change the limit during full load, both ways.
func TestLimitChanges(t *testing.T) {
	t.Parallel()
	for _, to := range []int64{limit2M / 2, limit2M * 2} {
		w := newWorld(t, 14, following(limit2M, 95), limit2M)
		w.headers = true
		w.run(3 * time.Minute)
		w.server.resize(to, w.now)
		w.run(7 * time.Minute)
		if got := w.ledger.Stats(w.now).TokensPerMinute; got != to {
			t.Errorf("limit %d in force, want %d", got, to)
		}
		if got := w.share(to, 95, 4*time.Minute, 10*time.Minute); got < 0.97 {
			t.Errorf("used %.3f of the new limit %d × target, want 0.97", got, to)
		}
		if got := float64(len(w.rejected)) / float64(w.calls); got > 0.005 {
			t.Errorf("limit %d: %d of %d calls rejected, want at most 0.5 %%", to, len(w.rejected), w.calls)
		}
	}
}

// TestWrongStartLimit starts with a limit in the spec above the provider's.
func TestWrongStartLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 15, following(2*limit2M, 95), limit2M)
	w.headers = true
	w.run(10 * time.Minute)
	if got := w.share(limit2M, 95, time.Minute, 10*time.Minute); got < 0.97 {
		t.Errorf("used %.3f of the real limit, want 0.97", got)
	}
	if got := w.rejectedIn(time.Minute, 10*time.Minute); got > 0 {
		t.Errorf("%d calls rejected after the first minute", got)
	}
}

// said builds a header observation.
func said(limit, remaining, requests, remainingRequests, resetMillis int64) *v1alpha1.RateLimitObservation {
	return &v1alpha1.RateLimitObservation{
		LimitTokens: limit, RemainingTokens: remaining,
		LimitRequests: requests, RemainingRequests: remainingRequests, ResetRequestsMilliseconds: resetMillis,
	}
}

// TestPublishedHeaders uses headers of real answers.
func TestPublishedHeaders(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		limits      Limits
		tokens      int64
		said        *v1alpha1.RateLimitObservation
		wantCharged int64
		wantTokens  int64 // limit in force
		wantMinute  int64 // request limit per minute in force
		wantPerDay  int64
	}{
		"gpt-4, max_tokens 512, a limit per day": {
			limits: following(10_000, 100), tokens: 600, said: said(10_000, 9481, 10_000, 9999, 8640),
			wantCharged: 519, wantTokens: 10_000, wantMinute: 100_000, wantPerDay: 10_000,
		},
		"gpt-4.1, no max_tokens, seven tokens": {
			limits: following(30_000, 100), tokens: 7, said: said(30_000, 29_993, 500, 499, 120),
			wantCharged: 7, wantTokens: 30_000, wantMinute: 500,
		},
		"the documentation's sample": {
			limits: following(150_000, 100), tokens: 16, said: said(150_000, 149_984, 60, 59, 1000),
			wantCharged: 16, wantTokens: 150_000, wantMinute: 60,
		},
		"another limit than the spec's": {
			limits: following(90_000, 100), tokens: 8, said: said(30_000, 29_992, 500, 499, 120),
			wantCharged: 8, wantTokens: 30_000, wantMinute: 500,
		},
		"nothing used, so the window is unknown, and no meter has the limit": {
			limits: following(30_000, 100), tokens: 8, said: said(30_000, 29_992, 77, 77, 0),
			wantCharged: 8, wantTokens: 30_000, wantMinute: 100_000,
		},
		"headers not followed": {
			limits: plain(90_000), tokens: 8, said: said(30_000, 29_992, 500, 499, 120),
			wantTokens: 90_000, wantMinute: 100_000,
		},
		"no headers": {
			limits: following(90_000, 100), tokens: 8, said: nil, wantTokens: 90_000, wantMinute: 100_000,
		},
		"out-of-range numbers": {
			limits: following(90_000, 100), tokens: 8,
			said:        said(math.MaxInt64, math.MinInt64, -5, math.MaxInt64, math.MaxInt64),
			wantCharged: maxLimit, wantTokens: maxLimit, wantMinute: 100_000,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := New(test.limits, epoch)
			l.Reserve("a", test.tokens, epoch)
			if test.said != nil {
				test.said.SentAt = metav1.NewMicroTime(epoch.Add(20 * time.Millisecond))
			}
			now := epoch.Add(5 * time.Second)
			got := l.Settle("a", Result{Observation: test.said}, now)
			want := Settlement{Known: true, Reserved: test.tokens, Charged: test.wantCharged}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("settlement (-want +got):\n%s", diff)
			}
			s := l.Stats(now)
			if s.TokensPerMinute != test.wantTokens || s.RequestsPerMinute != test.wantMinute {
				t.Errorf("limits %d and %d, want %d and %d", s.TokensPerMinute, s.RequestsPerMinute, test.wantTokens, test.wantMinute)
			}
			var perDay int64
			if s.RequestsPerDay != nil {
				perDay = s.RequestsPerDay.Limit
			}
			if perDay != test.wantPerDay {
				t.Errorf("limit per day %d, want %d", perDay, test.wantPerDay)
			}
		})
	}
}

// TestChargeNotProved checks that neither two calls together nor one call into a bucket that was not full prove a charge.
func TestChargeNotProved(t *testing.T) {
	t.Parallel()
	l := New(following(30_000, 100), epoch)
	l.Reserve("a", 100, epoch)
	l.Reserve("b", 100, epoch)
	now := epoch.Add(5 * time.Second)
	for _, id := range []string{"a", "b"} {
		o := said(30_000, 29_800, 500, 498, 240)
		o.SentAt = metav1.NewMicroTime(epoch)
		if got := l.Settle(id, Result{Observation: o}, now).Charged; got != 0 {
			t.Errorf("%s: a charge of %d was taken as proved", id, got)
		}
	}
}

// TestDailyLimit checks that a limit per day is kept beside the one per minute, and blocks when it is exhausted.
func TestDailyLimit(t *testing.T) {
	t.Parallel()
	l := New(following(30_000, 100), epoch)
	l.Reserve("a", 10, epoch)
	now := epoch.Add(time.Second)
	l.Settle("a", Result{Observation: said(30_000, 29_990, 1000, 0, 86_400_000)}, now)
	v := l.Check(10, now)
	if v.OK || v.Dimension != Requests || v.RetryAt.Sub(now) < 80*time.Second {
		t.Errorf("after the last request of the day: %+v, want Requests in about 86 s", v)
	}
}

// TestProjectLimit checks that the lower of the two token limits counts.
func TestProjectLimit(t *testing.T) {
	t.Parallel()
	l := New(following(30_000, 100), epoch)
	l.Reserve("a", 1000, epoch)
	now := epoch.Add(5 * time.Second)
	o := said(30_000, 29_000, 500, 499, 120)
	o.SentAt = metav1.NewMicroTime(epoch)
	o.ProjectLimitTokens, o.ProjectRemainingTokens = 6000, 2000
	l.Settle("a", Result{Observation: o}, now)
	s := l.Stats(now)
	if s.TokensPerMinute != 6000 || s.Project == nil || s.Project.Available > 2600 {
		t.Errorf("limit %d, project %+v, want 6000 and at most 2600 available", s.TokensPerMinute, s.Project)
	}
	if v := l.Check(3000, now); v.OK || v.Dimension != Tokens {
		t.Errorf("more than the project has left: %+v", v)
	}
	if v := l.Check(6001, now); v.Dimension != TooLarge || v.Limit != 6000 {
		t.Errorf("more than the project's limit: %+v", v)
	}
}

// TestLateHeadersChangeNoLimit checks that the headers of a slow call do not restore the limit of its admission.
func TestLateHeadersChangeNoLimit(t *testing.T) {
	t.Parallel()
	l := New(following(60_000, 100), epoch)
	l.Reserve("slow", 10, epoch)
	l.Reserve("fast", 10, epoch.Add(10*time.Second))
	at := func(o *v1alpha1.RateLimitObservation, sent time.Duration) Result {
		o.SentAt = metav1.NewMicroTime(epoch.Add(sent))
		return Result{Observation: o}
	}
	l.Settle("fast", at(said(30_000, 29_000, 500, 498, 240), 10*time.Second), epoch.Add(15*time.Second))
	l.Settle("slow", at(said(60_000, 59_990, 1000, 999, 60), 0), epoch.Add(20*time.Second))
	if s := l.Stats(epoch.Add(20 * time.Second)); s.TokensPerMinute != 30_000 || s.RequestsPerMinute != 500 {
		t.Errorf("limits %d and %d in force, want 30000 and 500", s.TokensPerMinute, s.RequestsPerMinute)
	}
}

// TestLowerAtOnceRaiseSlowly checks that one observation lowers the bucket, and that later ones raise it by a quarter
// of the refill rate on top of the refill.
func TestLowerAtOnceRaiseSlowly(t *testing.T) {
	t.Parallel()
	l := New(following(60_000, 100), epoch)
	settle := func(id string, after time.Duration, remaining int64) int64 {
		sent := epoch.Add(after)
		if !l.Reserve(id, 10, sent).OK {
			t.Fatalf("no room at %v", after)
		}
		o := said(60_000, remaining, 500, 499, 120)
		o.SentAt = metav1.NewMicroTime(sent)
		l.Settle(id, Result{Observation: o}, sent.Add(300*time.Millisecond))
		return l.Stats(sent.Add(300 * time.Millisecond)).Tokens.Available
	}
	if got := settle("a", 10*time.Second, 5000); got > 5400 {
		t.Errorf("%d available after headers showed 5000, want that and 0.3 s of refill at most", got)
	}
	low := settle("b", 12*time.Second, 55_000)
	if low > 8000 {
		t.Errorf("%d available right after headers showed 55000, want a slow raise", low)
	}
	got := l.Stats(epoch.Add(16300 * time.Millisecond)).Tokens.Available
	// The safety margin shrinks a little meanwhile.
	if gained := got - low; gained < 4900 || gained > 5200 {
		t.Errorf("gained %d in four seconds, want the refill of 4000 and a quarter more", gained)
	}
}
