// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// script drives one ledger through time.
type script struct {
	t   *testing.T
	l   *Ledger
	now time.Time
	n   int
}

func newScript(t *testing.T, limits Limits) *script {
	t.Helper()
	return &script{t: t, l: New(limits, epoch), now: epoch}
}

func (s *script) wait(d time.Duration) { s.now = s.now.Add(d) }

// reserve takes 10 tokens and returns the id.
func (s *script) reserve(wantProbe bool) string {
	s.t.Helper()
	s.n++
	id := fmt.Sprint("call-", s.n)
	if v := s.l.Reserve(id, 10, s.now); !v.OK || v.Probe != wantProbe {
		s.t.Fatalf("at %v: %+v, want OK with probe %v", s.now.Sub(epoch), v, wantProbe)
	}
	return id
}

func (s *script) settle(id string, class v1alpha1.FailureClass) {
	s.l.Settle(id, Result{Class: class}, s.now)
}

// wantHeld checks that nothing may be sent until a time; zero: until an event.
func (s *script) wantHeld(reason HoldReason, until time.Duration) {
	s.t.Helper()
	var want time.Time
	if until != 0 {
		want = epoch.Add(until)
	}
	gotReason, gotUntil, held := s.l.Held(s.now)
	if !held || gotReason != reason || !gotUntil.Equal(want) {
		s.t.Errorf("at %v: held %v %q until %v, want %q until %v", s.now.Sub(epoch), held, gotReason, gotUntil, reason, want)
	}
	if diff := cmp.Diff(Verdict{Dimension: Held, RetryAt: want}, s.l.Reserve("refused", 10, s.now)); diff != "" {
		s.t.Errorf("at %v (-want +got):\n%s", s.now.Sub(epoch), diff)
	}
}

func TestQuotaHold(t *testing.T) {
	t.Parallel()
	s := newScript(t, plain(100_000))
	early := s.reserve(false)
	failing := []string{s.reserve(false), s.reserve(false), s.reserve(false)}
	s.wait(5 * time.Second)
	for _, id := range failing { // calls that fail together do not lengthen the interval
		s.settle(id, v1alpha1.FailureQuotaExhausted)
	}
	s.wantHeld(HoldQuotaExhausted, 35*time.Second)
	s.settle(early, "") // admitted before the quota ran out: inconclusive
	s.wantHeld(HoldQuotaExhausted, 35*time.Second)

	for _, minutes := range []int{1, 2, 4, 5, 5} { // 30 s doubled, at most five minutes
		_, until, _ := s.l.Held(s.now)
		s.now = until
		probe := s.reserve(true)
		s.wantHeld(HoldQuotaExhausted, 0)
		s.wait(time.Second)
		s.settle(probe, v1alpha1.FailureQuotaExhausted)
		s.wantHeld(HoldQuotaExhausted, s.now.Sub(epoch)+time.Duration(minutes)*time.Minute)
	}
	s.wait(5 * time.Minute)
	probe := s.reserve(true)
	s.l.Cancel(probe, s.now) // never sent: the next one may follow at once
	probe = s.reserve(true)
	s.wait(time.Second)
	s.l.Lost(probe, s.now) // inconclusive: the same interval again
	s.wantHeld(HoldQuotaExhausted, s.now.Sub(epoch)+5*time.Minute)
	s.wait(5 * time.Minute)
	probe = s.reserve(true)
	s.settle(probe, v1alpha1.FailureUnavailable) // inconclusive too
	s.wantHeld(HoldQuotaExhausted, s.now.Sub(epoch)+5*time.Minute)
	s.wait(5 * time.Minute)
	s.settle(s.reserve(true), "")
	if _, _, held := s.l.Held(s.now); held {
		t.Error("still held after a successful probe")
	}
	s.reserve(false)
	if got := s.l.Stats(s.now).Totals.QuotaExhausted; got != 8 {
		t.Errorf("%d rejections counted, want 8", got)
	}
}

