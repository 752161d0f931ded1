// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"encoding/binary"
	"strconv"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// tape reads decisions from fuzz input; it returns zero at the end of the input.
type tape []byte

func (p *tape) byte() byte {
	if len(*p) == 0 {
		return 0
	}
	b := (*p)[0]
	*p = (*p)[1:]
	return b
}

func (p *tape) int64() int64 {
	var raw [8]byte
	n := copy(raw[:], *p)
	*p = (*p)[n:]
	return int64(binary.LittleEndian.Uint64(raw[:]))
}

// observation returns arbitrary values, which the ledger must survive.
func (p *tape) observation(now time.Time) *v1alpha1.RateLimitObservation {
	scale := func() int64 { return p.int64() >> (p.byte() % 64) }
	return &v1alpha1.RateLimitObservation{
		SentAt:      metav1.NewMicroTime(now.Add(time.Duration(int8(p.byte())) * 100 * time.Millisecond)),
		LimitTokens: scale(), RemainingTokens: scale(),
		LimitRequests: scale(), RemainingRequests: scale(), ResetRequestsMilliseconds: scale(),
		ProjectLimitTokens: scale(), ProjectRemainingTokens: scale(),
	}
}

var fuzzClasses = [...]v1alpha1.FailureClass{
	"", v1alpha1.FailureRateLimited, v1alpha1.FailureQuotaExhausted, v1alpha1.FailureSlowDown, v1alpha1.FailureUnauthorized,
	v1alpha1.FailureUnavailable, v1alpha1.FailureTimeout, v1alpha1.FailureInvalidOutput, v1alpha1.FailureWorkerLost,
}

// fuzzLedger plays a tape on a ledger and on a simple model of the reservations.
type fuzzLedger struct {
	t    *testing.T
	l    *Ledger
	now  time.Time
	open map[string]int64
	ids  []string
}

func (f *fuzzLedger) reserve(tokens int64) {
	id := strconv.Itoa(len(f.ids))
	check := f.l.Check(tokens, f.now)
	v := f.l.Reserve(id, tokens, f.now)
	if v != check {
		f.t.Fatalf("Check said %+v, Reserve %+v", check, v)
	}
	if v.OK != (v.Dimension == None) {
		f.t.Fatalf("verdict contradicts itself: %+v", v)
	}
	if !v.OK && !v.RetryAt.IsZero() && !v.RetryAt.After(f.l.time(f.l.now)) {
		f.t.Fatalf("denied until now or earlier: %+v at %v", v, f.now)
	}
	if v.OK {
		f.open[id] = max(0, tokens)
		f.ids = append(f.ids, id)
	}
}

func (f *fuzzLedger) end(id string, how byte, r Result) {
	_, open := f.open[id]
	var known bool
	switch how % 4 {
	case 0:
		known = f.l.Cancel(id, f.now)
	case 1:
		known = f.l.Lost(id, f.now)
	default:
		known = f.l.Settle(id, r, f.now).Known
	}
	if known != open {
		f.t.Fatalf("ending %s: known %v, want %v", id, known, open)
	}
	delete(f.open, id)
}

// failOver replaces the ledger by one restored from the snapshot and the open calls. It may have fewer tokens than the
// old one, never more.
func (f *fuzzLedger) failOver(limits Limits) {
	snapshot := f.l.Snapshot(f.now)
	reservations := make([]Reservation, 0, len(f.open))
	for _, id := range f.ids {
		if tokens, open := f.open[id]; open {
			reservations = append(reservations, Reservation{ID: id, Tokens: tokens, At: f.now.Add(-time.Second)})
		}
	}
	had := f.l.Stats(f.now).Tokens.Available
	f.l = New(limits, f.now)
	f.l.Restore(snapshot, reservations, f.now)
	if has := f.l.Stats(f.now).Tokens.Available; has > max(had, 0) {
		f.t.Fatalf("the new leader has %d tokens, the old one had %d", has, had)
	}
}

// check compares with the simple model.
func (f *fuzzLedger) check() {
	var reserved int64
	for _, tokens := range f.open {
		reserved += tokens
	}
	s := f.l.Stats(f.now)
	if s.ReservedTokens != reserved || int(s.InFlight) != len(f.open) {
		f.t.Fatalf("reserved %d in %d calls, want %d in %d", s.ReservedTokens, s.InFlight, reserved, len(f.open))
	}
	for u, pending := range f.l.inflight.pending {
		if pending < 0 {
			f.t.Fatalf("pending %v of unit %d", pending, u)
		}
	}
	for i := range f.l.meters {
		if m := &f.l.meters[i]; m.policy.level > m.policy.capacity || m.mirror.level > m.mirror.capacity {
			f.t.Fatalf("meter %d holds more than its capacity", i)
		}
	}
}

