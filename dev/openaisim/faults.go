// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// FaultKind names one way in which a call can go wrong.
type FaultKind string

// Faults at admission: the call is turned away, costs a request and no tokens.
const (
	// FaultRateLimitTokens and FaultRateLimitRequests empty the bucket as an
	// unseen client would; the 429 that follows is the bucket's own, and so
	// are those of the calls after it.
	FaultRateLimitTokens   FaultKind = "rate_limit_tokens"
	FaultRateLimitRequests FaultKind = "rate_limit_requests"

	FaultInsufficientQuota FaultKind = "insufficient_quota"
	FaultCreditBalance     FaultKind = "credit_balance_exhausted"
	FaultOrganizationSpend FaultKind = "organization_spend_limit_exceeded"
	FaultProjectSpend      FaultKind = "project_spend_limit_exceeded"
	FaultOrganizationUsage FaultKind = "organization_usage_limit_exceeded"

	// FaultFlexUnavailable is the 429 "Resource Unavailable" of the flex tier.
	FaultFlexUnavailable FaultKind = "resource_unavailable"
	FaultOverloaded      FaultKind = "overloaded"
	FaultSlowDown        FaultKind = "slow_down"
	// FaultBadGateway is an HTML 502 from in front of the API: no request id,
	// no limit headers.
	FaultBadGateway FaultKind = "bad_gateway"
	// FaultInvalidImage is the 400 for an image the provider cannot fetch.
	FaultInvalidImage FaultKind = "invalid_image_url"
)

// Faults during generation: the call was admitted and stays charged.
const (
	// FaultServerError is a 500 after the usual time.
	FaultServerError FaultKind = "server_error"
	// FaultReset cuts the connection after the usual time.
	FaultReset FaultKind = "connection_reset"
	// FaultHang never answers; it ends when the client leaves.
	FaultHang FaultKind = "hang"
	// FaultFailed is a 200 whose status is "failed" (responses only), with the
	// rule's Code, server_error by default.
	FaultFailed FaultKind = "failed"
	// FaultMalformed is an answer whose text is not valid JSON.
	FaultMalformed FaultKind = "malformed_json"
	// FaultTruncated is an answer cut off at the output limit.
	FaultTruncated FaultKind = "truncated"
	// FaultRefusal is an answer in which the model declines.
	FaultRefusal FaultKind = "refusal"
	// FaultContentFilter is an answer the content filter stopped.
	FaultContentFilter FaultKind = "content_filter"
)

// Faults of manner: they change how a reply is sent and may come on top of one
// of the others.
const (
	// FaultHeadersMissing leaves out the limit headers and Retry-After.
	FaultHeadersMissing FaultKind = "headers_missing"
	// FaultRetryAfterMillisOnly leaves out Retry-After and the limit headers
	// of a 429, so that only retry-after-ms has the time to wait.
	FaultRetryAfterMillisOnly FaultKind = "retry_after_ms_only"
	// FaultSlowFirstByte delays an answer by the rule's DelayMillis.
	FaultSlowFirstByte FaultKind = "slow_first_byte"
)

// The kinds by when they take effect.
var (
	admissionFaults = []FaultKind{
		FaultRateLimitTokens, FaultRateLimitRequests, FaultInsufficientQuota, FaultCreditBalance, FaultOrganizationSpend,
		FaultProjectSpend, FaultOrganizationUsage, FaultFlexUnavailable, FaultOverloaded, FaultSlowDown, FaultBadGateway,
		FaultInvalidImage,
	}
	generationFaults = []FaultKind{
		FaultServerError, FaultReset, FaultHang, FaultFailed, FaultMalformed, FaultTruncated, FaultRefusal, FaultContentFilter,
	}
	mannerFaults = []FaultKind{FaultHeadersMissing, FaultRetryAfterMillisOnly, FaultSlowFirstByte}
	knownFaults  = slices.Concat(admissionFaults, generationFaults, mannerFaults)
)

// appliesTo reports whether the fault exists on an endpoint: a rule whose
// fault does not is not used up by the call.
func (k FaultKind) appliesTo(c *call) bool {
	switch k {
	case FaultFailed:
		return c.endpoint == endpointResponses
	case FaultInvalidImage:
		return len(c.images) > 0
	default:
		return true
	}
}

// Stage distinguishes calls with an image from calls without.
type Stage string

// The stages a fault rule can ask for.
const (
	StageVision Stage = "vision"
	StageAnswer Stage = "answer"
)

