// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"math"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

const (
	// networkSlack bounds the time from when a worker sends a call until the provider admits it.
	networkSlack = ledgerTime(250 * time.Millisecond)
	// clockSkew is how far a worker's clock may differ from the leader's before observations are misinterpreted.
	clockSkew = ledgerTime(50 * time.Millisecond)
	// dayLimitFrom is the window, as implied by the headers, from which on a request limit counts as one per day.
	dayLimitFrom = 30 * time.Minute
)

// headerLimits are the limits in the provider's headers, and when the calls that showed them were sent: headers arrive
// out of order, and older ones must not replace newer ones.
type headerLimits struct {
	tokens, requests int64
	observedAt       [meters]ledgerTime
	// inherited is until when limits from an earlier leader are in force without a header that confirms them.
	inherited ledgerTime
	// changes guard the limits that responses have shown for a while.
	changes [meters]limitChange
	// tooSmall means that a call was denied because it is larger than the followed limit, though not than the spec's.
	tooSmall bool
}

const (
	// limitResponses is how many responses in a row must show a limit before it counts as established, and how many must
	// then show one of less than half of it before that is followed: one wrong header must not stop everything.
	limitResponses = 3
	// tooSmallFor is how long a followed limit that denies calls stands without a response that confirms it. Nothing
	// would be sent any more, and so no response would ever correct it.
	tooSmallFor = ledgerTime(30 * time.Second)
)

// limitChange counts the responses that show a limit.
type limitChange struct {
	// same are those that show the limit in force, drop those that show next.
	same, drop int
	next       int64
}

// confirm notes a limit and reports whether it may be followed.
func (c *limitChange) confirm(limit, inForce int64) bool {
	switch {
	case limit == inForce:
		c.same, c.drop = min(c.same+1, limitResponses), 0
		return true
	case limit >= inForce/2 || c.same < limitResponses:
		*c = limitChange{}
		return true
	case limit != c.next:
		c.drop, c.next = 0, limit
	}
	if c.drop++; c.drop < limitResponses {
		return false
	}
	*c = limitChange{}
	return true
}

// expire drops inherited limits that no header has confirmed, and reports whether there were any: the provider may
// have stopped sending headers, and the spec may have changed.
func (h *headerLimits) expire(now ledgerTime) bool {
	if h.tooSmall && now-h.observedAt[tokenMeter] >= tooSmallFor {
		h.tooSmall, h.tokens = false, 0
		return true
	}
	if h.inherited == 0 || now < h.inherited {
		return false
	}
	h.inherited = 0
	dropped := false
	if h.tokens > 0 && h.observedAt[tokenMeter] == 0 {
		h.tokens, dropped = 0, true
	}
	if h.requests > 0 && h.observedAt[requestMeter] == 0 {
		h.requests, dropped = 0, true
	}
	return dropped
}

// dispatchTimes tracks how long calls take from Reserve until they are sent.
type dispatchTimes struct {
	longest ledgerTime // fades by half in about a minute; -1 while unknown
}

func (d *dispatchTimes) seen(took ledgerTime) { d.longest = max(d.longest, took) }

func (d *dispatchTimes) fade(elapsed ledgerTime) {
	if d.longest > 0 {
		d.longest = ledgerTime(float64(d.longest) * math.Exp2(-float64(elapsed)/float64(time.Minute)))
	}
}

// observation is one bucket's level right after an admission, which took place between from and to, with the own
// charges until then.
type observation struct {
	from, to  ledgerTime
	remaining int64
	// certain is what had been reserved, in total, by a time whose reservations the provider had surely charged.
	// possible is the most that it may have charged.
	certain, possible int64
	// certainKnown is false if certain is unknown.
	certainKnown bool
}

// upperLevel is the upper bound of the normalised level; see slot.
func (obs observation) upperLevel(refill float64) float64 {
	return float64(obs.remaining+1) - refill*obs.from.seconds() + float64(obs.possible)
}

