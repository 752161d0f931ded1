// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"math"
	"time"
)

// unit is what a meter counts.
type unit uint8

const (
	tokenUnit unit = iota
	requestUnit
	units = 2
)

const (
	day = 24 * time.Hour

	// A mirror that is too low is raised by at most a quarter of the limit's refill: an error of the whole bucket is
	// corrected within four minutes, and a wrong header does little harm.
	raiseShare = 4

	// refundShare is the part of a bucket, as a divisor, that late cancellations may refund; see Ledger.Cancel.
	refundShare = 16
)

// meter is one limit of the provider. It holds two buckets, and a call must fit both:
//
//   - policy is the spending that the spec allows: capacity = limit, refill = limit × target. Without headers only
//     this bucket counts.
//   - mirror is the estimate of the provider's bucket: capacity = limit, refill = limit less other usage. Headers
//     lower it at once and raise it slowly.
//
// There are two because they differ from the provider's bucket in different ways: with a target below 100 % it holds
// more than policy allows, with another client on the key it holds less.
type meter struct {
	dimension Dimension
	unit      unit
	active    bool
	limit     int64
	window    time.Duration

	policy, mirror bucket
	others         otherUsage

	// raise is the amount by which the mirror is still to be raised, in micro.
	raise int64
	// withheld is the amount by which headers have lowered the mirror or reduced its refill, in micro. Only a raise
	// beyond it means that the policy bucket was overcharged too.
	withheld int64
	// blockedUntil is the end of a rejection's Retry-After.
	blockedUntil ledgerTime

	// nearFull is when the policy bucket was last within refundShare of being full; refundable is what late
	// cancellations of later calls may refund. The mirror gets no refund of calls from before lowered.
	nearFull, lowered ledgerTime
	refundable        int64
}

// newMeter returns an active meter with full buckets.
func newMeter(d Dimension, u unit, limit int64, window time.Duration, at ledgerTime) meter {
	m := meter{dimension: d, unit: u, active: true, window: window, blockedUntil: -never}
	m.policy.at, m.mirror.at = at, at
	m.policy.window, m.mirror.window = uint64(window), uint64(window)
	m.resize(limit)
	return m
}

// resize changes the limit. The caller sets the rates afterwards.
func (m *meter) resize(limit int64) {
	m.limit = min(limit, maxLimit)
	m.policy.resize(m.limit * micro)
	m.mirror.resize(m.limit * micro)
	m.raise, m.withheld = 0, 0
	m.nearFull, m.lowered, m.refundable = m.policy.at, m.policy.at, 0
	m.others.reset()
}

// refillPerSecond is the limit's refill, in units per second.
func (m *meter) refillPerSecond() float64 { return float64(m.limit) / m.window.Seconds() }

// setRates sets the refill of the buckets: share of the limit for the policy, in parts per million, and the limit
// less other usage for the mirror.
func (m *meter) setRates(share int64) {
	m.policy.rate = rateOf(m.limit, share)
	others := 0.0
	if m.limit > 0 {
		others = m.others.rate / m.refillPerSecond()
	}
	m.mirror.rate = rateOf(m.limit, whole-int64(math.Ceil(others*whole)))
}

// advance refills up to a time.
func (m *meter) advance(to ledgerTime) {
	elapsed := to - m.mirror.at
	if elapsed <= 0 {
		return
	}
	m.policy.advance(to)
	m.mirror.advance(to)
	if margin := m.policy.capacity / refundShare; m.policy.level >= m.policy.capacity-margin {
		m.nearFull, m.refundable = to, margin
	}
	if m.raise > 0 {
		m.lift(min(m.raise, m.raiseIn(elapsed)))
	}
	if m.others.rate > 0 {
		m.withhold(int64(m.others.rate * float64(elapsed) / float64(time.Second) * micro))
	}
}

// raiseIn is how far the mirror may be raised in a time, in micro.
func (m *meter) raiseIn(elapsed ledgerTime) int64 {
	if elapsed > ledgerTime(m.window) {
		return m.policy.capacity
	}
	return int64(m.refillPerSecond() * micro / raiseShare * (float64(elapsed) / float64(time.Second)))
}

// lift raises the mirror. An amount that was not withheld before was overcharged, or was lost while calls that had
// landed were still pending; the policy bucket gets its share of that amount.
func (m *meter) lift(n int64) {
	m.raise -= n
	m.mirror.level = min(m.mirror.level+n, m.mirror.capacity)
	owed := min(n, m.withheld)
	m.withheld -= owed
	share := float64(m.policy.rate) / float64(rateOf(m.limit, whole))
	m.policy.level = min(m.policy.level+int64(float64(n-owed)*share), m.policy.capacity)
}