// Fault is one rule. A call that matches Key, Model and Stage (empty matches
// all) suffers Kind with the given probability, at most Count times, until the
// duration has passed since the rule was set.
type Fault struct {
	Kind  FaultKind `json:"kind"`
	Key   string    `json:"key,omitempty"`
	Model string    `json:"model,omitempty"`
	Stage Stage     `json:"stage,omitempty"`
	// Probability is between 0 and 1; 0 means 1.
	Probability float64 `json:"probability,omitempty"`
	// Count is how often the rule fires; 0 is no limit. Reading the
	// configuration back shows what is left.
	Count int64 `json:"count,omitempty"`
	// DurationSeconds is how long the rule is active; 0 means no limit. Reading the
	// configuration back shows what is left.
	DurationSeconds float64 `json:"durationSeconds,omitempty"`
	// DelayMillis is the delay of slow_first_byte.
	DelayMillis int64 `json:"delayMillis,omitempty"`
	// RetryAfterMillis adds a Retry-After to the 429, 500 and 503 kinds that
	// have none of their own.
	RetryAfterMillis int64 `json:"retryAfterMillis,omitempty"`
	// Code is the error code inside a "failed" response.
	Code string `json:"code,omitempty"`
}

// validate reports what is wrong with a rule.
func (f Fault) validate(at string) error {
	switch {
	case !slices.Contains(knownFaults, f.Kind):
		names := make([]string, 0, len(knownFaults))
		for _, k := range knownFaults {
			names = append(names, string(k))
		}
		slices.Sort(names)
		return fmt.Errorf("%s.kind: %q is not one of %s", at, f.Kind, strings.Join(names, ", "))
	case f.Stage != "" && f.Stage != StageVision && f.Stage != StageAnswer:
		return fmt.Errorf("%s.stage: %q is neither %q nor %q", at, f.Stage, StageVision, StageAnswer)
	case f.Count < 0:
		return fmt.Errorf("%s.count: %d is negative", at, f.Count)
	case f.Kind == FaultSlowFirstByte && f.DelayMillis <= 0:
		return fmt.Errorf("%s.delayMillis: %s needs a positive delay", at, f.Kind)
	}
	const week = 7 * 24 * 3600
	for _, err := range []error{
		between(at+".probability", f.Probability, 0, 1),
		between(at+".durationSeconds", f.DurationSeconds, 0, week),
		between(at+".delayMillis", f.DelayMillis, 0, week*1000),
		between(at+".retryAfterMillis", f.RetryAfterMillis, 0, week*1000),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// faultRule is a Fault in force.
type faultRule struct {
	Fault
	expires time.Time // zero for never
	seed    uint64
	tries   atomic.Uint64
	fired   atomic.Int64
}

func newFaultRule(f Fault, seed uint64, now time.Time) *faultRule {
	rule := &faultRule{Fault: f, seed: seed}
	if f.DurationSeconds > 0 {
		rule.expires = now.Add(time.Duration(f.DurationSeconds * float64(time.Second)))
	}
	return rule
}

// fires decides whether a call suffers the fault, and counts it when it does.
func (r *faultRule) fires(c *call, now time.Time) bool {
	switch {
	case r.Key != "" && r.Key != c.key,
		r.Model != "" && r.Model != c.modelName,
		r.Stage != "" && r.Stage != c.stage(),
		!r.Kind.appliesTo(c),
		!r.expires.IsZero() && !now.Before(r.expires):
		return false
	}
	if r.Probability > 0 && r.Probability < 1 {
		rng := rand.New(rand.NewPCG(r.seed, r.tries.Add(1)))
		if rng.Float64() >= r.Probability {
			return false
		}
	}
	if n := r.fired.Add(1); r.Count > 0 && n > r.Count {
		r.fired.Add(-1)
		return false
	}
	return true
}

// left is the rule as it stands: what remains of its count and its time. It
// reports false for a rule that is spent.
func (r *faultRule) left(now time.Time) (Fault, bool) {
	f := r.Fault
	if f.Count > 0 {
		if f.Count -= r.fired.Load(); f.Count <= 0 {
			return Fault{}, false
		}
	}
	if !r.expires.IsZero() {
		if f.DurationSeconds = r.expires.Sub(now).Seconds(); f.DurationSeconds <= 0 {
			return Fault{}, false
		}
	}
	return f, true
}

// firstFault returns the first rule of a list that fires, or nil.
func firstFault(rules []*faultRule, c *call, now time.Time) *faultRule {
	for _, rule := range rules {
		if rule.fires(c, now) {
			return rule
		}
	}
	return nil
}