// observe applies the provider's headers. It returns the charge of the call if they prove it: the bucket was full
// before the call, and no other call of this ledger was in flight.
func (l *Ledger) observe(c call, r Result, rejected bool, now ledgerTime) int64 {
	o := clampObservation(*r.Observation)
	obs, charged := l.admission(c, o, now)
	if r.Class != v1alpha1.FailureUnavailable && r.Class != v1alpha1.FailureBlocked { // a gateway may have sent those
		l.followLimits(o, obs.from)
	}
	possible, ok := l.past.until(obs.to + clockSkew)
	if !ok {
		return 0
	}
	certain, known := l.past.until(charged)
	for i, remaining := range [meters]int64{
		tokenMeter: o.RemainingTokens, projectMeter: o.ProjectRemainingTokens,
		requestMeter: o.RemainingRequests, dailyMeter: o.RemainingRequests,
	} {
		m := &l.meters[i]
		if limit := l.shown(i, o); !m.active || limit <= 0 || limit != m.limit {
			continue
		}
		obs.remaining, obs.certainKnown = remaining, known
		obs.certain, obs.possible = certain[m.unit], possible[m.unit]
		included := m.unit == requestUnit || !rejected
		if own := c.cost()[m.unit]; included && c.at > charged && obs.certain+own <= obs.possible {
			obs.certain += own // the level is the one after the call itself was charged
		}
		m.apply(obs, l.past.total[m.unit], l.inflight.pending[m.unit]*micro, now)
	}
	l.setRates()
	if c.alone && !rejected && l.alone.next > obs.to && l.alone.seq == c.seq && o.LimitTokens > 0 {
		return max(0, o.LimitTokens-o.RemainingTokens)
	}
	return 0
}

// clampObservation clamps out-of-range values.
func clampObservation(o v1alpha1.RateLimitObservation) v1alpha1.RateLimitObservation {
	for _, limit := range [...]*int64{&o.LimitTokens, &o.LimitRequests, &o.ProjectLimitTokens} {
		*limit = max(0, min(*limit, maxLimit))
	}
	o.RemainingTokens = max(0, min(o.RemainingTokens, o.LimitTokens))
	o.RemainingRequests = max(0, min(o.RemainingRequests, o.LimitRequests))
	o.ProjectRemainingTokens = max(0, min(o.ProjectRemainingTokens, o.ProjectLimitTokens))
	return o
}

// cost is what a call takes of each unit.
func (c call) cost() sums { return sums{c.tokens, 1} }

// admission returns an observation with the bounds of the call's admission, and the latest time whose reservations the
// provider had surely charged by then.
func (l *Ledger) admission(c call, o v1alpha1.RateLimitObservation, now ledgerTime) (obs observation, charged ledgerTime) {
	if o.SentAt.IsZero() {
		return observation{from: c.at, to: min(now, c.at+l.delay())}, c.at - l.delay()
	}
	sent := min(max(l.at(o.SentAt.Time), c.at), now)
	l.dispatch.seen(sent - c.at)
	obs = observation{from: sent, to: min(now, sent+networkSlack)}
	return obs, sent - l.dispatch.longest - clockSkew - coalesceWithin
}

// shown is the limit of a meter in an observation, or zero.
func (l *Ledger) shown(i int, o v1alpha1.RateLimitObservation) int64 {
	switch i {
	case tokenMeter:
		return o.LimitTokens
	case projectMeter:
		return o.ProjectLimitTokens
	default:
		if l.requestLimitOf(o) == i {
			return o.LimitRequests
		}
		return 0
	}
}