// lower takes n micro from the mirror, because headers showed less.
func (m *meter) lower(n int64) {
	m.mirror.level -= n
	m.lowered = m.mirror.at
	m.raise = 0
	m.withhold(n)
}

func (m *meter) withhold(n int64) { m.withheld = min(m.withheld+n, m.policy.capacity) }

// land charges a call.
func (m *meter) land(cost sums, at ledgerTime) {
	if !m.active {
		return
	}
	m.advance(at)
	m.policy.level -= cost[m.unit] * micro
	m.mirror.level -= cost[m.unit] * micro
}

// refund refunds the charge of a call that landed here but was never sent.
func (m *meter) refund(cost sums, reserved ledgerTime) {
	back := cost[m.unit] * micro
	if !m.active || back == 0 || reserved <= m.nearFull || back > m.refundable {
		return
	}
	m.refundable -= back
	m.policy.level += back
	if reserved > m.lowered {
		m.mirror.level = min(m.mirror.level+back, m.mirror.capacity)
	}
}

// empty leaves nothing to reserve, and blocks the meter until a time.
func (m *meter) empty(pending sums, until ledgerTime) {
	p := pending[m.unit] * micro
	m.policy.level = min(m.policy.level, p)
	m.nearFull, m.refundable = m.policy.at, 0
	if over := m.mirror.level - p; over > 0 {
		m.lower(over)
	}
	m.blockedUntil = max(m.blockedUntil, until)
}

// available is what may be reserved, in micro.
func (m *meter) available(pending sums) int64 {
	return min(m.policy.level, m.mirror.level-m.others.safetyMargin) - pending[m.unit]*micro
}

// wanted is what the mirror must hold for a call of this cost: the cost and the safety margin, but no more than the
// capacity, otherwise a large call would wait for ever.
func (m *meter) wanted(cost int64) int64 { return min(cost+m.others.safetyMargin, m.mirror.capacity) }

// fits reports whether a call of this cost can be reserved.
func (m *meter) fits(cost, pending sums, now ledgerTime) bool {
	c, p := cost[m.unit]*micro, pending[m.unit]*micro
	return now >= m.blockedUntil && m.policy.level-p >= c && m.mirror.level-p >= m.wanted(c)
}

// fitsAt is when a call of this cost fits if nothing else is reserved and no answer arrives: calls in flight land when
// their dispatch delay is over. It is never if the call will not fit.
func (m *meter) fitsAt(cost sums, inflight *inflightRing, delay, now ledgerTime) ledgerTime {
	c := cost[m.unit] * micro
	policy := fitForecast{bucket: m.policy, unit: m.unit, inflight: inflight, delay: delay}
	mirror := policy
	mirror.bucket, mirror.raise, mirror.raiseRate = m.mirror, m.raise, rateOf(m.limit, whole/raiseShare)
	return max(now, m.blockedUntil, policy.fitsAt(c), mirror.fitsAt(m.wanted(c)))
}

// fitForecast forecasts the level of a bucket while calls in flight land.
type fitForecast struct {
	// bucket is a copy: forecasting changes it.
	bucket   bucket
	unit     unit
	inflight *inflightRing
	delay    ledgerTime
	// raise is what the bucket gains on top of its refill, in micro, at the rate raiseRate; see bucket.rate.
	raise     int64
	raiseRate uint64
}

// fitsAt is when the bucket holds c micro on top of what is pending.
//
// A landing call takes as much from the level as from what is pending, so landings change nothing unless the bucket
// is full meanwhile. Only if c and what is pending together exceed the capacity must some calls land first.
func (f fitForecast) fitsAt(c int64) ledgerTime {
	b := &f.bucket
	pending := f.inflight.pending[f.unit] * micro
	for seq := f.inflight.head; c+pending > b.capacity && seq < f.inflight.next; seq++ {
		d := f.inflight.get(seq)
		if d.landed {
			continue
		}
		b.advance(d.at + f.delay)
		b.level -= d.cost[f.unit] * micro
		pending -= d.cost[f.unit] * micro
	}
	need := c + pending - b.level
	if f.raise > 0 && need > 0 {
		raising := bucket{rate: b.rate + f.raiseRate, window: b.window, part: b.part}
		if wait, ok := raising.timeFor(need); ok && float64(f.raise) >= float64(wait)*float64(f.raiseRate)/float64(b.window) {
			return b.at + ledgerTime(wait)
		}
		need -= f.raise
	}
	wait, ok := b.timeFor(need)
	if !ok || int64(wait) > int64(never-max(b.at, 0)) {
		return never
	}
	return b.at + ledgerTime(wait)
}
