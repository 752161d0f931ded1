// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SecretKeyReference names one key of a Secret in the same namespace.
type SecretKeyReference struct {
	// name is the Secret's name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name,omitempty"`

	// key is the key within the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]+$`
	// +required
	Key string `json:"key,omitempty"`
}

// QuotaPeriod is the period of a spending quota, in UTC.
//
// +kubebuilder:validation:Enum=Hour;Day;Month
type QuotaPeriod string

// The periods of a spending quota.
const (
	QuotaPerHour  QuotaPeriod = "Hour"
	QuotaPerDay   QuotaPeriod = "Day"
	QuotaPerMonth QuotaPeriod = "Month"
)

// TokenQuota caps what may be spent in a period.
type TokenQuota struct {
	// tokens is the number of input and output tokens that may be used in one period.
	// +kubebuilder:validation:Minimum=1
	// +required
	Tokens int64 `json:"tokens,omitempty"`

	// period is how often the quota starts again, in UTC.
	// +required
	Period QuotaPeriod `json:"period,omitempty"`
}

// RateLimitHeaderPolicy says what to do with the provider's x-ratelimit headers.
//
// +kubebuilder:validation:Enum=Follow;Ignore
type RateLimitHeaderPolicy string

// The policies for the provider's x-ratelimit headers.
const (
	// RateLimitHeadersFollow lets the headers correct the limits and what is left of them.
	RateLimitHeadersFollow RateLimitHeaderPolicy = "Follow"
	// RateLimitHeadersIgnore uses the configured limits only.
	RateLimitHeadersIgnore RateLimitHeaderPolicy = "Ignore"
)

// TokenBudgetSpec is one account at one provider, with its limits.
type TokenBudgetSpec struct {
	// endpoint is the provider's base URL up to and including the version, for example
	// https://api.openai.com/v1. Default: the manager's --default-endpoint, which is OpenAI's unless set.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHost() != ''",message="endpoint must be an absolute http or https URL"
	// +optional
	Endpoint string `json:"endpoint,omitempty"`

	// secretRef names the Secret that holds the provider's key.
	// +required
	SecretRef SecretKeyReference `json:"secretRef,omitzero"`

	// models are the models this budget pays for. They share the limits. 1 to 32 names.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	// +listType=set
	// +required
	Models []string `json:"models,omitempty"`

	// tokensPerMinute is the provider's token limit (TPM).
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000000000
	// +required
	TokensPerMinute int64 `json:"tokensPerMinute,omitempty"`

	// requestsPerMinute is the provider's request limit (RPM).
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000000
	// +required
	RequestsPerMinute int64 `json:"requestsPerMinute,omitempty"`

	// quota is a cap on spending, below the provider's own.
	// +optional
	Quota *TokenQuota `json:"quota,omitempty"`

	// targetUtilizationPercent is how much of the limits to use. 1 to 100, default 95. Leave room if other
	// clients use the same key.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +kubebuilder:default=95
	// +optional
	TargetUtilizationPercent int32 `json:"targetUtilizationPercent,omitempty"`

	// rateLimitHeaders says what to do with the provider's x-ratelimit headers: Follow lets them correct the limits
	// and what is left of them; Ignore uses the configured limits only. Default Follow.
	// +kubebuilder:default=Follow
	// +optional
	RateLimitHeaders RateLimitHeaderPolicy `json:"rateLimitHeaders,omitempty"`
}

// BudgetLimits are the limits in force.
//
// +kubebuilder:validation:MinProperties=1
type BudgetLimits struct {
	// tokensPerMinute is the token limit.
	// +kubebuilder:validation:Minimum=1
	// +optional
	TokensPerMinute int64 `json:"tokensPerMinute,omitempty"`

	// requestsPerMinute is the request limit.
	// +kubebuilder:validation:Minimum=1
	// +optional
	RequestsPerMinute int64 `json:"requestsPerMinute,omitempty"`

	// requestsPerDay is the provider's request limit per day, where its headers show one.
	// +kubebuilder:validation:Minimum=1
	// +optional
	RequestsPerDay int64 `json:"requestsPerDay,omitempty"`

	// ratePercent is the part of the limits that is used now. Below targetUtilizationPercent while the budget
	// recovers from a "slow down".
	// +kubebuilder:validation:Minimum=1
	// +optional
	RatePercent int32 `json:"ratePercent,omitempty"`
}