// requestLimitOf is the meter of the request headers: the limit per minute or the one per day. The headers do not
// state which, but the time to full implies it: window = reset × limit ÷ used. If nothing is used, it is the meter
// with the same limit, or -1.
//
// Published samples: limit 500, 1 used, reset 120 ms (60 s window); limit 10000, 1 used, reset 8.64 s (a day).
func (l *Ledger) requestLimitOf(o v1alpha1.RateLimitObservation) int {
	used := o.LimitRequests - o.RemainingRequests
	if used > 0 && o.ResetRequestsMilliseconds > 0 {
		window := float64(o.ResetRequestsMilliseconds) * float64(o.LimitRequests) / float64(used)
		if window >= float64(dayLimitFrom.Milliseconds()) {
			return dailyMeter
		}
		return requestMeter
	}
	for _, i := range [...]int{dailyMeter, requestMeter} {
		if m := &l.meters[i]; m.active && m.limit == o.LimitRequests {
			return i
		}
	}
	return -1
}

// followLimits puts the limits in force that the headers of a call show, which was sent at a time. Calls sent within
// networkSlack of each other may have been admitted in either order; the lower of their limits counts.
//
// A raised limit does not raise the mirror: later observations do.
func (l *Ledger) followLimits(o v1alpha1.RateLimitObservation, sent ledgerTime) {
	changed := false
	had := [meters]int64{}
	for i := range l.meters {
		m := &l.meters[i]
		if had[i] = m.mirror.level; !m.active {
			had[i] = math.MaxInt64
		}
		limit, latest := l.shown(i, o), l.headers.observedAt[i]
		if limit <= 0 || latest != 0 && (sent < latest || limit > m.limit && sent < latest+networkSlack) {
			continue
		}
		l.headers.observedAt[i] = sent
		if m.active && (!l.headers.changes[i].confirm(limit, m.limit) || m.limit == limit) {
			continue
		}
		changed = true
		switch i {
		case tokenMeter:
			l.headers.tokens = limit
		case requestMeter:
			l.headers.requests = limit
		default:
			had[i] = l.discover(i, limit)
		}
	}
	if !changed {
		return
	}
	l.applyLimits()
	for i := range l.meters {
		m := &l.meters[i]
		m.mirror.level = min(m.mirror.level, max(had[i], 0))
	}
}

// discover activates or resizes a meter that only headers reveal. It returns the maximum level of its mirror until
// later observations raise it. The observation that follows sets the level of a new meter.
func (l *Ledger) discover(i int, limit int64) int64 {
	m := &l.meters[i]
	if m.active {
		had := m.mirror.level
		m.resize(limit)
		return had
	}
	*m = newMeter(m.dimension, m.unit, limit, m.window, l.now)
	return m.mirror.capacity
}

// apply corrects the mirror by an observation of the meter's bucket. total is everything reserved until now, pending
// the part of it that may not have been charged yet, in micro.
//
// Observations of different times are comparable, in whatever order they arrive, because they are kept as normalised
// levels; see slot.
func (m *meter) apply(obs observation, total, pending int64, now ledgerTime) {
	refill := m.refillPerSecond()
	m.others.note(obs, refill)
	m.others.estimate(refill, float64(m.limit), now)
	m.others.coverClusters(m.mirror.capacity)

	// The most that the bucket can hold now: more own calls may have been in flight, and less may have refilled.
	most := obs.upperLevel(refill) + refill*now.seconds() - float64(total) - m.others.rate*(now-obs.to).seconds()
	have := m.mirror.level - pending
	if gap := have - clampMicro(most); gap > 0 {
		m.lower(gap)
		m.others.onOvershoot(gap, m.mirror.capacity)
		return
	}
	m.raise = 0
	least, ok := m.others.lowerBound(refill, float64(m.limit), float64(total), now)
	if ok {
		m.raise = max(0, min(clampMicro(least), m.mirror.capacity-pending)-have)
	}
}

// seconds is a time as seconds since the ledger was created.
func (t ledgerTime) seconds() float64 { return float64(t) / float64(time.Second) }

// clampMicro converts tokens to micro, clamped so that sums do not overflow.
func clampMicro(tokens float64) int64 {
	const most = maxLimit
	return int64(math.Floor(max(-most, min(most, tokens)) * micro))
}
