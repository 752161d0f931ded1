package budget

import (
	"math"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

const (
	// networkSlack bounds the time from a worker's sending a call to the provider's admitting it.
	networkSlack = ledgerTime(250 * time.Millisecond)
	// clockSkew is how far a worker's clock may be off ours before its words are misjudged.
	clockSkew = ledgerTime(50 * time.Millisecond)
	// dayLimitFrom tells request limits per day from those per minute by the window the headers imply.
	dayLimitFrom = 30 * time.Minute
)

// headerLimits are the limits the provider's headers showed, and when the words that set them were spoken: words
// arrive out of order, and an older one must not undo a newer one.
type headerLimits struct {
	tokens, requests int64
	observedAt       [meters]ledgerTime
	// inherited is until when limits that an earlier leader knew stand without a word that confirms them.
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

// expire drops inherited limits that no word has confirmed, and says whether there were any: headers may have
// gone missing, and the spec may have changed.
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

// dispatchTimes remembers how long calls take from Reserve to being sent.
type dispatchTimes struct {
	longest ledgerTime // fades by half in about a minute; -1 while unknown
}

func (d *dispatchTimes) seen(took ledgerTime) { d.longest = max(d.longest, took) }

func (d *dispatchTimes) fade(elapsed ledgerTime) {
	if d.longest > 0 {
		d.longest = ledgerTime(float64(d.longest) * math.Exp2(-float64(elapsed)/float64(time.Minute)))
	}
}

// observation is what the provider said of one bucket: so much was left right after a certain admission, which lies
// between two instants, with so much of ours charged by then.
type observation struct {
	from, to  ledgerTime
	remaining int64
	// certain and possible are what had been reserved, in all, of which the provider had seen all and at most.
	certain, possible int64
	// certainKnown is false where certain is not known.
	certainKnown bool
}

// observe follows the provider's headers. It returns what the call was charged, where that is proved: the bucket
// was full before it and nothing else of ours was on its way.
func (l *Ledger) observe(c call, r Result, rejected bool, now ledgerTime) int64 {
	o := clampObservation(*r.Observation)
	w, spoken := l.admission(c, o, now)
	if r.Class != v1alpha1.FailureUnavailable && r.Class != v1alpha1.FailureBlocked { // those may be a gateway's own
		l.followLimits(o, w.from)
	}
	possible, ok := l.past.until(w.to + clockSkew)
	if !ok {
		return 0
	}
	certain, known := l.past.until(spoken)
	for i, remaining := range [meters]int64{
		tokenMeter: o.RemainingTokens, projectMeter: o.ProjectRemainingTokens,
		requestMeter: o.RemainingRequests, dailyMeter: o.RemainingRequests,
	} {
		m := &l.meters[i]
		if limit := l.shown(i, o); !m.active || limit <= 0 || limit != m.limit {
			continue
		}
		w.remaining, w.certainKnown = remaining, known
		w.certain, w.possible = certain[m.unit], possible[m.unit]
		charged := m.unit == requestUnit || !rejected
		if own := c.cost()[m.unit]; charged && c.at > spoken && w.certain+own <= w.possible {
			w.certain += own // The word was spoken after the call itself was charged.
		}
		m.apply(w, l.past.total[m.unit], l.inflight.pending[m.unit]*micro, now)
	}
	l.setRates()
	if c.alone && !rejected && l.alone.next > w.to && l.alone.seq == c.seq && o.LimitTokens > 0 {
		return max(0, o.LimitTokens-o.RemainingTokens)
	}
	return 0
}

// clampObservation is an observation without numbers that cannot be.
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

// admission is when the provider admitted a call, and the latest instant of reservations it had surely seen by
// then.
func (l *Ledger) admission(c call, o v1alpha1.RateLimitObservation, now ledgerTime) (w observation, spoken ledgerTime) {
	if o.SentAt.IsZero() {
		return observation{from: c.at, to: min(now, c.at+l.delay())}, c.at - l.delay()
	}
	sent := min(max(l.at(o.SentAt.Time), c.at), now)
	l.dispatch.seen(sent - c.at)
	w = observation{from: sent, to: min(now, sent+networkSlack)}
	return w, sent - l.dispatch.longest - clockSkew - coalesceWithin
}

// shown is the limit that an observation shows for a meter, or zero.
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

// requestLimitOf is the meter that the request headers speak of: the limit per minute or the one per day. The
// headers do not say which; the time to full does: window = reset × limit ÷ used. Where nothing is used, the
// limit's size must match a known one; -1 where it does not.
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

// followLimits puts the limits in force that the headers of a call sent at an instant show. Calls sent within
// networkSlack may have been admitted in the other order; of their limits the lower one counts.
//
// With a raised limit the mirror stays as low as it is: the words that follow raise it.
func (l *Ledger) followLimits(o v1alpha1.RateLimitObservation, sent ledgerTime) {
	changed := false
	had := [meters]int64{}
	for i := range l.meters {
		m := &l.meters[i]
		if had[i] = m.mirror.level; !m.active {
			had[i] = math.MaxInt64
		}
		limit, spoken := l.shown(i, o), l.headers.observedAt[i]
		if limit <= 0 || spoken != 0 && (sent < spoken || limit > m.limit && sent < spoken+networkSlack) {
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

// discover starts or resizes a meter that only headers tell of, and returns the most its mirror may have until a
// word says more. What a new one has is the word that follows.
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

// apply takes the provider's word on this meter's bucket. Total is everything reserved until now, pending what of
// it may not have landed, in micro.
//
// Between two instants without the bucket running full, level + own charges − refill changes only by what others
// take. That sum (follower calls it standing) makes words about different instants comparable, in whatever order
// they arrive.
func (m *meter) apply(w observation, total, pending int64, now ledgerTime) {
	f := &m.others
	f.note(w, m.perSecond())
	f.estimate(m.perSecond(), float64(m.limit), now)
	f.coverClusters(m.mirror.capacity)

	// At most this much is there: more of ours may have been on its way, and less refill may have come.
	standing := float64(w.remaining+1) - m.perSecond()*w.from.seconds() + float64(w.possible)
	most := standing + m.perSecond()*now.seconds() - float64(total) - f.perSecond*(now-w.to).seconds()
	have := m.mirror.level - pending
	if gap := have - clampMicro(most); gap > 0 {
		m.lower(gap)
		f.onOvershoot(gap, m.mirror.capacity)
		return
	}
	m.raise = 0
	least, ok := f.lowerBound(m.perSecond(), float64(m.limit), float64(total), now)
	if ok {
		m.raise = max(0, min(clampMicro(least), m.mirror.capacity-pending)-have)
	}
}

// seconds is an instant as seconds since the ledger was made.
func (i ledgerTime) seconds() float64 { return float64(i) / float64(time.Second) }

// clampMicro converts tokens to micro, within what an int64 can hold with room to add.
func clampMicro(tokens float64) int64 {
	const most = maxLimit
	return int64(math.Floor(max(-most, min(most, tokens)) * micro))
}
