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

	// A bucket the server has more in than we thought is raised by at most a quarter of the limit's refill, per
	// second of refill: an error of the whole bucket is mended within four minutes, and a wrong word costs little.
	raiseShare = 4

	// refundShare is the part of a bucket, as a divisor, that late cancellations give back; see Ledger.Cancel.
	refundShare = 16
)

// meter is one limit of the provider. It holds two buckets, and a call must fit both:
//
//   - policy is what we allow ourselves: capacity = limit, refill = limit × target. Without headers it is all
//     there is.
//   - mirror is what we believe the provider has: capacity = limit, refill = limit less what others use. The
//     provider's own word lowers it at once and raises it slowly.
//
// They are two because they are wrong in different ways: with a target below 100 % the provider's bucket rightly
// has ever more in it than our policy allows us to use, and with a stranger on the same key it has less.
type meter struct {
	dimension Dimension
	unit      unit
	active    bool
	limit     int64
	window    time.Duration

	policy, mirror bucket
	others         otherUsage

	// raise is what the mirror has yet to be raised by, in micro.
	raise int64
	// withheld is what the mirror was lowered by, or not refilled with, on the provider's word, in micro. Only a
	// raise beyond it means that the policy bucket was charged too much as well.
	withheld int64
	// blockedUntil is the end of a rejection's Retry-After.
	blockedUntil ledgerTime

	// nearFull is when the policy bucket was last within refundShare of being full; refundable is what late
	// cancellations of calls since then may give back. The mirror takes none from before it was lowered.
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

// resize changes the limit. The rates have to be set afterwards.
func (m *meter) resize(limit int64) {
	m.limit = min(limit, maxLimit)
	m.policy.resize(m.limit * micro)
	m.mirror.resize(m.limit * micro)
	m.raise, m.withheld = 0, 0
	m.nearFull, m.lowered, m.refundable = m.policy.at, m.policy.at, 0
	m.others.reset()
}

// perSecond is the limit's refill, in units per second.
func (m *meter) perSecond() float64 { return float64(m.limit) / m.window.Seconds() }

// setRates sets how fast the buckets refill: the policy's share of the limit, in parts per million, and the
// mirror's after what others use.
func (m *meter) setRates(share int64) {
	m.policy.rate = rateOf(m.limit, share)
	foreign := 0.0
	if m.limit > 0 {
		foreign = m.others.perSecond / m.perSecond()
	}
	m.mirror.rate = rateOf(m.limit, whole-int64(math.Ceil(foreign*whole)))
}

// advance refills up to an instant.
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
	if m.others.perSecond > 0 {
		m.withhold(int64(m.others.perSecond * float64(elapsed) / float64(time.Second) * micro))
	}
}

// raiseIn is how far the mirror may be raised in a time, in micro.
func (m *meter) raiseIn(elapsed ledgerTime) int64 {
	if elapsed > ledgerTime(m.window) {
		return m.policy.capacity
	}
	return int64(m.perSecond() * micro / raiseShare * (float64(elapsed) / float64(time.Second)))
}

// lift raises the mirror. What was never withheld from it was charged too much, or was lost to it while calls were
// pending that had landed; the policy bucket gets its share of that.
func (m *meter) lift(n int64) {
	m.raise -= n
	m.mirror.level = min(m.mirror.level+n, m.mirror.capacity)
	owed := min(n, m.withheld)
	m.withheld -= owed
	share := float64(m.policy.rate) / float64(rateOf(m.limit, whole))
	m.policy.level = min(m.policy.level+int64(float64(n-owed)*share), m.policy.capacity)
}

// lower takes n micro from the mirror on the provider's word.
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

// refund gives back the charge of a call that landed here but was never sent.
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

// empty leaves nothing to reserve, and blocks until an instant.
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

// wanted is what the mirror must have for a call of this cost: the cushion on top, but never more than there can
// be, or a large call would wait for ever.
func (m *meter) wanted(cost int64) int64 { return min(cost+m.others.safetyMargin, m.mirror.capacity) }

// fits says whether a call of this cost can be reserved.
func (m *meter) fits(cost, pending sums, now ledgerTime) bool {
	c, p := cost[m.unit]*micro, pending[m.unit]*micro
	return now >= m.blockedUntil && m.policy.level-p >= c && m.mirror.level-p >= m.wanted(c)
}

// fitsAt is when a call of this cost fits if nothing else is reserved and no answer comes: calls in the pipeline
// land when their dispatch delay is over. It is never where it does not come about.
func (m *meter) fitsAt(cost sums, pipe *inflightRing, delay, now ledgerTime) ledgerTime {
	c := cost[m.unit] * micro
	at := max(now, m.blockedUntil)
	at = max(at, bucketFitsAt(m.policy, m.unit, c, pipe, delay, 0, 0))
	lift := rateOf(m.limit, whole/raiseShare)
	return max(at, bucketFitsAt(m.mirror, m.unit, m.wanted(c), pipe, delay, m.raise, lift))
}

// bucketFitsAt is when a bucket has c micro on top of what is pending. While raise lasts the bucket gains lift on
// top of its rate.
//
// Landing takes as much from the level as from what is pending, so as long as the bucket does not run full on the
// way, calls that land change nothing. Only where c and what is pending do not fit the capacity together must
// some land first.
func bucketFitsAt(b bucket, u unit, c int64, pipe *inflightRing, delay ledgerTime, raise int64, lift uint64) ledgerTime {
	pending := pipe.pending[u] * micro
	for seq := pipe.head; c+pending > b.capacity && seq < pipe.next; seq++ {
		d := pipe.get(seq)
		if d.landed {
			continue
		}
		b.advance(d.at + delay)
		b.level -= d.cost[u] * micro
		pending -= d.cost[u] * micro
	}
	need := c + pending - b.level
	if raise > 0 && need > 0 {
		raising := bucket{rate: b.rate + lift, window: b.window, part: b.part}
		if wait, ok := raising.timeFor(need); ok && float64(raise) >= float64(wait)*float64(lift)/float64(b.window) {
			return b.at + ledgerTime(wait)
		}
		need -= raise
	}
	wait, ok := b.timeFor(need)
	if !ok || int64(wait) > int64(never-max(b.at, 0)) {
		return never
	}
	return b.at + ledgerTime(wait)
}
