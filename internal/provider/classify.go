// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/clip"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// Error codes of the provider that decide a class. Some arrive in the field type instead.
const (
	codeResourceUnavailable = "resource_unavailable"
	codeSlowDown            = "slow_down"
	codeRateLimitExceeded   = "rate_limit_exceeded"
)

var (
	// quotaCodes mean that the account has no credit or has reached a spend limit. Waiting does not help; the account
	// must be changed.
	quotaCodes = []string{
		"insufficient_quota", "credit_balance_exhausted", "organization_spend_limit_exceeded", "project_spend_limit_exceeded",
		"organization_usage_limit_exceeded", "billing_hard_limit_reached", "billing_not_active",
	}
	// accountCodes of a 403 are about the account or its key, so that every call gets them.
	accountCodes = []string{
		"invalid_api_key", "account_deactivated", "account_suspended", "organization_deactivated", "project_archived",
		"unsupported_country_region_territory", "ip_not_authorized", "access_terminated",
	}
	// refusalCodes mean that the provider's policy forbids the content.
	refusalCodes = []string{
		"content_filter", "content_policy_violation", "invalid_prompt", "bio_policy", "misalignment_policy_violation",
		"image_content_policy_violation",
	}
	// transientCodes of a response with the status "failed" are failures of the provider.
	transientCodes = []string{"server_error", "vector_store_timeout"}
)

// advice is what to do, by class of failure.
var advice = map[v1alpha1.FailureClass]string{
	v1alpha1.FailureRateLimited:     "sent again when the budget has room",
	v1alpha1.FailureQuotaExhausted:  "the budget is held; add credit or raise the spend limit of the provider's account",
	v1alpha1.FailureSlowDown:        "the budget's rate is halved for a while",
	v1alpha1.FailureUnavailable:     "tried again after a backoff",
	v1alpha1.FailureUnreachable:     "tried again at no cost; if it lasts, check the TokenBudget's endpoint, DNS and the network of the worker's node",
	v1alpha1.FailureBlocked:         "tried again after a backoff; if it lasts, check the key's permission for the model, the TokenBudget's endpoint, and proxies and firewalls in front of the provider",
	v1alpha1.FailureInvalidOutput:   "tried again after a backoff",
	v1alpha1.FailureRefused:         "submit another photo or question",
	v1alpha1.FailureInvalidRequest:  "check the image URL, the model's name and the TokenBudget's endpoint",
	v1alpha1.FailureUnauthorized:    "the budget is held; put a valid key into the Secret that its spec.secretRef names",
	v1alpha1.FailureRequestTooLarge: "lower stageDefaults.maxOutputTokens or imageDetail of the pool, or use a budget with a higher limit",
}

// providerError is the content of an error's body.
type providerError struct {
	message, kind, code string
	// parsed means that the body has the provider's format and is not a page of a proxy.
	parsed bool
}

