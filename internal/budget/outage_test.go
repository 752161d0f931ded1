// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"fmt"
	"testing"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// fail ends a call of a scan at a worker with a failure.
func (s *script) fail(id string, class v1alpha1.FailureClass, scan, worker string) {
	s.l.Settle(id, Result{Class: class, Scan: scan, Worker: worker}, s.now)
}

// wantFree checks that the next call may be sent.
func (s *script) wantFree(why string) {
	s.t.Helper()
	if reason, until, held := s.l.Held(s.now); held {
		s.t.Errorf("%s: held %q until %v", why, reason, until.Sub(epoch))
	}
}

// Three scans at two workers fail without a success: that is the provider, not the scans and not a worker.
func TestOutageHoldsAndProbes(t *testing.T) {
	t.Parallel()
	for _, class := range []v1alpha1.FailureClass{v1alpha1.FailureUnreachable, v1alpha1.FailureUnavailable, v1alpha1.FailureTimeout} {
		t.Run(string(class), func(t *testing.T) {
			t.Parallel()
			s := newScript(t, plain(100_000))
			late := s.reserve(false)
			for i := range 3 {
				s.wantFree("before the third failure")
				s.fail(s.reserve(false), class, fmt.Sprint("scan-", i), fmt.Sprint("worker-", i%2))
			}
			s.wantHeld(HoldUnreachable, time.Second)
			s.fail(late, class, "scan-9", "worker-0") // it was under way, and is no probe
			s.wantHeld(HoldUnreachable, time.Second)
			for _, seconds := range []int{2, 4, 8, 16, 30, 30} {
				_, until, _ := s.l.Held(s.now)
				s.now = until
				probe := s.reserve(true)
				s.wantHeld(HoldUnreachable, 0)
				s.fail(probe, class, "scan-1", "worker-0")
				s.wantHeld(HoldUnreachable, s.now.Sub(epoch)+time.Duration(seconds)*time.Second)
			}
			s.wait(30 * time.Second)
			s.settle(s.reserve(true), "")
			s.wantFree("after a probe worked")
		})
	}
}

func TestWhatIsNoOutage(t *testing.T) {
	t.Parallel()
	const failed = v1alpha1.FailureUnavailable
	tests := map[string]func(*script){
		"one scan fails again and again": func(s *script) {
			for i := range 9 {
				s.fail(s.reserve(false), failed, "scan-1", fmt.Sprint("worker-", i%3))
			}
		},
		"one worker of several fails": func(s *script) {
			for i := range 9 {
				s.fail(s.reserve(false), failed, fmt.Sprint("scan-", i), "worker-1")
			}
		},
		"calls work in between": func(s *script) {
			for i := range 9 {
				s.fail(s.reserve(false), failed, fmt.Sprint("scan-", i), fmt.Sprint("worker-", i%3))
				s.settle(s.reserve(false), "")
			}
		},
		"the provider refuses, and so it is there": func(s *script) {
			for i := range 9 {
				s.fail(s.reserve(false), failed, fmt.Sprint("scan-", i), fmt.Sprint("worker-", i%3))
				s.fail(s.reserve(false), v1alpha1.FailureInvalidRequest, fmt.Sprint("bad-", i), "worker-0")
			}
		},
		"keys are missing": func(s *script) {
			for i := range 9 {
				s.fail(s.reserve(false), v1alpha1.FailureKeyMissing, fmt.Sprint("scan-", i), fmt.Sprint("worker-", i%3))
			}
		},
	}
	for name, calls := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScript(t, plain(100_000))
			calls(s)
			s.wantFree(name)
		})
	}
}

func TestOneWorkerAloneIsEvidence(t *testing.T) {
	t.Parallel()
	s := newScript(t, plain(100_000))
	for i := range 3 {
		s.l.Settle(s.reserve(false), Result{
			Class: v1alpha1.FailureUnreachable, Scan: fmt.Sprint("scan-", i), Worker: "worker-1", OnlyWorker: true,
		}, s.now)
	}
	s.wantHeld(HoldUnreachable, time.Second)
}

// Calls that were sent before an outage may end well while it lasts: they neither end the hold nor hide the failures.
func TestALateSuccessEndsNoOutage(t *testing.T) {
	t.Parallel()
	s := newScript(t, plain(100_000))
	early := []string{s.reserve(false), s.reserve(false), s.reserve(false), s.reserve(false)}
	s.wait(time.Second)
	for i := range 3 {
		s.fail(s.reserve(false), v1alpha1.FailureTimeout, fmt.Sprint("scan-", i), fmt.Sprint("worker-", i))
		s.settle(early[i], "")
	}
	s.wantHeld(HoldUnreachable, 2*time.Second)
	s.settle(early[3], "")
	s.wantHeld(HoldUnreachable, 2*time.Second)
}

