// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"math"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// The meters of a ledger, by index.
const (
	tokenMeter = iota
	projectMeter
	requestMeter
	dailyMeter
	meters
)

const (
	// maxDispatchDelay bounds the dispatch delay that calls with a slow dispatch can cause.
	maxDispatchDelay = ledgerTime(30 * time.Second)
	// dispatchMargin is added to the longest recent time from Reserve until the call was sent, for the network.
	dispatchMargin = ledgerTime(500 * time.Millisecond)
	// tickEvery is the interval of slow changes: recovery and decay.
	tickEvery = ledgerTime(time.Second)
)

// call is a reservation whose outcome is unknown.
type call struct {
	at     ledgerTime
	tokens int64
	seq    int // in the inflightRing
	probe  bool
	alone  bool // the bucket was full and nothing else was in flight
}

// alone is the latest call that found a full bucket, and when the next one was reserved. Until then headers prove the
// charge of the first.
type alone struct {
	seq  int
	next ledgerTime
}

// Ledger is the ledger of one budget. It is not safe for concurrent use: the scheduler's lock guards it.
//
// Times passed to it should not decrease; an earlier one is replaced by the latest one seen.
type Ledger struct {
	limits Limits
	start  time.Time // ledgerTime zero
	now    ledgerTime
	ticked ledgerTime

	meters   [meters]meter
	inflight inflightRing
	past     history
	calls    map[string]call

	// reserved is the sum of the reservations in calls.
	reserved  int64
	alone     alone
	dispatch  dispatchTimes
	headers   headerLimits
	holds     holds
	slow      slowdown
	rejection rejections
	quota     quota
	usage     usage
	blocked   blocked
	totals    Totals
}

// New returns a ledger with full buckets.
func New(limits Limits, now time.Time) *Ledger {
	l := &Ledger{start: now, calls: make(map[string]call), past: history{fromStart: true}}
	l.holds.init()
	l.dispatch.longest = -1
	l.meters[tokenMeter] = newMeter(Tokens, tokenUnit, 0, time.Minute, 0)
	l.meters[requestMeter] = newMeter(Requests, requestUnit, 0, time.Minute, 0)
	l.meters[projectMeter] = meter{dimension: Tokens, unit: tokenUnit, window: time.Minute}
	l.meters[dailyMeter] = meter{dimension: Requests, unit: requestUnit, window: day}
	l.limits = limits
	l.applyLimits()
	l.quota.roll(limits.Quota, now)
	return l
}

// SetLimits puts new limits in force. A limit that headers have shown stays in force if headers are followed.
func (l *Ledger) SetLimits(limits Limits, now time.Time) {
	l.advance(now)
	l.limits = limits
	l.applyLimits()
	l.quota.roll(limits.Quota, now)
}

// applyLimits resizes the meters to the limits in force and sets all rates.
func (l *Ledger) applyLimits() {
	tokens, requests := l.limits.TokensPerMinute, l.limits.RequestsPerMinute
	if l.limits.FollowHeaders {
		if l.headers.tokens > 0 {
			tokens = l.headers.tokens
		}
		if l.headers.requests > 0 {
			requests = l.headers.requests
		}
	} else {
		l.meters[projectMeter].active, l.meters[dailyMeter].active = false, false
	}
	l.resize(tokenMeter, max(0, tokens))
	l.meters[requestMeter].active = requests > 0
	l.resize(requestMeter, max(0, requests))
	l.setRates()
}

// resize sets a meter's limit if it differs.
func (l *Ledger) resize(i int, limit int64) {
	if m := &l.meters[i]; m.limit != min(limit, maxLimit) {
		m.resize(limit)
	}
}

// setRates sets the refill of all meters.
func (l *Ledger) setRates() {
	share := int64(l.ratePercent() * whole / 100)
	for i := range l.meters {
		if l.meters[i].active {
			l.meters[i].setRates(share)
		}
	}
}

// ratePercent is the percentage of the limits in use.
func (l *Ledger) ratePercent() float64 {
	target := l.limits.TargetUtilizationPercent
	if target <= 0 || target > 100 {
		target = 100
	}
	return float64(target) * l.slow.factor(l.now)
}

// delay is the longest expected time from Reserve to admission.
func (l *Ledger) delay() ledgerTime {
	d := ledgerTime(l.limits.DispatchDelay)
	if d <= 0 {
		d = ledgerTime(DefaultDispatchDelay)
	}
	return max(d, min(l.dispatch.longest+dispatchMargin, maxDispatchDelay))
}

// at converts a time. Times centuries away are clamped.
func (l *Ledger) at(t time.Time) ledgerTime { return ledgerTime(t.Sub(l.start)) }

// time converts a ledgerTime; never becomes the zero time.
func (l *Ledger) time(at ledgerTime) time.Time {
	if at == never {
		return time.Time{}
	}
	return l.start.Add(time.Duration(at))
}

