// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"math"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// Totals are counters since the budget was created.
type Totals struct {
	// Calls is the number of calls that ended with a known outcome.
	Calls int64 `json:"calls,omitempty"`
	// Lost is the number of calls that ended without one.
	Lost int64 `json:"lost,omitempty"`
	// InputTokens, CachedInputTokens and OutputTokens are what the provider reported.
	InputTokens       int64 `json:"inputTokens,omitempty"`
	CachedInputTokens int64 `json:"cachedInputTokens,omitempty"`
	OutputTokens      int64 `json:"outputTokens,omitempty"`
	// RateLimitedTokens and RateLimitedRequests count the 429s that were short of tokens and of requests.
	RateLimitedTokens   int64 `json:"rateLimitedTokens,omitempty"`
	RateLimitedRequests int64 `json:"rateLimitedRequests,omitempty"`
	// QuotaExhausted counts the 429s of an exhausted quota.
	QuotaExhausted int64 `json:"quotaExhausted,omitempty"`
	// SlowDown counts the 503s that asked to slow down.
	SlowDown int64 `json:"slowDown,omitempty"`
	// Unauthorized counts the calls whose key was not accepted.
	Unauthorized int64 `json:"unauthorized,omitempty"`
}

// Level is the state of one bucket.
type Level struct {
	// Limit is the capacity.
	Limit int64
	// Window is the time in which Limit refills.
	Window time.Duration
	// Available is what may be reserved now. It may be negative after the provider's limit fell.
	Available int64
	// OtherUsagePerMinute is the estimated use of the limit by other clients, per minute. Charges for own calls beyond
	// their reservations are included.
	OtherUsagePerMinute int64
}

// PerSecond is the refill that may be used, per second: ratePercent of the limit, and no more than others leave.
func (l *Level) PerSecond(ratePercent int32) float64 {
	if l.Window <= 0 {
		return 0
	}
	refill := float64(l.Limit) / l.Window.Seconds()
	return max(0, min(refill*float64(ratePercent)/100, refill-float64(l.OtherUsagePerMinute)/60))
}

// Stats are the figures of a budget.
type Stats struct {
	// TokensPerMinute and RequestsPerMinute are the limits in force: those in the headers, if they are followed.
	// A project's limit counts if it is lower.
	TokensPerMinute, RequestsPerMinute int64
	// RatePercent is the percentage of the limits in use: the target, or less during the recovery from a "slow down".
	RatePercent int32
	// TokensLastMinute and RequestsLastMinute are what was reserved in the last 60 seconds, without canceled calls.
	TokensLastMinute, RequestsLastMinute int64
	// ReservedTokens is the sum of the reservations of running calls, InFlight their number.
	ReservedTokens int64
	InFlight       int32
	// Totals are counters since the budget was created.
	Totals Totals
	// Throttles count the provider's rejections by kind, in a fixed order, without kinds that did not happen.
	Throttles []v1alpha1.ThrottleCount
	// Tokens and Requests are the buckets per minute.
	Tokens, Requests Level
	// Project and RequestsPerDay are set if the provider's headers showed such a limit.
	Project, RequestsPerDay *Level
	// QuotaUsed is the usage of the quota in the period from QuotaPeriodStart to QuotaPeriodEnd, without
	// ReservedTokens. Zero without a quota.
	QuotaUsed                        int64
	QuotaPeriodStart, QuotaPeriodEnd time.Time
	// QuotaExhausted is true if less is left of the quota than a call needs.
	QuotaExhausted bool
	// Hold is why the budget is held, or empty.
	Hold HoldReason
	// Throttled is true if the provider rejected a call for its rate less than a minute ago, and during the recovery
	// from a "slow down".
	Throttled bool
	// ResumeAt is when calls are sent again while they are held or blocked by a Retry-After. Zero: they are not, or
	// they are held until the key changes.
	ResumeAt time.Time
	// DispatchDelay is the current bound on the time from Reserve to admission.
	DispatchDelay time.Duration
	// BlockedSeconds is how long the first call in line had to wait, by the Dimension it was short of.
	BlockedSeconds [dimensions]float64
}