// BudgetUsage is what the budget is being used for now.
//
// +kubebuilder:validation:MinProperties=1
type BudgetUsage struct {
	// tokensLastMinute is the number of tokens charged in the last 60 seconds.
	// +kubebuilder:validation:Minimum=1
	// +optional
	TokensLastMinute int64 `json:"tokensLastMinute,omitempty"`

	// requestsLastMinute is the number of calls sent in the last 60 seconds.
	// +kubebuilder:validation:Minimum=1
	// +optional
	RequestsLastMinute int64 `json:"requestsLastMinute,omitempty"`

	// reservedTokens is the sum of the reservations of running calls.
	// +kubebuilder:validation:Minimum=1
	// +optional
	ReservedTokens int64 `json:"reservedTokens,omitempty"`

	// inFlight is the number of running calls.
	// +kubebuilder:validation:Minimum=1
	// +optional
	InFlight int32 `json:"inFlight,omitempty"`

	// utilizationPercent is tokensLastMinute in percent of the token limit.
	// +kubebuilder:validation:Minimum=1
	// +optional
	UtilizationPercent int32 `json:"utilizationPercent,omitempty"`
}

// BudgetTotals are counters since the budget was created.
//
// +kubebuilder:validation:MinProperties=1
type BudgetTotals struct {
	// calls is the number of finished calls.
	// +kubebuilder:validation:Minimum=1
	// +optional
	Calls int64 `json:"calls,omitempty"`

	// inputTokens is the number of input tokens the provider reported.
	// +kubebuilder:validation:Minimum=1
	// +optional
	InputTokens int64 `json:"inputTokens,omitempty"`

	// cachedInputTokens is the part of inputTokens that was cached.
	// +kubebuilder:validation:Minimum=1
	// +optional
	CachedInputTokens int64 `json:"cachedInputTokens,omitempty"`

	// outputTokens is the number of output tokens the provider reported.
	// +kubebuilder:validation:Minimum=1
	// +optional
	OutputTokens int64 `json:"outputTokens,omitempty"`
}

// ThrottleCount counts one kind of rejection.
type ThrottleCount struct {
	// kind is the failure class: RateLimited, QuotaExhausted or SlowDown.
	// +required
	Kind FailureClass `json:"kind,omitempty"`

	// count is how often it happened since the budget was created.
	// +kubebuilder:validation:Minimum=1
	// +optional
	Count int64 `json:"count,omitempty"`
}

// BucketSnapshot is the ledger's estimate of what is left, from which a new leader starts.
type BucketSnapshot struct {
	// at is when the estimate was made.
	// +required
	At metav1.MicroTime `json:"at,omitzero"`

	// tokens is what was left of the token bucket, of the project's where that was less.
	// +kubebuilder:validation:Minimum=1
	// +optional
	Tokens int64 `json:"tokens,omitempty"`

	// requests is what was left of the request bucket.
	// +kubebuilder:validation:Minimum=1
	// +optional
	Requests int64 `json:"requests,omitempty"`

	// requestWindowSeconds is the window of the request limit: 60, or 86400 where the provider limits by day.
	// +kubebuilder:validation:Minimum=1
	// +optional
	RequestWindowSeconds int32 `json:"requestWindowSeconds,omitempty"`
}

// CallEstimate is what one call of a stage with a model costs, as learned from calls that ended with an answer.
// Averages are over about 64 of the latest ones.
type CallEstimate struct {
	// stage is the stage of the calls.
	// +required
	Stage StageName `json:"stage,omitempty"`

	// model is the model of the calls.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +required
	Model string `json:"model,omitempty"`

	// chargeTokens is what one call takes from the token limit, on average: its prompt, its image and the whole
	// stageDefaults.maxOutputTokens of the pool. tokensPerMinute over the sum of a scan's calls is the number of
	// scans per minute that the limit allows.
	// +kubebuilder:validation:Minimum=1
	// +optional
	ChargeTokens int64 `json:"chargeTokens,omitempty"`

	// durationMilliseconds is how long one call takes, on average, in milliseconds. The budget keeps
	// tokensPerMinute / 60000 * durationMilliseconds / chargeTokens calls of this kind busy at the same time.
	// +kubebuilder:validation:Minimum=1
	// +optional
	DurationMilliseconds int64 `json:"durationMilliseconds,omitempty"`

	// inputTokens is the number of input tokens that the provider reports for one call, on average.
	// +kubebuilder:validation:Minimum=1
	// +optional
	InputTokens int64 `json:"inputTokens,omitempty"`

	// outputTokens is the number of output tokens that the provider reports for one call, on average. Where
	// stageDefaults.maxOutputTokens of the pool is far above, lowering it lets the limit admit more calls.
	// +kubebuilder:validation:Minimum=1
	// +optional
	OutputTokens int64 `json:"outputTokens,omitempty"`

	// reservedPercent is what is reserved for a call, in percent of what the provider's published formula gives for
	// it: 100 until the provider's headers prove that it charges more or less.
	// +kubebuilder:validation:Minimum=1
	// +optional
	ReservedPercent int32 `json:"reservedPercent,omitempty"`

	// chargeSamples is the number of measured charges that reservedPercent follows from: the latest ones, at most 16.
	// A charge is measured by the headers of a call that found the token limit unused.
	// +kubebuilder:validation:Minimum=1
	// +optional
	ChargeSamples int32 `json:"chargeSamples,omitempty"`

	// calls is the number of calls this was learned from.
	// +kubebuilder:validation:Minimum=1
	// +optional
	Calls int64 `json:"calls,omitempty"`

	// lastCallAt is when the latest of them ended. If several budgets have estimates of the same stage and model, a
	// new leader uses the latest.
	// +required
	LastCallAt metav1.MicroTime `json:"lastCallAt,omitzero"`
}