// advance brings everything up to now: calls whose dispatch delay is over land, buckets refill, estimates decay.
func (l *Ledger) advance(now time.Time) ledgerTime {
	to := max(l.at(now), l.now)
	due := to-l.ticked >= tickEvery
	if due { // first, otherwise calls would land in the past when the bound shrinks
		l.dispatch.fade(to - l.ticked)
	}
	l.landUntil(to)
	for i := range l.meters {
		if m := &l.meters[i]; m.active {
			m.advance(to)
		}
	}
	l.now = to
	if due {
		l.tick(to)
	}
	return to
}

// landUntil charges the calls whose dispatch delay is over.
func (l *Ledger) landUntil(to ledgerTime) {
	delay := l.delay()
	for d := l.inflight.oldest(); d != nil; d = l.inflight.oldest() {
		if !d.landed {
			if d.at+delay > to {
				return
			}
			l.land(l.inflight.head, d.at+delay)
		}
		l.inflight.pop()
	}
}

// land charges a call to every meter, at the latest time at which the provider charges it.
func (l *Ledger) land(seq int, at ledgerTime) {
	d := l.inflight.get(seq)
	if d == nil || !l.inflight.markLanded(seq) {
		return
	}
	for i := range l.meters {
		l.meters[i].land(d.cost, at)
	}
}

// tick applies slow changes.
func (l *Ledger) tick(to ledgerTime) {
	elapsed := to - l.ticked
	l.ticked = to
	for i := range l.meters {
		if m := &l.meters[i]; m.active {
			m.others.fade(elapsed, m.refillPerSecond())
		}
	}
	if l.headers.expire(to) {
		l.applyLimits()
	}
	l.setRates()
}

// Reserve reserves tokens and one request for a call, or nothing at all: every limit, the quota and the holds must
// allow it. For an id that already has a reservation it returns OK and reserves nothing. Negative tokens count as zero.
func (l *Ledger) Reserve(id string, tokens int64, now time.Time) Verdict {
	if c, ok := l.calls[id]; ok {
		return Verdict{OK: true, Probe: c.probe}
	}
	tokens = max(0, tokens)
	v := l.Check(tokens, now)
	l.blocked.note(v, l.now, l.at(v.RetryAt))
	if !v.OK {
		if v.Dimension == QuotaTokens {
			l.quota.refused(tokens)
		}
		return v
	}
	cost := sums{tokens, 1}
	token := &l.meters[tokenMeter]
	alone := token.policy.level == token.policy.capacity && l.inflight.pending[tokenUnit] == 0
	c := call{at: l.now, tokens: tokens, seq: l.inflight.push(dispatch{at: l.now, cost: cost}), probe: v.Probe, alone: alone}
	l.past.add(l.now, cost)
	l.alone.next = min(l.alone.next, l.now)
	if alone {
		l.alone.seq, l.alone.next = c.seq, never
	}
	l.calls[id] = c
	l.reserved += tokens
	l.usage.add(l.now, cost, 1)
	if v.Probe {
		l.holds.probing(id)
	}
	return v
}

// Check returns Reserve's verdict without reserving anything.
func (l *Ledger) Check(tokens int64, now time.Time) Verdict {
	at := l.advance(now)
	tokens = max(0, tokens)
	if v, ok := l.tooLarge(tokens); ok {
		return v
	}
	probe, until, held := l.holds.gate(at)
	if held {
		return Verdict{Dimension: Held, RetryAt: l.time(until)}
	}
	cost := sums{tokens, 1}
	worst, dimension := ledgerTime(math.MinInt64), None
	for i := range l.meters {
		m := &l.meters[i]
		if !m.active || m.fits(cost, l.inflight.pending, at) {
			continue
		}
		if when := m.fitsAt(cost, &l.inflight, l.delay(), at); when > worst {
			worst, dimension = when, m.dimension
		}
	}
	l.quota.roll(l.limits.Quota, now)
	if !l.quota.fits(tokens, l.reserved) {
		if when := l.at(l.quota.end); when > worst {
			worst, dimension = when, QuotaTokens
		}
	}
	if dimension != None {
		return Verdict{Dimension: dimension, RetryAt: l.time(worst)}
	}
	return Verdict{OK: true, Probe: probe}
}

// tooLarge reports whether a call can never be sent.
func (l *Ledger) tooLarge(tokens int64) (Verdict, bool) {
	for _, i := range [...]int{tokenMeter, projectMeter} {
		if m := &l.meters[i]; m.active && tokens > m.limit {
			if i == tokenMeter && l.headers.tokens > 0 && tokens <= l.limits.TokensPerMinute {
				l.headers.tooSmall = true
			}
			return Verdict{Dimension: TooLarge, Need: tokens, Limit: m.limit, ByHeader: tokens <= l.limits.TokensPerMinute}, true
		}
	}
	if q := l.limits.Quota; q != nil && tokens > q.Tokens {
		return Verdict{Dimension: TooLarge, Need: tokens, Limit: q.Tokens, OwnQuota: true}, true
	}
	return Verdict{}, false
}

