// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// Limits are the limits of a budget's spec.
type Limits struct {
	// TokensPerMinute is the provider's token limit; with FollowHeaders the initial value.
	TokensPerMinute int64
	// RequestsPerMinute is the provider's request limit; with FollowHeaders the initial value. Zero means none.
	RequestsPerMinute int64
	// TargetUtilizationPercent is the percentage of the refill to use, 1 to 100. Zero means 100. It scales the rate,
	// not the capacity: a call as large as the whole limit can still be sent.
	TargetUtilizationPercent int32
	// FollowHeaders makes the ledger adopt limits and levels from the provider's headers.
	FollowHeaders bool
	// Quota is the spending cap, or nil.
	Quota *Quota
	// DispatchDelay bounds the time from Reserve to the provider's admission of the call. Zero means
	// DefaultDispatchDelay. Calls that take longer raise the bound automatically.
	DispatchDelay time.Duration
}

// DefaultDispatchDelay is the bound on the time from Reserve to admission without Limits.DispatchDelay.
const DefaultDispatchDelay = 2 * time.Second

// Quota caps the tokens spent in a period.
type Quota struct {
	// Tokens is the cap for one period, input and output together.
	Tokens int64
	// Period is how often the quota resets, in UTC.
	Period v1alpha1.QuotaPeriod
}

// Dimension is what a call is short of.
type Dimension uint8

// The dimensions of a verdict.
const (
	// None: nothing is short.
	None Dimension = iota
	// Tokens: the token bucket, the project's included.
	Tokens
	// Requests: the request bucket, per minute or per day.
	Requests
	// QuotaTokens: the spending cap of the spec.
	QuotaTokens
	// Held: the budget is held because the provider rejects all calls; see Ledger.Held.
	Held
	// TooLarge: the call is larger than a whole limit and can never be sent. Verdict.Limit has the number.
	TooLarge

	dimensions = int(TooLarge) + 1
)

// String is a bounded metric label.
func (d Dimension) String() string {
	switch d {
	case None:
		return "none"
	case Tokens:
		return "tokens"
	case Requests:
		return "requests"
	case QuotaTokens:
		return "quota"
	case Held:
		return "held"
	case TooLarge:
		return "too_large"
	default:
		return "unknown"
	}
}

// Verdict is whether a call may be sent, and if not, what it waits for.
type Verdict struct {
	// OK is true if the call may be sent. After Reserve it is reserved.
	OK bool
	// Dimension is what the call is short of; of several, the one that takes longest.
	Dimension Dimension
	// RetryAt is when the call would fit if nothing else changed. Zero: unknown, an event is needed.
	RetryAt time.Time
	// Probe is true for a call on a held budget that tests whether the provider accepts calls again.
	Probe bool
	// Need is the size of the call, in tokens. Set if Dimension is TooLarge.
	Need int64
	// Limit is the limit that Need exceeds, in tokens. Set if Dimension is TooLarge.
	Limit int64
	// ByHeader is true if Limit comes from a header and the call would fit the spec's limit: the header may change again.
	ByHeader bool
	// OwnQuota is true if Limit is the quota of the spec and not the provider's token limit.
	OwnQuota bool
}

// Result is how a call ended.
type Result struct {
	// Usage is what the provider reported; zero without an answer.
	Usage v1alpha1.TokenUsage
	// Observation is from the provider's headers; nil without headers.
	Observation *v1alpha1.RateLimitObservation
	// Class is the failure class, or empty for a call that succeeded.
	Class v1alpha1.FailureClass
	// RetryAfter is the minimum wait that the provider demanded, or zero.
	RetryAfter time.Duration
	// Code is the provider's own error code, or empty.
	Code string
	// Scan and Worker name whose call it was and who sent it: failures of several count as an outage, those of one do
	// not. Without a scan a failure is no evidence.
	Scan, Worker string
	// OnlyWorker means that no other worker could have sent the call.
	OnlyWorker bool
}

// Settlement is the result of Settle.
type Settlement struct {
	// Known is false if there was no such reservation: settled before, lost, canceled or never made.
	Known bool
	// Reserved is what was reserved, in tokens.
	Reserved int64
	// Charged is the provider's charge at admission, in tokens, if its headers prove it; otherwise zero.
	Charged int64
}