// Stats returns the budget's figures.
func (l *Ledger) Stats(now time.Time) Stats {
	l.advance(now)
	l.quota.roll(l.limits.Quota, now)
	recent := l.usage.lastMinute(l.now)
	s := Stats{
		TokensPerMinute: l.meters[tokenMeter].limit, RequestsPerMinute: l.meters[requestMeter].limit,
		RatePercent:      int32(math.Round(l.ratePercent())),
		TokensLastMinute: recent[tokenUnit], RequestsLastMinute: recent[requestUnit],
		ReservedTokens: l.reserved, InFlight: int32(min(len(l.calls), math.MaxInt32)),
		Totals: l.totals, Throttles: l.totals.throttles(),
		Tokens: *l.level(tokenMeter), Project: l.level(projectMeter), RequestsPerDay: l.level(dailyMeter),
		QuotaUsed: l.quota.used, QuotaPeriodStart: l.quota.start, QuotaPeriodEnd: l.quota.end,
		QuotaExhausted: l.quota.exhausted(),
		Throttled:      l.rejection.seen && l.now-l.rejection.last < ledgerTime(time.Minute) || l.slow.recovering(l.now),
		DispatchDelay:  time.Duration(l.delay()),
		BlockedSeconds: l.blocked.seconds(l.now),
	}
	if r := l.level(requestMeter); r != nil {
		s.Requests = *r
	}
	if s.Project != nil {
		s.TokensPerMinute = min(s.TokensPerMinute, s.Project.Limit)
	}
	s.Hold, s.ResumeAt, _ = l.Held(now)
	if s.Hold == "" {
		s.ResumeAt = l.unblocked()
	}
	return s
}

// unblocked is when the last Retry-After ends; zero if none is in force.
func (l *Ledger) unblocked() time.Time {
	latest := l.now
	for i := range l.meters {
		if m := &l.meters[i]; m.active {
			latest = max(latest, m.blockedUntil)
		}
	}
	if latest == l.now {
		return time.Time{}
	}
	return l.time(latest)
}

// level describes a meter; nil for one that is not active.
func (l *Ledger) level(i int) *Level {
	m := &l.meters[i]
	if !m.active {
		return nil
	}
	return &Level{
		Limit: m.limit, Window: m.window, Available: floorTokens(m.available(l.inflight.pending)),
		OtherUsagePerMinute: int64(m.others.rate * 60),
	}
}

// floorTokens converts micro to whole tokens, rounding down.
func floorTokens(level int64) int64 {
	if level < 0 {
		return -((-level + micro - 1) / micro)
	}
	return level / micro
}

// throttles lists the rejections, in the order of the API's documentation.
func (t *Totals) throttles() []v1alpha1.ThrottleCount {
	var list []v1alpha1.ThrottleCount
	for _, one := range [...]v1alpha1.ThrottleCount{
		{Kind: v1alpha1.FailureRateLimited, Count: t.RateLimitedTokens + t.RateLimitedRequests},
		{Kind: v1alpha1.FailureQuotaExhausted, Count: t.QuotaExhausted},
		{Kind: v1alpha1.FailureSlowDown, Count: t.SlowDown},
	} {
		if one.Count > 0 {
			list = append(list, one)
		}
	}
	return list
}

// usageSlots are the seconds that make a minute.
const usageSlots = 60

// usage counts what was reserved in each of the last 60 seconds.
type usage struct {
	slots [usageSlots]struct {
		second int64
		sums   sums
	}
}

// second is the second that a time lies in.
func (t ledgerTime) second() int64 { return int64(math.Floor(t.seconds())) }

// add counts a reservation at a time, or removes it with times = -1.
func (u *usage) add(at ledgerTime, cost sums, times int64) {
	second := at.second()
	s := &u.slots[((second%usageSlots)+usageSlots)%usageSlots]
	if s.second != second {
		if times < 0 || s.second > second {
			return
		}
		s.second, s.sums = second, sums{}
	}
	for i := range cost {
		s.sums[i] += times * cost[i]
	}
}

// lastMinute sums up the last 60 seconds, to the second.
func (u *usage) lastMinute(now ledgerTime) sums {
	var total sums
	for i := range u.slots {
		if s := &u.slots[i]; s.second > now.second()-usageSlots && s.second <= now.second() {
			for j := range total {
				total[j] += s.sums[j]
			}
		}
	}
	return total
}

// blocked measures how long reservations were denied, by dimension: from a denial to the next success, but not beyond
// the time at which the call would have fitted.
type blocked struct {
	by    Dimension
	since ledgerTime
	until ledgerTime
	sum   [dimensions]time.Duration
}

// note records a verdict of Reserve.
func (b *blocked) note(v Verdict, now, retryAt ledgerTime) {
	b.settle(now)
	b.by, b.since, b.until = v.Dimension, now, retryAt
	if v.OK || v.Dimension == TooLarge {
		b.by = None
	} else if v.RetryAt.IsZero() {
		b.until = never
	}
}

// settle counts the time that has passed.
func (b *blocked) settle(now ledgerTime) {
	if b.by != None {
		b.sum[b.by] += time.Duration(max(0, min(now, b.until)-b.since))
		b.since = now
	}
}

func (b *blocked) seconds(now ledgerTime) [dimensions]float64 {
	b.settle(now)
	var s [dimensions]float64
	for i, d := range b.sum {
		s[i] = d.Seconds()
	}
	return s
}
