package budget

import (
	"math"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

const (
	// slowHold is how long the halved rate is kept after a "slow down", slowRecovery when the full rate is back:
	// in between it grows linearly.
	slowHold     = ledgerTime(3 * time.Minute)
	slowRecovery = ledgerTime(15 * time.Minute)
	// slowTogether is the time in which several "slow down" count as one: calls under way fail together.
	slowTogether = ledgerTime(10 * time.Second)
	// slowLeast is the smallest part of the rate.
	slowLeast = 1.0 / 16

	// rejectedTogether is the time in which several 429s count as one.
	rejectedTogether = ledgerTime(time.Second)
	// blindWait is how long a bucket is blocked after a 429 that says neither what is left nor how long to wait. It
	// doubles with each in a row, up to blindLongest.
	blindWait    = ledgerTime(time.Second)
	blindLongest = ledgerTime(16 * time.Second)
	// blindShare is what others are believed to use more of, after a 429 without headers, as a part of the refill.
	blindShare = 0.1
	// headersGone is when headers count as missing.
	headersGone = ledgerTime(time.Minute)
)

// slowdown is the recovery from a 503 "slow down".
type slowdown struct {
	active bool
	at     ledgerTime // of the last one
	base   float64    // part of the rate right after it
}

// hit halves the rate there is.
func (s *slowdown) hit(now ledgerTime) {
	if s.active && now-s.at < slowTogether {
		return
	}
	s.base = max(s.factor(now)/2, slowLeast)
	s.active, s.at = true, now
}

// factor is the part of the rate in force: halved, held, then growing linearly to 1.
func (s *slowdown) factor(now ledgerTime) float64 {
	since := now - s.at
	switch {
	case !s.active || since >= slowRecovery:
		return 1
	case since <= slowHold:
		return s.base
	default:
		return s.base + (1-s.base)*float64(since-slowHold)/float64(slowRecovery-slowHold)
	}
}

// recovering says whether the rate is still below its target.
func (s *slowdown) recovering(now ledgerTime) bool { return s.active && now-s.at < slowRecovery }

// rejections remembers 429s.
type rejections struct {
	seen        bool
	last        ledgerTime
	consecutive int // blind ones since a call succeeded
}

// rateLimited empties the bucket that was short and blocks it for Retry-After. What the bucket really had is the
// word of the headers, which the meters have followed already.
func (l *Ledger) rateLimited(c call, r Result, now ledgerTime) {
	i := l.shortOf(c, r.Observation)
	m := &l.meters[i]
	if m.unit == requestUnit {
		l.totals.RateLimitedRequests++
	} else {
		l.totals.RateLimitedTokens++
	}
	again := l.rejection.seen && now-l.rejection.last < rejectedTogether
	l.rejection.seen, l.rejection.last = true, now
	if !m.active {
		return
	}
	wait := ledgerTime(max(0, r.RetryAfter))
	if wait > retryAfterBlock {
		wait = blindWait // the hold does the rest
	}
	if wait == 0 && r.Observation == nil {
		wait = min(blindWait<<min(l.rejection.consecutive, 4), blindLongest)
		if !again {
			l.rejection.consecutive++
		}
	}
	m.empty(l.inflight.pending, now+wait)
	if again {
		return
	}
	m.others.onRejection(m.mirror.capacity)
	if !l.limits.FollowHeaders || !m.others.observed || now-m.others.at > headersGone {
		m.others.perSecond = min(m.others.perSecond+blindShare*m.perSecond(), othersMost*m.perSecond())
	}
	l.setRates()
}

// shortOf is the meter a rejected call was short of. Without headers it is the token bucket: calls are short of
// tokens long before they are short of requests.
func (l *Ledger) shortOf(c call, o *v1alpha1.RateLimitObservation) int {
	if o == nil {
		return tokenMeter
	}
	tokens := int64(math.MaxInt64)
	if o.LimitTokens > 0 {
		tokens = o.RemainingTokens
	}
	switch {
	case tokens < c.tokens:
		return tokenMeter
	case o.ProjectLimitTokens > 0 && o.ProjectRemainingTokens < c.tokens && l.meters[projectMeter].active:
		return projectMeter
	case o.LimitRequests > 0 && o.RemainingRequests < 1:
		if i := l.requestLimitOf(*o); i >= 0 {
			return i
		}
		return requestMeter
	default:
		return tokenMeter
	}
}
