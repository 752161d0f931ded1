// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"encoding/json"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// reservations lists what a new leader finds: everything running, and what was reserved since the snapshot.
// If finished objects are deleted at once, it finds the running ones only.
func (w *world) reservations(since time.Time, deleted bool) []Reservation {
	var list []Reservation
	for _, r := range w.objects {
		if !r.Done || !deleted && !r.At.Before(since) {
			list = append(list, *r)
		}
	}
	return list
}

// TestFailover kills the leader under full load; another one takes over from the objects after the Lease has expired.
func TestFailover(t *testing.T) {
	t.Parallel()
	for _, gap := range []time.Duration{0, 2 * time.Second, 16 * time.Second} {
		for _, deleted := range []bool{false, true} {
			for _, headers := range []bool{false, true} {
				t.Run(fmt.Sprintf("after %v, deleted %v, headers %v", gap, deleted, headers), func(t *testing.T) {
					t.Parallel()
					for seed := range 5 { // the last one fails over at the very start
						failover(t, seed, gap, deleted, headers)
					}
				})
			}
		}
	}
}

func failover(t *testing.T, seed int, gap time.Duration, deleted, headers bool) {
	t.Helper()
	limits := following(limit2M, 100)
	w := newWorld(t, uint64(seed), limits, limit2M)
	w.headers, w.objects = headers, map[string]*Reservation{}
	w.latency = between(w.rng, 500*time.Millisecond, 4*time.Second)
	w.delay = between(w.rng, 5*time.Millisecond, 1500*time.Millisecond)
	w.run(2*time.Minute - time.Duration(seed)*30*time.Second)
	snap := w.ledger.Snapshot(w.now)
	w.run(time.Duration(w.rng.Int64N(int64(5 * time.Second)))) // the status is up to five seconds old

	w.stop = w.now // the leader is gone; calls go on, their ends are written to the objects
	w.ledger = New(limits, w.now)
	w.run(gap)
	w.ledger = New(limits, w.now)
	w.ledger.Restore(snap, w.reservations(snap.At, deleted), w.now)
	back := w.now.Sub(epoch)
	w.stop = time.Time{}
	w.run(3 * time.Minute)
	if len(w.rejected) > 0 {
		t.Errorf("seed %d: %d calls rejected, the first %v after the failover", seed, len(w.rejected), w.rejected[0].Sub(epoch)-back)
	}
	if got := w.share(limit2M, 100, back, back+3*time.Minute); got < 0.95 {
		t.Errorf("seed %d: used %.3f of the limit after the failover, want 0.95", seed, got)
	}
	w.stop = w.now
	w.run(time.Minute)
	wantEmpty(t, w.ledger, w.now)
}

func TestRestoreIsConservative(t *testing.T) {
	t.Parallel()
	at := func(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }
	tests := map[string]struct {
		snap          Snapshot
		reservations  []Reservation
		wantAvailable int64
		wantReserved  int64
	}{
		"nothing was ever sent: full": {wantAvailable: 60_000},
		"no snapshot, but calls: empty": {
			reservations:  []Reservation{{ID: "a", Tokens: 100, At: at(-20)}},
			wantAvailable: 0, wantReserved: 100,
		},
		"the refill since the snapshot is not counted": {
			snap: Snapshot{At: at(-10), Tokens: 5000, Requests: 500}, wantAvailable: 5000,
		},
		"calls since the snapshot are, finished or not; older ones are in it": {
			snap: Snapshot{At: at(-10), Tokens: 5000, Requests: 500},
			reservations: []Reservation{
				{ID: "a", Tokens: 1000, At: at(-12)},
				{ID: "b", Tokens: 300, At: at(-9)},
				{ID: "c", Tokens: 200, At: at(-8), Done: true},
				{ID: "d", Tokens: 50, At: at(-1)},
			},
			wantAvailable: 4450, wantReserved: 1350,
		},
		"more was sent than was left: empty, not less": {
			snap:          Snapshot{At: at(-10), Tokens: 500, Requests: 500},
			reservations:  []Reservation{{ID: "a", Tokens: 1000, At: at(-5)}},
			wantAvailable: 0, wantReserved: 1000,
		},
		"the same call twice counts once in flight": {
			snap:          Snapshot{At: at(-10), Tokens: 5000, Requests: 500},
			reservations:  []Reservation{{ID: "a", Tokens: 1000, At: at(-50)}, {ID: "a", Tokens: 1000, At: at(-50)}},
			wantAvailable: 5000, wantReserved: 1000,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := New(Limits{TokensPerMinute: 60_000, RequestsPerMinute: 500}, epoch)
			l.Restore(test.snap, test.reservations, epoch)
			s := l.Stats(epoch)
			if s.Tokens.Available != test.wantAvailable || s.ReservedTokens != test.wantReserved {
				t.Errorf("available %d, reserved %d, want %d and %d", s.Tokens.Available, s.ReservedTokens, test.wantAvailable, test.wantReserved)
			}
			for _, r := range test.reservations {
				l.Settle(r.ID, Result{}, epoch.Add(time.Second))
			}
			wantEmpty(t, l, epoch.Add(time.Second))
		})
	}
}