// Cancel cancels the reservation of a call that was never sent. It returns false, and does nothing, if there is no
// such reservation.
//
// Within the dispatch delay the whole reservation is refunded. After it the call was already charged, and a refund of
// that charge would be too much if the bucket would have been full meanwhile without it. So the refunds, in total, are
// at most what the bucket has stayed below its capacity since. The rest refills by itself.
func (l *Ledger) Cancel(id string, now time.Time) bool {
	l.advance(now)
	c, ok := l.take(id)
	if !ok {
		return false
	}
	l.holds.canceled(id)
	l.giveBack(c)
	return true
}

// giveBack returns the tokens and the request of a call that was never sent.
func (l *Ledger) giveBack(c call) {
	cost := sums{c.tokens, 1}
	l.past.remove(c.at, cost)
	l.usage.add(c.at, cost, -1)
	if l.inflight.markLanded(c.seq) {
		return
	}
	for i := range l.meters {
		l.meters[i].refund(cost, c.at)
	}
}

// take removes a reservation.
func (l *Ledger) take(id string) (call, bool) {
	c, ok := l.calls[id]
	if !ok {
		return call{}, false
	}
	delete(l.calls, id)
	l.reserved -= c.tokens
	return c, true
}

// Lost ends a call whose outcome stays unknown: its worker died, or its write was fenced. The provider may have
// charged it, so buckets and quota stay charged; the reservation is released. It returns false, and does nothing, if
// there is no such reservation.
func (l *Ledger) Lost(id string, now time.Time) bool {
	l.advance(now)
	c, ok := l.take(id)
	if !ok {
		return false
	}
	l.holds.inconclusive(id, l.now)
	l.totals.Lost++
	l.quota.roll(l.limits.Quota, now)
	l.quota.used += c.tokens
	return true
}

// Settle ends a call whose outcome is known: the buckets stay charged, counters and quota get the reported usage, the
// headers correct the levels, and a rejection blocks a meter or holds the budget. For an id without a reservation
// (settled before, lost, canceled) it does nothing; Settlement.Known is false.
func (l *Ledger) Settle(id string, r Result, now time.Time) Settlement {
	at := l.advance(now)
	c, ok := l.calls[id]
	if !ok {
		return Settlement{}
	}
	l.holds.settled(id, r, c.at, at)
	l.take(id)
	if neverSent(r.Class) {
		l.giveBack(c)
		return Settlement{Known: true, Reserved: c.tokens}
	}
	rejected := r.Class == v1alpha1.FailureRateLimited || r.Class == v1alpha1.FailureQuotaExhausted
	if rejected {
		l.settleRejected(c, at)
	} else {
		l.land(c.seq, at)
	}
	l.count(r)
	l.quota.roll(l.limits.Quota, now)
	l.quota.settle(c.tokens, r)
	settlement := Settlement{Known: true, Reserved: c.tokens}

	if r.Observation != nil && l.limits.FollowHeaders {
		settlement.Charged = l.observe(c, r, rejected, at)
	}
	switch r.Class {
	case v1alpha1.FailureRateLimited:
		l.rateLimited(c, r, at)
	case v1alpha1.FailureSlowDown:
		l.slow.hit(at)
		l.setRates()
	case "":
		l.rejection.consecutive = 0
	default:
	}
	return settlement
}

// settleRejected charges a rejected call one request and no tokens. The provider documents that rejections count, but
// not their cost; a sample showed one request. If the cost is higher, little is lost: the bucket is empty after a
// rejection anyway, and headers correct its level.
func (l *Ledger) settleRejected(c call, at ledgerTime) {
	tokens := sums{c.tokens, 0}
	l.past.remove(c.at, tokens)
	l.usage.add(c.at, tokens, -1)
	pending := l.inflight.markLanded(c.seq)
	for i := range l.meters {
		switch m := &l.meters[i]; {
		case !pending:
			m.refund(tokens, c.at)
		case m.unit == requestUnit:
			m.land(c.cost(), at)
		}
	}
}

// count adds a settled call to the totals.
func (l *Ledger) count(r Result) {
	t := &l.totals
	t.Calls++
	t.InputTokens += r.Usage.Input
	t.CachedInputTokens += r.Usage.CachedInput
	t.OutputTokens += r.Usage.Output
	switch r.Class {
	case v1alpha1.FailureQuotaExhausted:
		t.QuotaExhausted++
	case v1alpha1.FailureSlowDown:
		t.SlowDown++
	case v1alpha1.FailureUnauthorized:
		t.Unauthorized++
	default:
	}
}