// QuotaStatus is the state of spec.quota.
type QuotaStatus struct {
	// periodStart is when the current period began.
	// +required
	PeriodStart metav1.MicroTime `json:"periodStart,omitzero"`

	// usedTokens is what was used in the current period.
	// +kubebuilder:validation:Minimum=1
	// +optional
	UsedTokens int64 `json:"usedTokens,omitempty"`
}

// TokenBudgetStatus is where the budget stands. It is written at most every five seconds, and only when it
// changed.
//
// +kubebuilder:validation:MinProperties=1
type TokenBudgetStatus struct {
	// conditions are Ready, Throttled and QuotaExhausted.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that this status describes.
	// +kubebuilder:validation:Minimum=1
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// endpoint is the base URL in force.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Endpoint string `json:"endpoint,omitempty"`

	// limits are the limits in force: the provider's where rateLimitHeaders is Follow.
	// +optional
	Limits BudgetLimits `json:"limits,omitzero"`

	// usage is what the budget is being used for now.
	// +optional
	Usage BudgetUsage `json:"usage,omitzero"`

	// totals are counters since the budget was created.
	// +optional
	Totals BudgetTotals `json:"totals,omitzero"`

	// throttles count the provider's rejections by kind.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=kind
	// +optional
	Throttles []ThrottleCount `json:"throttles,omitempty"`

	// bucket is what a new leader starts from.
	// +optional
	Bucket *BucketSnapshot `json:"bucket,omitempty"`

	// estimates are what calls of the budget's models cost, by stage and model, as learned from all budgets: tokens
	// and time per call. A new leader starts from them. At most 8, those used last.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=stage
	// +listMapKey=model
	// +optional
	Estimates []CallEstimate `json:"estimates,omitempty"`

	// quota is the state of spec.quota.
	// +optional
	Quota *QuotaStatus `json:"quota,omitempty"`

	// resumeAt is when calls are sent again, while they are held: when the provider's quota or key is probed, when
	// its Retry-After ends, or when spec.quota starts again.
	// +optional
	ResumeAt *metav1.MicroTime `json:"resumeAt,omitempty"`
}

// TokenBudget is one account at one provider for one model, or for a group of models that share a limit.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=tb,categories=growbin
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="TPM",type=integer,JSONPath=`.status.limits.tokensPerMinute`
// +kubebuilder:printcolumn:name="Used",type=integer,JSONPath=`.status.usage.tokensLastMinute`
// +kubebuilder:printcolumn:name="Used%",type=integer,JSONPath=`.status.usage.utilizationPercent`
// +kubebuilder:printcolumn:name="Reserved",type=integer,JSONPath=`.status.usage.reservedTokens`
// +kubebuilder:printcolumn:name="In-Flight",type=integer,JSONPath=`.status.usage.inFlight`
// +kubebuilder:printcolumn:name="Throttled",type=string,JSONPath=`.status.conditions[?(@.type=="Throttled")].status`
// +kubebuilder:printcolumn:name="Resume-At",type=string,JSONPath=`.status.resumeAt`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type TokenBudget struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is the account and its limits.
	// +required
	Spec TokenBudgetSpec `json:"spec,omitzero"`

	// status is where the budget stands.
	// ---
	// It is written by patches of the leader alone, never by server-side apply, and is atomic for the same reason as a
	// scan's.
	// +structType=atomic
	// +optional
	Status TokenBudgetStatus `json:"status,omitzero"`
}

// TokenBudgetList is a list of budgets.
//
// +kubebuilder:object:root=true
type TokenBudgetList struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitzero"`

	// items are the budgets.
	Items []TokenBudget `json:"items"`
}