// parseError reads {"error":{"message","type","param","code"}} and the variants of compatible providers: an error that is
// a string, a code that is a number. It returns the zero value for anything else, such as a gateway's HTML.
func parseError(body []byte) providerError {
	var envelope struct {
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(body, &envelope) != nil {
		return providerError{}
	}
	var text string
	if json.Unmarshal(envelope.Error, &text) == nil {
		return providerError{message: text, parsed: true}
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(envelope.Error, &fields) != nil {
		return providerError{}
	}
	scalar := func(name string) string {
		var s string
		if json.Unmarshal(fields[name], &s) == nil {
			return s
		}
		var n json.Number
		if json.Unmarshal(fields[name], &n) == nil {
			return n.String()
		}
		return ""
	}
	e := providerError{message: scalar("message"), kind: scalar("type"), code: scalar("code")}
	e.parsed = e != providerError{}
	return e
}

// has reports whether the error's code or type is one of these.
func (e providerError) has(codes ...string) bool {
	return slices.Contains(codes, e.code) || slices.Contains(codes, e.kind)
}

// mentions reports whether the error's message contains a lower-case phrase.
func (e providerError) mentions(phrase string) bool {
	return strings.Contains(strings.ToLower(e.message), phrase)
}

// statusFailure classifies a response whose status is not 2xx.
func statusFailure(resp *http.Response, now time.Time, key string) *pipeline.Failure {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		body = nil // classify by the status alone
	}
	e := parseError(body)
	failure := newFailure(classOf(resp.StatusCode, e), fmt.Sprintf("the provider answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode)), e, key)
	switch failure.Class {
	case v1alpha1.FailureRateLimited, v1alpha1.FailureSlowDown, v1alpha1.FailureUnavailable, v1alpha1.FailureQuotaExhausted,
		v1alpha1.FailureBlocked:
		failure.RetryAfter = retryAfter(resp.Header, e.message, now)
	default: // the others are not retried
	}
	return failure
}

// classOf returns the class of a status that is not 2xx.
func classOf(status int, e providerError) v1alpha1.FailureClass {
	switch {
	case e.has(quotaCodes...), status == http.StatusPaymentRequired && e.parsed:
		return v1alpha1.FailureQuotaExhausted
	case status == http.StatusUnauthorized, status == http.StatusForbidden && e.has(accountCodes...):
		return v1alpha1.FailureUnauthorized
	case status == http.StatusTooManyRequests:
		return classOf429(e)
	case status == http.StatusServiceUnavailable && (e.has(codeSlowDown) || e.mentions("slow down")):
		return v1alpha1.FailureSlowDown
	case status == http.StatusRequestTimeout, status == http.StatusConflict, status == http.StatusTooEarly, status >= 500, status < 400:
		// Redirects are not followed, so that the key is sent nowhere else. They may be temporary.
		return v1alpha1.FailureUnavailable
	case e.has(refusalCodes...):
		return v1alpha1.FailureRefused
	case blocked(status, e):
		return v1alpha1.FailureBlocked
	default:
		return v1alpha1.FailureInvalidRequest
	}
}

// blocked reports whether a 4xx may have another cause than the content of the call: a permission of the key, a missing
// route in a gateway, a page of a proxy. Such a cause may go away, so that the call is worth another attempt.
func blocked(status int, e providerError) bool {
	switch status {
	case http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusProxyAuthRequired,
		http.StatusMisdirectedRequest, http.StatusUnavailableForLegalReasons:
		return true
	case http.StatusRequestEntityTooLarge:
		return false // the same call gets it again, from a proxy too
	default:
		return !e.parsed
	}
}

// classOf429 returns the class of a 429 that is not about quota.
func classOf429(e providerError) v1alpha1.FailureClass {
	switch {
	case e.mentions("request too large"):
		return v1alpha1.FailureRequestTooLarge
	case e.has(codeResourceUnavailable) || e.mentions("resource unavailable"):
		// The flex tier has no capacity. The account's limits are not the reason, so the budget is not held.
		return v1alpha1.FailureUnavailable
	default:
		return v1alpha1.FailureRateLimited
	}
}

// inBandFailure classifies a response with status 200 that reports a failure.
func inBandFailure(e providerError, key string) *pipeline.Failure {
	class := v1alpha1.FailureInvalidRequest
	switch {
	case e.has(quotaCodes...):
		class = v1alpha1.FailureQuotaExhausted
	case e.has(codeRateLimitExceeded):
		class = classOf429(e)
	case e.code == "", e.has(transientCodes...):
		class = v1alpha1.FailureUnavailable
	case e.has(refusalCodes...):
		class = v1alpha1.FailureRefused
	}
	failure := newFailure(class, "the provider accepted the call and failed", e, key)
	if class == v1alpha1.FailureRateLimited {
		failure.RetryAfter = retryAfter(http.Header{}, e.message, time.Time{})
	}
	return failure
}

// newFailure returns a failure that the provider reported.
func newFailure(class v1alpha1.FailureClass, what string, e providerError, key string) *pipeline.Failure {
	code := e.code
	if code == "" {
		code = e.kind
	}
	return &pipeline.Failure{
		Class: class, Code: clip.Bytes(scrub(code, key), maxCode), Message: compose(what, scrub(e.message, key), advice[class]),
	}
}

// maxCode bounds the code of v1alpha1.StageFailure, in bytes.
const maxCode = 64

// transportFailure classifies a call without a complete response. A call that was not sent has used no tokens.
func transportFailure(err error, sent bool, key string) *pipeline.Failure {
	if errors.Is(err, errBodyTooLarge) {
		return outputFailure("the response cannot be read", err.Error())
	}
	if !sent {
		return &pipeline.Failure{
			Class:   v1alpha1.FailureUnreachable,
			Message: compose("the provider cannot be reached", scrub(errorText(err), key), advice[v1alpha1.FailureUnreachable]),
		}
	}
	return &pipeline.Failure{
		Class: v1alpha1.FailureUnavailable,
		Message: compose("the connection to the provider broke", scrub(errorText(err), key),
			advice[v1alpha1.FailureUnavailable]+"; if it lasts, check the network"),
	}
}

// errorText returns the text of an error. It accepts nil, so that a bug in the provider's client cannot crash a worker.
func errorText(err error) string {
	if err == nil {
		return "no response and no error"
	}
	return err.Error()
}

// outputFailure is a complete response that cannot be used.
func outputFailure(what, text string) *pipeline.Failure {
	return &pipeline.Failure{
		Class: v1alpha1.FailureInvalidOutput, Message: compose(what, text, advice[v1alpha1.FailureInvalidOutput]),
	}
}

// truncatedFailure is a response that reached the output limit.
func truncatedFailure() *pipeline.Failure {
	return &pipeline.Failure{
		Class: v1alpha1.FailureInvalidOutput, Code: "max_output_tokens",
		Message: "the answer was cut off at the output limit; raise stageDefaults.maxOutputTokens of the pool if this is frequent",
	}
}

// refusedFailure is a refusal by the model or by the provider's content filter.
func refusedFailure(code, text, key string) *pipeline.Failure {
	return &pipeline.Failure{
		Class: v1alpha1.FailureRefused, Code: code,
		Message: compose("the model declined to answer", scrub(text, key), advice[v1alpha1.FailureRefused]),
	}
}