func TestUnsentCallsCostNothing(t *testing.T) {
	t.Parallel()
	for _, class := range []v1alpha1.FailureClass{v1alpha1.FailureUnreachable, v1alpha1.FailureKeyMissing} {
		l := New(Limits{TokensPerMinute: 1000, Quota: &Quota{Tokens: 1000, Period: v1alpha1.QuotaPerDay}}, epoch)
		now := epoch
		for i := range 20 {
			id := fmt.Sprint("call-", i)
			if v := l.Reserve(id, 900, now); !v.OK {
				t.Fatalf("%s: call %d: %+v", class, i, v)
			}
			now = now.Add(100 * time.Millisecond)
			l.Settle(id, Result{Class: class, Scan: "scan-1", Worker: "worker-1"}, now)
		}
		if s := l.Stats(now); s.Totals.Calls != 0 || s.QuotaUsed != 0 || s.Tokens.Available != 1000 {
			t.Errorf("%s: %d calls, %d of the quota used, %d tokens left", class, s.Totals.Calls, s.QuotaUsed, s.Tokens.Available)
		}
	}
}

// A provider asked for 24 hours, and would have worked after a minute.
func TestALongRetryAfterIsProbed(t *testing.T) {
	t.Parallel()
	s := newScript(t, plain(100_000))
	s.l.Settle(s.reserve(false), Result{Class: v1alpha1.FailureRateLimited, RetryAfter: 24 * time.Hour}, s.now)
	s.wantHeld(HoldRetryAfter, time.Minute)
	for _, minutes := range []int{2, 4, 5, 5} {
		_, until, _ := s.l.Held(s.now)
		s.now = until
		s.l.Settle(s.reserve(true), Result{Class: v1alpha1.FailureRateLimited, RetryAfter: 24 * time.Hour}, s.now)
		s.wantHeld(HoldRetryAfter, s.now.Sub(epoch)+time.Duration(minutes)*time.Minute)
	}
	s.wait(5 * time.Minute)
	s.settle(s.reserve(true), "")
	s.wantFree("after a probe worked")
}

// showing is an observation of a token limit.
func showing(limit int64) *v1alpha1.RateLimitObservation {
	return &v1alpha1.RateLimitObservation{LimitTokens: limit, RemainingTokens: limit}
}

// One response with a wrong limit, of a gateway or by a mistake, ended 29 of 30 waiting scans.
func TestOneWrongHeaderChangesNothing(t *testing.T) {
	t.Parallel()
	limits := Limits{TokensPerMinute: 100_000, FollowHeaders: true}
	for name, tc := range map[string]struct {
		result    Result
		responses int
		want      int64
	}{
		"one success":             {Result{Observation: showing(100)}, 1, 100_000},
		"two in a row":            {Result{Observation: showing(100)}, 2, 100_000},
		"three in a row are true": {Result{Observation: showing(100)}, 3, 100},
		"a 502 of a gateway":      {Result{Class: v1alpha1.FailureUnavailable, Observation: showing(100)}, 9, 100_000},
		"a page of a firewall":    {Result{Class: v1alpha1.FailureBlocked, Observation: showing(100)}, 9, 100_000},
		"a limit of 60 %":         {Result{Observation: showing(60_000)}, 1, 60_000},
		"a higher limit":          {Result{Observation: showing(200_000)}, 1, 200_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScript(t, limits)
			call := func(r Result) {
				id := s.reserve(false)
				s.wait(time.Second)
				s.l.Settle(id, r, s.now)
			}
			for range limitResponses {
				call(Result{Observation: showing(100_000)})
			}
			for range tc.responses {
				call(tc.result)
			}
			if got := s.l.Stats(s.now).TokensPerMinute; got != tc.want {
				t.Errorf("the limit in force is %d, want %d", got, tc.want)
			}
		})
	}
}

// A limit that denies every call would stand for ever: no call, no response, no correction.
func TestALimitThatDeniesEverythingIsForgotten(t *testing.T) {
	t.Parallel()
	s := newScript(t, Limits{TokensPerMinute: 100_000, FollowHeaders: true})
	id := s.reserve(false)
	s.wait(time.Second)
	s.l.Settle(id, Result{Observation: showing(100)}, s.now)
	v := s.l.Check(1000, s.now)
	if v.Dimension != TooLarge || !v.ByHeader || v.Limit != 100 {
		t.Fatalf("a call of 1000 tokens: %+v, want too large for a header's limit of 100", v)
	}
	if v := s.l.Check(200_000, s.now); v.Dimension != TooLarge || v.ByHeader {
		t.Errorf("a call of 200,000 tokens: %+v, want too large for the spec's limit", v)
	}
	s.l.Check(1000, s.now)
	for range 31 {
		s.wait(time.Second)
		s.l.Stats(s.now)
	}
	if v := s.l.Check(1000, s.now); v.Dimension == TooLarge {
		t.Errorf("after half a minute: %+v", v)
	}
}