// FuzzLedger plays any order of calls, endings, headers, rejections, limits, failovers and times. Invariants: the sum of
// reservations is that of the open calls, nothing is left at the end, no bucket overflows, and Check and Reserve agree.
func FuzzLedger(f *testing.F) {
	f.Add([]byte("\x00\x10reserve and wait\x05\x05\x05 and settle, cancel, lose\x01\x02\x03"))
	f.Add([]byte{0, 0, 0, 1, 1, 0, 2, 9, 9, 9, 9, 9, 9, 9, 9, 3, 255, 255, 255, 255, 255, 255, 255, 255, 4, 1, 5, 6, 7})
	f.Add([]byte("\x00\x10\x20 a new leader \x08\x00 takes over \x08\x01 and again \x08"))
	f.Fuzz(func(t *testing.T, input []byte) {
		p := tape(input)
		limits := following(1+p.int64()&0xfffff, int32(p.byte()))
		limits.RequestsPerMinute = int64(p.byte())
		g := &fuzzLedger{t: t, l: New(limits, epoch), now: epoch, open: map[string]int64{}}
		for len(p) > 0 {
			switch p.byte() % 9 {
			case 0, 1:
				g.reserve(p.int64() >> (p.byte() % 64))
			case 2, 3:
				if len(g.ids) == 0 {
					continue
				}
				id := g.ids[int(p.byte())%len(g.ids)]
				r := Result{Class: fuzzClasses[int(p.byte())%len(fuzzClasses)], RetryAfter: time.Duration(p.int64())}
				if p.byte()%2 == 0 {
					r.Observation = p.observation(g.now)
				}
				g.end(id, p.byte(), r)
			case 4:
				g.now = g.now.Add(time.Duration(p.byte()) * 50 * time.Millisecond)
			case 5:
				limits.TokensPerMinute, limits.TargetUtilizationPercent = p.int64(), int32(int8(p.byte()))
				limits.Quota = nil
				if p.byte()%2 == 0 {
					limits.Quota = &Quota{Tokens: p.int64(), Period: v1alpha1.QuotaPerHour}
				}
				g.l.SetLimits(limits, g.now)
			case 6:
				g.l.SetKeyVersion(strconv.Itoa(int(p.byte()%3)), g.now)
			case 7:
				g.failOver(limits)
			default:
				g.now = g.now.Add(time.Duration(int8(p.byte())) * time.Second)
			}
			g.check()
		}
		for i, id := range g.ids {
			g.end(id, byte(i), Result{})
		}
		g.now = g.now.Add(time.Hour)
		g.check()
		if g.l.inflight.pending != (sums{}) {
			t.Fatalf("pending %v when all is done", g.l.inflight.pending)
		}
	})
}

// FuzzRule lets the input choose call sizes, times, endings and admissions within the dispatch delay, and checks
// the theorem of the package comment: the provider's bucket always holds what a call costs.
func FuzzRule(f *testing.F) {
	f.Add([]byte{200, 0, 0, 255, 255, 100, 3, 0, 255, 9, 0, 255, 0, 0, 128, 255, 7})
	f.Add([]byte("all sorts of delays, and the bursts after them"))
	f.Fuzz(func(t *testing.T, input []byte) {
		p := tape(input)
		const limit = 60_000
		w := newWorld(t, 1, plain(limit), limit)
		share := func() time.Duration { return DefaultDispatchDelay * time.Duration(p.byte()) / 255 }
		w.size = func() int64 { return limit/200 + int64(p.byte())*limit/257 }
		w.delay = share
		w.latency = func() time.Duration { return 3 * share() }
		for len(p) > 0 {
			w.stop = w.now.Add(time.Duration(p.byte()) * 100 * time.Millisecond)
			w.run(time.Duration(p.byte()) * 300 * time.Millisecond)
			if len(w.rejected) > 0 {
				t.Fatalf("rejected at %v", w.rejected[0].Sub(epoch))
			}
		}
	})
}
