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

// Level is where one bucket stands.
type Level struct {
	// Limit is the capacity.
	Limit int64
	// Window is the time in which Limit refills.
	Window time.Duration
	// Available is what may be reserved now. It may be negative after the provider's limit fell.
	Available int64
	// OtherUsagePerMinute is what others are believed to use of the limit, per minute. Our own calls being charged
	// more than was reserved shows here too.
	OtherUsagePerMinute int64
}

// PerSecond is what we may use of the bucket's refill, per second: a part of the limit, in percent, and no more than
// others leave.
func (l *Level) PerSecond(ratePercent int32) float64 {
	if l.Window <= 0 {
		return 0
	}
	refill := float64(l.Limit) / l.Window.Seconds()
	return max(0, min(refill*float64(ratePercent)/100, refill-float64(l.OtherUsagePerMinute)/60))
}

// Stats is where a budget stands.
type Stats struct {
	// TokensPerMinute and RequestsPerMinute are the limits in force, the provider's word where it is followed.
	// A project's limit counts where it is the lower one.
	TokensPerMinute, RequestsPerMinute int64
	// RatePercent is the part of the limits that is used now: the target, less while a "slow down" is recovered from.
	RatePercent int32
	// TokensLastMinute and RequestsLastMinute are what was reserved in the last 60 seconds and not canceled.
	TokensLastMinute, RequestsLastMinute int64
	// ReservedTokens is the sum of the reservations of running calls, InFlight their number.
	ReservedTokens int64
	InFlight       int32
	// Totals are counters since the budget was created.
	Totals Totals
	// Throttles are the provider's rejections by kind, those that happened only, in a fixed order.
	Throttles []v1alpha1.ThrottleCount
	// Tokens and Requests are the buckets per minute.
	Tokens, Requests Level
	// Project and RequestsPerDay are set where the provider's headers showed such a limit.
	Project, RequestsPerDay *Level
	// QuotaUsed is what was used of the own quota in the period from QuotaPeriodStart to QuotaPeriodEnd. Zero
	// without a quota. ReservedTokens may come on top.
	QuotaUsed                        int64
	QuotaPeriodStart, QuotaPeriodEnd time.Time
	// QuotaExhausted means that what is left of the own quota is less than a call needs.
	QuotaExhausted bool
	// Hold is why the budget is held, or empty.
	Hold HoldReason
	// Throttled means that the provider rejected a call for its rate less than a minute ago, or that a
	// "slow down" is being recovered from.
	Throttled bool
	// ResumeAt is when calls are sent again, while they are held or blocked by a Retry-After. Zero: they are not,
	// or until the key changes.
	ResumeAt time.Time
	// DispatchDelay is the bound in use on the time from Reserve to admission.
	DispatchDelay time.Duration
	// BlockedSeconds is how long the first call in line was kept waiting, by what it was short of. The index is a
	// Dimension.
	BlockedSeconds [dimensions]float64
}

// Stats says where the budget stands.
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

// unblocked is when the last Retry-After ends, or zero.
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

// level describes a meter, or returns nil where it is not in use.
func (l *Ledger) level(i int) *Level {
	m := &l.meters[i]
	if !m.active {
		return nil
	}
	return &Level{
		Limit: m.limit, Window: m.window, Available: floorTokens(m.available(l.inflight.pending)),
		OtherUsagePerMinute: int64(m.others.perSecond * 60),
	}
}

// floorTokens converts micro to whole tokens, rounding down.
func floorTokens(level int64) int64 {
	if level < 0 {
		return -((-level + micro - 1) / micro)
	}
	return level / micro
}

// throttles lists the rejections that happened, in the order of the API's documentation.
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

// second is which second an instant lies in.
func (i ledgerTime) second() int64 { return int64(math.Floor(i.seconds())) }

// add counts a reservation of an instant: once, or, with -1, as never made.
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

// blocked measures how long reservations were refused, by dimension: from a refusal to the next success, but not
// beyond the instant at which the call would have fitted.
type blocked struct {
	by    Dimension
	since ledgerTime
	until ledgerTime
	sum   [dimensions]time.Duration
}

// note takes a verdict of Reserve.
func (b *blocked) note(v Verdict, now, retryAt ledgerTime) {
	b.settle(now)
	b.by, b.since, b.until = v.Dimension, now, retryAt
	if v.OK || v.Dimension == TooLarge {
		b.by = None
	} else if v.RetryAt.IsZero() {
		b.until = never
	}
}

// settle counts what has passed.
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
