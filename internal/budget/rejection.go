// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"math"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

const (
	// slowHold is how long the halved rate is kept after a "slow down", slowRecovery when the full rate is restored:
	// in between it grows linearly.
	slowHold     = ledgerTime(3 * time.Minute)
	slowRecovery = ledgerTime(15 * time.Minute)
	// slowTogether is the time within which several "slow down" count as one: calls in flight fail together.
	slowTogether = ledgerTime(10 * time.Second)
	// slowLeast is the lowest rate factor.
	slowLeast = 1.0 / 16

	// rejectedTogether is the time within which several 429s count as one.
	rejectedTogether = ledgerTime(time.Second)
	// blindWait is how long a bucket is blocked after a 429 with neither headers nor Retry-After. It doubles with each
	// consecutive one, up to blindLongest.
	blindWait    = ledgerTime(time.Second)
	blindLongest = ledgerTime(16 * time.Second)
	// blindShare is by how much the estimate of other usage grows after a 429 without headers, as a part of the refill.
	blindShare = 0.1
	// headersGone is the time without headers after which they count as missing.
	headersGone = ledgerTime(time.Minute)
)

// slowdown is the recovery from a 503 "slow down".
type slowdown struct {
	active bool
	at     ledgerTime // of the last one
	base   float64    // the factor right after it
}

// hit halves the present rate.
func (s *slowdown) hit(now ledgerTime) {
	if s.active && now-s.at < slowTogether {
		return
	}
	s.base = max(s.factor(now)/2, slowLeast)
	s.active, s.at = true, now
}

// factor is the rate factor in force: halved, held, then growing linearly to 1.
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

// recovering reports whether the rate is below its target.
func (s *slowdown) recovering(now ledgerTime) bool { return s.active && now-s.at < slowRecovery }

// rejections tracks 429s.
type rejections struct {
	seen        bool
	last        ledgerTime
	consecutive int // blind ones since a call succeeded
}

// rateLimited empties the bucket that was short and blocks it for Retry-After. The meters have already applied the
// level in the headers.
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
		m.others.rate = min(m.others.rate+blindShare*m.refillPerSecond(), othersMost*m.refillPerSecond())
	}
	l.setRates()
}

// shortOf is the meter that a rejected call exceeded. Without headers it is the token bucket: calls run out of tokens
// long before they run out of requests.
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
