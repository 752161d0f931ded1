// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

const limit2M = 2_000_000

// plain returns limits without headers, with full utilization.
func plain(tokens int64) Limits {
	return Limits{TokensPerMinute: tokens, RequestsPerMinute: 100_000, TargetUtilizationPercent: 100}
}

func following(tokens int64, percent int32) Limits {
	return Limits{TokensPerMinute: tokens, RequestsPerMinute: 100_000, TargetUtilizationPercent: percent, FollowHeaders: true}
}

// delayShapes draw dispatch delays within the default bound, including the worst cases.
func delayShapes(w *world) map[string]func() time.Duration {
	const most = DefaultDispatchDelay
	released := epoch
	return map[string]func() time.Duration{
		"none":      func() time.Duration { return 0 },
		"usual":     between(w.rng, 5*time.Millisecond, 100*time.Millisecond),
		"uniform":   between(w.rng, 0, most),
		"all late":  func() time.Duration { return most },
		"two-faced": func() time.Duration { return most * time.Duration(w.rng.IntN(2)) },
		"held back and let go at once": func() time.Duration {
			if !w.now.Before(released) {
				released = w.now.Add(most)
			}
			return released.Sub(w.now)
		},
		"early late, late early": func() time.Duration {
			return most - w.now.Sub(epoch)%most
		},
	}
}

// TestNeverRejected tests the theorem of the package comment against an independent provider: no delay within the
// bound, no answer time, no call size and no pattern of demand makes it reject a call.
func TestNeverRejected(t *testing.T) {
	t.Parallel()
	probe := newWorld(t, 0, plain(limit2M), limit2M)
	for name := range delayShapes(probe) {
		for _, headers := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, headers %v", name, headers), func(t *testing.T) {
				t.Parallel()
				for seed := range uint64(4) {
					limits := plain(limit2M)
					limits.FollowHeaders = true
					w := newWorld(t, seed, limits, limit2M)
					w.headers = headers
					w.delay = delayShapes(w)[name]
					if seed%2 == 1 {
						w.latency = between(w.rng, 0, 3*time.Second) // answers before the delay is over
					}
					if seed%3 == 1 {
						w.size = func() int64 { return 1 + w.rng.Int64N(limit2M/8) }
					}
					w.loss = func() bool { return w.rng.IntN(50) == 0 }
					w.cancel = func() bool { return w.rng.IntN(50) == 0 }
					for range 8 { // bursts after idle times, where a naive mirror overestimates
						w.stop = w.now.Add(time.Duration(w.rng.Int64N(int64(20 * time.Second))))
						w.run(time.Duration(w.rng.Int64N(int64(90 * time.Second))))
					}
					w.stop = w.now
					w.run(time.Minute)
					if len(w.rejected) > 0 {
						t.Fatalf("seed %d: %d of %d calls rejected, the first at %v", seed, len(w.rejected), w.calls, w.rejected[0].Sub(epoch))
					}
					wantEmpty(t, w.ledger, w.now)
				}
			})
		}
	}
}

// wantEmpty checks that nothing is reserved, in flight or pending.
func wantEmpty(t *testing.T, l *Ledger, now time.Time) {
	t.Helper()
	s := l.Stats(now)
	if s.ReservedTokens != 0 || s.InFlight != 0 || l.inflight.pending != (sums{}) {
		t.Errorf("leaked: reserved %d in %d calls, pending %v", s.ReservedTokens, s.InFlight, l.inflight.pending)
	}
}

// TestReferenceIsStrict checks that the provider of these tests does reject: a mirror that is charged at the
// reservation fails in the same worlds.
func TestReferenceIsStrict(t *testing.T) {
	t.Parallel()
	limits := plain(limit2M)
	limits.DispatchDelay = 1 // lands at once: the naive mirror
	w := newWorld(t, 1, limits, limit2M)
	w.delay = delayShapes(w)["held back and let go at once"]
	w.run(2 * time.Minute)
	if len(w.rejected) == 0 {
		t.Error("a mirror that ignores the dispatch delay was never rejected: the reference is not strict enough")
	}
}

func TestFullUtilization(t *testing.T) {
	t.Parallel()
	for _, limit := range []int64{500_000, limit2M, 4_000_000} {
		for _, percent := range []int32{50, 95, 100} {
			for _, headers := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d at %d %%, headers %v", limit, percent, headers), func(t *testing.T) {
					t.Parallel()
					w := newWorld(t, 3, following(limit, percent), limit)
					w.headers = headers
					w.run(10 * time.Minute)
					if len(w.rejected) > 0 {
						t.Errorf("%d rejected", len(w.rejected))
					}
					if got := w.share(limit, percent, time.Minute, 10*time.Minute); got < 0.99 || got > 1.01 {
						t.Errorf("used %.4f of limit × target, want 0.99 to 1.01", got)
					}
					most := float64(limit) * (1 + float64(percent)/100)
					if got := float64(w.sum(0, time.Minute)) / most; got < 0.97 || got > 1 {
						t.Errorf("used %.4f of a full bucket and a minute's refill in the first minute, want 0.97 to 1", got)
					}
				})
			}
		}
	}
}

