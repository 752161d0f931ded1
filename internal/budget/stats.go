package budget

import (
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
	// ForeignPerMinute is what others are believed to use of the limit, per minute.
	ForeignPerMinute int64
}

// Stats is where a budget stands.
type Stats struct {
	// TokensPerMinute and RequestsPerMinute are the limits in force, the provider's word where it is followed.
	// A project's limit counts where it is the lower one.
	TokensPerMinute, RequestsPerMinute int64
	// RatePercent is the part of the limits that is used now: the target, less while a "slow down" is recovered from.
	RatePercent int32
	// TokensLastMinute and RequestsLastMinute are what was reserved in the last 60 seconds and not cancelled.
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
	// QuotaUsed is what was used of the own quota in the period that began at QuotaPeriodStart, QuotaReserved
	// what running calls may add. All zero without a quota.
	QuotaUsed, QuotaReserved int64
	QuotaPeriodStart         time.Time
	// Hold is why the budget is held, or empty.
	Hold HoldReason
	// Throttled means that the provider rejected a call for its rate less than a minute ago, or that a
	// "slow down" is being recovered from.
	Throttled bool
	// ResumeAt is when calls are sent again, while they are held. Zero: not held, or until the key changes.
	ResumeAt time.Time
	// BlockedSeconds is how long the first call in line was kept waiting, by what it was short of. The index is a
	// Dimension.
	BlockedSeconds [dimensions]float64
}

// Stats says where the budget stands.
func (l *Ledger) Stats(_ time.Time) Stats {
	s := Stats{
		TokensPerMinute: l.limits.TokensPerMinute, RequestsPerMinute: l.limits.RequestsPerMinute,
		RatePercent: l.limits.TargetUtilizationPercent, InFlight: int32(min(len(l.calls), 1<<30)),
	}
	for _, tokens := range l.calls {
		s.ReservedTokens += tokens
	}
	return s
}
