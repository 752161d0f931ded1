// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// TokenUsage is what a stage reserved and what it used.
//
// +kubebuilder:validation:MinProperties=1
type TokenUsage struct {
	// reserved is what was taken from the budget before the call, all attempts together.
	// +kubebuilder:validation:Minimum=1
	// +optional
	Reserved int64 `json:"reserved,omitempty"`

	// input is the number of input tokens the provider reported, cached ones included.
	// +kubebuilder:validation:Minimum=1
	// +optional
	Input int64 `json:"input,omitempty"`

	// cachedInput is the part of input that the provider had cached.
	// +kubebuilder:validation:Minimum=1
	// +optional
	CachedInput int64 `json:"cachedInput,omitempty"`

	// output is the number of output tokens the provider reported.
	// +kubebuilder:validation:Minimum=1
	// +optional
	Output int64 `json:"output,omitempty"`
}

// RateLimitObservation has the values of the provider's x-ratelimit headers. The provider fixes them when
// it admits the call. Zero limits mean that the headers were missing.
//
// +kubebuilder:validation:MinProperties=0
type RateLimitObservation struct {
	// sentAt is when the call was sent.
	// +optional
	SentAt metav1.MicroTime `json:"sentAt,omitzero"`

	// limitTokens is x-ratelimit-limit-tokens.
	// +kubebuilder:validation:Minimum=1
	// +optional
	LimitTokens int64 `json:"limitTokens,omitempty"`

	// remainingTokens is x-ratelimit-remaining-tokens.
	// +kubebuilder:validation:Minimum=1
	// +optional
	RemainingTokens int64 `json:"remainingTokens,omitempty"`

	// limitRequests is x-ratelimit-limit-requests.
	// +kubebuilder:validation:Minimum=1
	// +optional
	LimitRequests int64 `json:"limitRequests,omitempty"`

	// remainingRequests is x-ratelimit-remaining-requests.
	// +kubebuilder:validation:Minimum=1
	// +optional
	RemainingRequests int64 `json:"remainingRequests,omitempty"`

	// resetRequestsMilliseconds is x-ratelimit-reset-requests in milliseconds. With the limit and the remaining
	// requests it shows whether the limit is per minute or per day.
	// +kubebuilder:validation:Minimum=1
	// +optional
	ResetRequestsMilliseconds int64 `json:"resetRequestsMilliseconds,omitempty"`

	// projectLimitTokens is x-ratelimit-limit-project-tokens, where a project limit applies.
	// +kubebuilder:validation:Minimum=1
	// +optional
	ProjectLimitTokens int64 `json:"projectLimitTokens,omitempty"`

	// projectRemainingTokens is x-ratelimit-remaining-project-tokens, where a project limit applies.
	// +kubebuilder:validation:Minimum=1
	// +optional
	ProjectRemainingTokens int64 `json:"projectRemainingTokens,omitempty"`
}

// FailureClass is the kind of a failure. It decides what happens next.
//
// +kubebuilder:validation:Enum=RateLimited;QuotaExhausted;SlowDown;Unavailable;Timeout;InvalidOutput;Refused;InvalidRequest;Unauthorized;RequestTooLarge;NotClassifiable;WorkerLost;Drained;Internal;Unreachable;Blocked;KeyMissing
type FailureClass string

// The classes of failure.
const (
	// FailureRateLimited: 429 rate_limit_exceeded. Not an attempt; sent again when the budget has room.
	FailureRateLimited FailureClass = "RateLimited"
	// FailureQuotaExhausted: 429 insufficient_quota or a related code. Not an attempt; the budget is held.
	FailureQuotaExhausted FailureClass = "QuotaExhausted"
	// FailureSlowDown: 503 "slow down". An attempt; the budget's rate is halved.
	FailureSlowDown FailureClass = "SlowDown"
	// FailureUnavailable: 5xx, or a connection that broke after the call was sent. An attempt, but attempts alone do not
	// end the scan while the failures are recent.
	FailureUnavailable FailureClass = "Unavailable"
	// FailureTimeout: no answer before the stage's deadline. An attempt.
	FailureTimeout FailureClass = "Timeout"
	// FailureInvalidOutput: malformed or truncated output. An attempt.
	FailureInvalidOutput FailureClass = "InvalidOutput"
	// FailureRefused: the model declined. Terminal.
	FailureRefused FailureClass = "Refused"
	// FailureInvalidRequest: 400, 413 or 422 from the provider itself. Terminal.
	FailureInvalidRequest FailureClass = "InvalidRequest"
	// FailureUnauthorized: 401, or 403 with a code of the account: the provider rejects the budget's key. Not an attempt;
	// the budget is held.
	FailureUnauthorized FailureClass = "Unauthorized"
	// FailureRequestTooLarge: the call is larger than the whole limit. Terminal.
	FailureRequestTooLarge FailureClass = "RequestTooLarge"
	// FailureNotClassifiable: the class is outside the taxonomy. Terminal.
	FailureNotClassifiable FailureClass = "NotClassifiable"
	// FailureWorkerLost: the worker's Lease ended. Not an attempt.
	FailureWorkerLost FailureClass = "WorkerLost"
	// FailureDrained: the worker handed the scan back. Not an attempt.
	FailureDrained FailureClass = "Drained"
	// FailureInternal: a fault of this system. An attempt.
	FailureInternal FailureClass = "Internal"
	// FailureUnreachable: the call was not sent, because the name was not resolved or no connection was made. Not an
	// attempt, and it costs no tokens.
	FailureUnreachable FailureClass = "Unreachable"
	// FailureBlocked: 403, or another 4xx that is not the provider's own JSON: a missing permission, or a proxy or
	// firewall in front of the provider. An attempt.
	FailureBlocked FailureClass = "Blocked"
	// FailureKeyMissing: the worker has no key of the budget yet. Not an attempt; another worker takes the scan.
	FailureKeyMissing FailureClass = "KeyMissing"
)

// StageFailure is the last failure of a stage.
type StageFailure struct {
	// class is the kind of failure.
	// +required
	Class FailureClass `json:"class,omitempty"`

	// code is the provider's own error code, if it gave one.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Code string `json:"code,omitempty"`

	// retryAfterMilliseconds is the least time to wait that the provider asked for.
	// +kubebuilder:validation:Minimum=1
	// +optional
	RetryAfterMilliseconds int64 `json:"retryAfterMilliseconds,omitempty"`

	// at is when it failed.
	// +optional
	At metav1.MicroTime `json:"at,omitzero"`
}
