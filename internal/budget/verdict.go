package budget

import (
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// Limits are what a budget allows, as its spec says.
type Limits struct {
	// TokensPerMinute is the provider's token limit: the start value where FollowHeaders is true.
	TokensPerMinute int64
	// RequestsPerMinute is the provider's request limit: the start value where FollowHeaders is true. Zero: there
	// is none.
	RequestsPerMinute int64
	// TargetUtilizationPercent is how much of the refill is used, 1 to 100. Zero means 100. It scales the rate,
	// not the capacity: a call as large as the whole limit can still be sent.
	TargetUtilizationPercent int32
	// FollowHeaders lets observations change limits and levels.
	FollowHeaders bool
	// Quota is an own spending cap, or nil.
	Quota *Quota
	// DispatchDelay bounds the time from Reserve to the provider's admission of the call. Zero means
	// DefaultDispatchDelay. Calls that were seen to take longer raise the bound by themselves.
	DispatchDelay time.Duration
}

// DefaultDispatchDelay is the bound on the time from Reserve to admission where Limits has none.
const DefaultDispatchDelay = 2 * time.Second

// Quota caps the tokens spent in a period.
type Quota struct {
	// Tokens may be used in one period, input and output together.
	Tokens int64
	// Period is how often the quota begins anew, in UTC.
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
	// QuotaTokens: the own spending cap.
	QuotaTokens
	// Held: the provider refuses everything for now; see Ledger.Held.
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

// Verdict says whether a call may be sent, and if not, what it waits for.
type Verdict struct {
	// OK means that the call may be sent (Reserve: is reserved).
	OK bool
	// Dimension is what the call is short of. Of several it is the one that takes longest.
	Dimension Dimension
	// RetryAt is the instant the call would fit if nothing else changed. Zero: unknown, an event is needed.
	RetryAt time.Time
	// Probe means that the budget is held and this call tests whether it works again.
	Probe bool
	// Need is what was asked for, in tokens. Set where Dimension is TooLarge.
	Need int64
	// Limit is the whole limit that Need exceeds, in tokens. Set where Dimension is TooLarge.
	Limit int64
	// ByHeader means that the spec's limit would do: Limit comes from a header, and may change without anybody's doing.
	ByHeader bool
	// OwnQuota means that Limit is the budget's own quota and not the provider's token limit.
	OwnQuota bool
}

// Result is how a call ended.
type Result struct {
	// Usage is what the provider reported; zero where no answer came.
	Usage v1alpha1.TokenUsage
	// Observation is what the provider's headers said; nil where there were none.
	Observation *v1alpha1.RateLimitObservation
	// Class is the failure class, or empty for a call that succeeded.
	Class v1alpha1.FailureClass
	// RetryAfter is the least time to wait that the provider asked for, or zero.
	RetryAfter time.Duration
	// Code is the provider's own error code, or empty.
	Code string
	// Scan and Worker name whose call it was and who sent it: failures of several count as an outage, those of one do
	// not. Without a scan a failure is no evidence.
	Scan, Worker string
	// OnlyWorker means that no other worker could have sent the call.
	OnlyWorker bool
}

// Settlement is what Settle found out about a call.
type Settlement struct {
	// Known is false where no such reservation existed: settled before, lost, canceled or never made.
	Known bool
	// Reserved is what was reserved, in tokens.
	Reserved int64
	// Charged is what the provider charged at admission as its headers prove, in tokens; zero where they do not.
	Charged int64
}