func TestQuotaHoldHonoursRetryAfter(t *testing.T) {
	t.Parallel()
	s := newScript(t, plain(100_000))
	s.l.Settle(s.reserve(false), Result{Class: v1alpha1.FailureQuotaExhausted, RetryAfter: 2 * time.Minute}, s.now)
	s.wantHeld(HoldQuotaExhausted, 2*time.Minute)
}

func TestUnauthorizedHold(t *testing.T) {
	t.Parallel()
	s := newScript(t, plain(100_000))
	s.l.SetKeyVersion("1", s.now)
	first, second := s.reserve(false), s.reserve(false)
	s.wait(time.Second)
	s.settle(first, v1alpha1.FailureUnauthorized)
	s.wantHeld(HoldUnauthorized, 31*time.Second)
	for _, minutes := range []int{1, 2, 4, 5, 5} { // 30 s doubled, at most five minutes
		_, until, _ := s.l.Held(s.now)
		s.now = until
		s.l.SetKeyVersion("1", s.now) // no change
		s.settle(s.reserve(true), v1alpha1.FailureUnauthorized)
		s.wantHeld(HoldUnauthorized, s.now.Sub(epoch)+time.Duration(minutes)*time.Minute)
	}

	s.l.SetKeyVersion("2", s.now)
	s.settle(second, v1alpha1.FailureUnauthorized) // it carried the old key
	third := s.reserve(false)
	s.wait(time.Second)
	s.settle(third, v1alpha1.FailureUnauthorized) // maybe with the old key: the new one is still being distributed
	s.wantHeld(HoldUnauthorized, s.now.Sub(epoch)+10*time.Second)
	s.wait(10 * time.Second)
	s.settle(s.reserve(true), "")
	s.reserve(false)
}

func TestUnauthorizedLongAfterTheChange(t *testing.T) {
	t.Parallel()
	s := newScript(t, plain(100_000))
	s.l.SetKeyVersion("1", s.now)
	s.l.SetKeyVersion("2", s.now)
	s.wait(keySpread.duration() + time.Second)
	s.settle(s.reserve(false), v1alpha1.FailureUnauthorized)
	s.wantHeld(HoldUnauthorized, s.now.Sub(epoch)+30*time.Second)
}

// TestLateKey sets the first key after the ledger was created. The scheduler sees it at once and the workers later, so
// the first calls may be sent without a key.
func TestLateKey(t *testing.T) {
	t.Parallel()
	s := newScript(t, plain(100_000))
	s.l.SetKeyVersion("", s.now)
	s.wait(time.Minute)
	s.l.SetKeyVersion("1", s.now)
	s.settle(s.reserve(false), v1alpha1.FailureUnauthorized)
	s.wantHeld(HoldUnauthorized, s.now.Sub(epoch)+10*time.Second)
	s.wait(10 * time.Second)
	s.settle(s.reserve(true), v1alpha1.FailureUnauthorized)
	s.wantHeld(HoldUnauthorized, s.now.Sub(epoch)+10*time.Second)
	s.wait(10 * time.Second)
	s.settle(s.reserve(true), "")
	s.reserve(false)
}

func (i ledgerTime) duration() time.Duration { return time.Duration(i) }

// TestBothHolds checks that a probe with a rejected key does not end the hold for the quota, and that a new key allows
// a probe at once.
func TestBothHolds(t *testing.T) {
	t.Parallel()
	s := newScript(t, plain(100_000))
	s.l.SetKeyVersion("1", s.now)
	a, b := s.reserve(false), s.reserve(false)
	s.wait(time.Second)
	s.settle(a, v1alpha1.FailureQuotaExhausted)
	s.settle(b, v1alpha1.FailureUnauthorized)
	s.wantHeld(HoldUnauthorized, 31*time.Second)
	s.l.SetKeyVersion("2", s.now)
	probe := s.reserve(true)
	s.wait(time.Second)
	s.settle(probe, v1alpha1.FailureQuotaExhausted)
	s.wantHeld(HoldQuotaExhausted, 62*time.Second)
}