// TestRestoreCountsWhatEndedMeanwhile checks that calls that ended without a leader are in the totals and the quota.
func TestRestoreCountsWhatEndedMeanwhile(t *testing.T) {
	t.Parallel()
	limits := plain(60_000)
	limits.Quota = &Quota{Tokens: 100_000, Period: v1alpha1.QuotaPerHour}
	l := New(limits, epoch)
	l.Restore(Snapshot{
		At: epoch.Add(-20 * time.Second), Tokens: 5000, Requests: 500, QuotaUsed: 10_000, QuotaPeriodStart: epoch,
		Totals: Totals{Calls: 10, InputTokens: 8000, OutputTokens: 2000},
	}, []Reservation{
		{ID: "answered", Tokens: 1000, At: epoch.Add(-19 * time.Second), Done: true, Usage: v1alpha1.TokenUsage{Input: 300, CachedInput: 200, Output: 100}},
		{ID: "lost", Tokens: 1000, At: epoch.Add(-19 * time.Second), Done: true},
		{ID: "running", Tokens: 1000, At: epoch.Add(-5 * time.Second)},
	}, epoch)
	s := l.Stats(epoch)
	if diff := cmp.Diff(Totals{Calls: 12, InputTokens: 8300, CachedInputTokens: 200, OutputTokens: 2100}, s.Totals); diff != "" {
		t.Errorf("totals (-want +got):\n%s", diff)
	}
	if want := int64(10_000 + 400 + 1000); s.QuotaUsed != want || s.ReservedTokens != 1000 {
		t.Errorf("%d tokens of the quota are used and %d reserved, want %d and 1000", s.QuotaUsed, s.ReservedTokens, want)
	}
}

func TestSnapshotRoundTrip(t *testing.T) {
	t.Parallel()
	limits := following(60_000, 80)
	limits.Quota = &Quota{Tokens: 1_000_000, Period: v1alpha1.QuotaPerHour}
	l := New(limits, epoch)
	l.SetKeyVersion("1", epoch)
	for i := range 4 {
		l.Reserve(strconv.Itoa(i), 1000, epoch)
	}
	l.Settle("0", Result{
		Usage:       v1alpha1.TokenUsage{Input: 500, CachedInput: 100, Output: 50},
		Observation: said(30_000, 29_000, 10_000, 9990, 86_400),
	}, epoch.Add(time.Second))
	l.Settle("1", Result{Class: v1alpha1.FailureSlowDown}, epoch.Add(time.Second))
	l.Settle("2", Result{Class: v1alpha1.FailureQuotaExhausted}, epoch.Add(time.Second))
	l.Settle("3", Result{Class: v1alpha1.FailureUnauthorized}, epoch.Add(time.Second))
	l.SetKeyVersion("2", epoch.Add(time.Second))
	now := epoch.Add(2 * time.Second)
	want := l.Snapshot(now)

	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var read Snapshot
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	fresh := New(limits, now)
	fresh.Restore(read, nil, now)
	// The next probe is already due: now.
	if diff := cmp.Diff(want, fresh.Snapshot(now), cmpopts.IgnoreFields(Snapshot{}, "ResumeAt")); diff != "" {
		t.Errorf("restored (-want +got):\n%s", diff)
	}
	if want.TokensPerMinute != 30_000 || want.RatePercent != 40 || want.Hold != HoldQuotaExhausted ||
		want.QuotaUsed != 550 || want.RequestsPerDay != 10_000 || want.RequestWindow != day {
		t.Errorf("the snapshot is incomplete: %+v", want)
	}
}

// TestRestoredLimitsFade checks that a restored limit that no header confirms is replaced by the spec's.
func TestRestoredLimitsFade(t *testing.T) {
	t.Parallel()
	snap := Snapshot{At: epoch, Tokens: 100, TokensPerMinute: 30_000, RequestsPerMinute: 100}
	l := New(following(60_000, 100), epoch)
	l.Restore(snap, nil, epoch)
	if got := l.Stats(epoch).TokensPerMinute; got != 30_000 {
		t.Errorf("limit %d right after the restart, want 30000", got)
	}
	if s := l.Stats(epoch.Add(2 * time.Minute)); s.TokensPerMinute != 60_000 || s.RequestsPerMinute != 100_000 {
		t.Errorf("limits %d and %d two minutes later, want the spec's", s.TokensPerMinute, s.RequestsPerMinute)
	}
}

// TestRestoredHolds checks that a hold survives, and that the key is probed at once, because it may have changed
// without a leader.
func TestRestoredHolds(t *testing.T) {
	t.Parallel()
	snap := Snapshot{At: epoch, Tokens: 1000, Requests: 10, Hold: HoldQuotaExhausted, ResumeAt: epoch.Add(time.Minute)}
	l := New(plain(60_000), epoch)
	l.Restore(snap, nil, epoch)
	if v := l.Check(1, epoch); v.Dimension != Held || !v.RetryAt.Equal(snap.ResumeAt) {
		t.Errorf("quota: %+v, want held until %v", v, snap.ResumeAt)
	}
	snap.Hold, snap.ResumeAt = HoldUnauthorized, time.Time{}
	l = New(plain(60_000), epoch)
	l.Restore(snap, nil, epoch)
	if v := l.Reserve("a", 1, epoch); !v.OK || !v.Probe {
		t.Errorf("key: %+v, want a probe", v)
	}
	l.Settle("a", Result{Class: v1alpha1.FailureUnauthorized}, epoch)
	if v := l.Check(1, epoch.Add(time.Second)); v.Dimension != Held || !v.RetryAt.Equal(epoch.Add(2*keyProbe.duration())) {
		t.Errorf("key: %+v, want held until the next probe", v)
	}
}