// TestTargetHolds checks that headers which show unused tokens, because the target leaves them, do not raise the rate.
func TestTargetHolds(t *testing.T) {
	t.Parallel()
	const half = 30 * time.Minute
	w := newWorld(t, 4, following(limit2M, 60), limit2M)
	w.headers = true
	w.run(half)
	most := limit2M + int64(0.6*limit2M*half.Minutes())
	if got := w.sum(0, half); got > most || got < most*99/100 {
		t.Errorf("%d tokens in half an hour, want 99 to 100 %% of %d", got, most)
	}
}

func TestLargestCallFits(t *testing.T) {
	t.Parallel()
	for _, percent := range []int32{1, 50, 95, 100} {
		w := newWorld(t, 5, following(limit2M, percent), limit2M)
		w.headers = true
		w.size = func() int64 { return limit2M }
		w.run(2*time.Minute*100/time.Duration(percent) + time.Minute)
		if len(w.rejected) > 0 || len(w.admitted) < 2 {
			t.Errorf("target %d %%: %d admitted, %d rejected, want at least 2 and none", percent, len(w.admitted), len(w.rejected))
		}
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		limits Limits
		tokens int64
		want   Verdict
	}{
		"the whole limit fits": {limits: plain(1000), tokens: 1000, want: Verdict{OK: true}},
		"one token more never does": {
			limits: plain(1000), tokens: 1001,
			want: Verdict{Dimension: TooLarge, Need: 1001, Limit: 1000},
		},
		"the target does not shrink the limit": {limits: following(1000, 10), tokens: 1000, want: Verdict{OK: true}},
		"the quota counts too": {
			limits: Limits{TokensPerMinute: 1000, Quota: &Quota{Tokens: 500, Period: v1alpha1.QuotaPerDay}}, tokens: 501,
			want: Verdict{Dimension: TooLarge, Need: 501, Limit: 500, OwnQuota: true},
		},
		"negative tokens count as zero": {limits: plain(1000), tokens: -5, want: Verdict{OK: true}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := New(test.limits, epoch)
			if diff := cmp.Diff(test.want, l.Reserve("a", test.tokens, epoch)); diff != "" {
				t.Errorf("verdict (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReserveIsAllOrNothing(t *testing.T) {
	t.Parallel()
	limits := Limits{TokensPerMinute: 6000, RequestsPerMinute: 2}
	l := New(limits, epoch)
	want := func(id string, tokens int64, after time.Duration, want Verdict) {
		t.Helper()
		now := epoch.Add(after)
		if diff := cmp.Diff(want, l.Check(tokens, now)); diff != "" {
			t.Errorf("check %s (-want +got):\n%s", id, diff)
		}
		if diff := cmp.Diff(want, l.Reserve(id, tokens, now)); diff != "" {
			t.Errorf("reserve %s (-want +got):\n%s", id, diff)
		}
	}
	want("a", 4000, 0, Verdict{OK: true})
	if got := l.Reserve("a", 4000, epoch); !got.OK {
		t.Errorf("second Reserve of the same id: %+v, want OK", got)
	}
	want("b", 3000, 0, Verdict{Dimension: Tokens, RetryAt: epoch.Add(DefaultDispatchDelay + 10*time.Second)})
	want("c", 2000, 0, Verdict{OK: true})
	want("d", 0, 0, Verdict{Dimension: Requests, RetryAt: epoch.Add(DefaultDispatchDelay + 30*time.Second)})
	s := l.Stats(epoch)
	if s.ReservedTokens != 6000 || s.InFlight != 2 || s.Tokens.Available != 0 || s.Requests.Available != 0 {
		t.Errorf("a denied call reserved something: %+v", s)
	}
}

// TestRetryAt checks that nothing fits before a verdict's RetryAt, and that the call fits at that time.
func TestRetryAt(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		limits := Limits{
			TokensPerMinute: 1 + rng.Int64N(1_000_000), RequestsPerMinute: 1 + rng.Int64N(300),
			TargetUtilizationPercent: 1 + rng.Int32N(100),
		}
		l, now := New(limits, epoch), epoch
		for i := range 40 {
			tokens := rng.Int64N(limits.TokensPerMinute) + 1
			v := l.Reserve(strconv.Itoa(i), tokens, now)
			if v.OK {
				now = now.Add(time.Duration(rng.Int64N(int64(3 * time.Second))))
				continue
			}
			if before := v.RetryAt.Add(-1); before.After(now) {
				if l.Check(tokens, before).OK {
					t.Fatalf("seed %d: fits 1 ns before %+v", seed, v)
				}
			}
			now = v.RetryAt
			if again := l.Reserve(strconv.Itoa(i), tokens, now); !again.OK {
				t.Fatalf("seed %d: %+v, but at that time %+v", seed, v, again)
			}
		}
	}
}

func TestEndings(t *testing.T) {
	t.Parallel()
	const tokens = 600
	tests := map[string]struct {
		end func(l *Ledger, now time.Time)
		// after is when the call ends. wantAvailable is what is left of 1000 at that time.
		after         time.Duration
		wantAvailable int64
	}{
		"settled: stays charged": {
			end:   func(l *Ledger, now time.Time) { l.Settle("a", Result{}, now) },
			after: time.Second, wantAvailable: 400,
		},
		"settled late: has refilled since the dispatch delay": {
			end:   func(l *Ledger, now time.Time) { l.Settle("a", Result{}, now) },
			after: 14 * time.Second, wantAvailable: 600,
		},
		"failed: stays charged": {
			end: func(l *Ledger, now time.Time) {
				l.Settle("a", Result{Class: v1alpha1.FailureUnavailable}, now)
			},
			after: time.Second, wantAvailable: 400,
		},
		"lost: stays charged": {
			end:   func(l *Ledger, now time.Time) { l.Lost("a", now) },
			after: time.Second, wantAvailable: 400,
		},
		"canceled: refunded": {
			end:   func(l *Ledger, now time.Time) { l.Cancel("a", now) },
			after: time.Second, wantAvailable: 1000,
		},
		"settled twice": {
			end: func(l *Ledger, now time.Time) {
				l.Settle("a", Result{}, now)
				l.Settle("a", Result{Class: v1alpha1.FailureQuotaExhausted}, now)
			},
			after: time.Second, wantAvailable: 400,
		},
		"settled after lost, canceled after both": {
			end: func(l *Ledger, now time.Time) {
				l.Lost("a", now)
				l.Settle("a", Result{Usage: v1alpha1.TokenUsage{Input: 7}}, now)
				l.Cancel("a", now)
				l.Lost("a", now)
			},
			after: time.Second, wantAvailable: 400,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := New(plain(1000), epoch)
			l.Reserve("a", tokens, epoch)
			now := epoch.Add(test.after)
			test.end(l, now)
			s := l.Stats(now)
			if s.Tokens.Available != test.wantAvailable {
				t.Errorf("available %d, want %d", s.Tokens.Available, test.wantAvailable)
			}
			if s.Hold != "" || s.Totals.InputTokens != 0 {
				t.Errorf("a second ending had an effect: %+v", s)
			}
			wantEmpty(t, l, now.Add(DefaultDispatchDelay))
		})
	}
}

func TestUnknownCallsAreHarmless(t *testing.T) {
	t.Parallel()
	l := New(plain(1000), epoch)
	before := l.Stats(epoch)
	if l.Cancel("x", epoch) || l.Lost("x", epoch) || l.Settle("x", Result{Class: v1alpha1.FailureSlowDown}, epoch).Known {
		t.Error("an id without a reservation was known")
	}
	if diff := cmp.Diff(before, l.Stats(epoch)); diff != "" {
		t.Errorf("ending an unknown call changed the ledger (-want +got):\n%s", diff)
	}
}

// TestLateCancel cancels calls after the dispatch delay: only the safe part is refunded.
func TestLateCancel(t *testing.T) {
	t.Parallel()
	l := New(plain(60_000), epoch)
	for i := range 30 {
		l.Reserve(fmt.Sprint("old-", i), 2000, epoch)
	}
	now := epoch.Add(5 * time.Second)
	if !l.Reserve("late", 2000, now).OK {
		t.Fatal("no room after five seconds")
	}
	now = now.Add(3 * time.Second)
	before := l.Stats(now).Tokens.Available
	l.Cancel("late", now)
	if got := l.Stats(now).Tokens.Available - before; got != 2000 {
		t.Errorf("refunded %d of 2000 after the call had landed in a bucket far from full", got)
	}
	l.Cancel("old-0", now)
	if got := l.Stats(now).Tokens.Available - before; got != 2000 {
		t.Errorf("refunded %d for a call that found the bucket full: it would not have refilled without the call", got-2000)
	}
}

// TestTimeGoesBack checks that a time before the latest one neither refills nor loses anything.
func TestTimeGoesBack(t *testing.T) {
	t.Parallel()
	l := New(plain(1000), epoch)
	l.Reserve("a", 1000, epoch.Add(time.Minute))
	l.Settle("a", Result{}, epoch)
	if got := l.Stats(epoch.Add(-time.Hour)).Tokens.Available; got != 0 {
		t.Errorf("%d available after the clock went back, want 0", got)
	}
	if got := l.Stats(epoch.Add(90 * time.Second)).Tokens.Available; got != 500 {
		t.Errorf("%d available half a minute after the latest time, want 500", got)
	}
}
