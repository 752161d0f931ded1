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
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// The provider's error codes that decide something. Some come as the type instead.
const (
	codeResourceUnavailable = "resource_unavailable"
	codeSlowDown            = "slow_down"
	codeRateLimitExceeded   = "rate_limit_exceeded"
)

var (
	// quotaCodes mean that the account has no money left, or may not spend it. Waiting does not help, people do.
	quotaCodes = []string{
		"insufficient_quota", "credit_balance_exhausted", "organization_spend_limit_exceeded", "project_spend_limit_exceeded",
		"organization_usage_limit_exceeded", "billing_hard_limit_reached", "billing_not_active",
	}
	// accountCodes of a 403 concern the account or its key, so that every call meets them.
	accountCodes = []string{
		"invalid_api_key", "account_deactivated", "account_suspended", "organization_deactivated", "project_archived",
		"unsupported_country_region_territory", "ip_not_authorized", "access_terminated",
	}
	// refusalCodes mean that the provider's policy forbids the content.
	refusalCodes = []string{
		"content_filter", "content_policy_violation", "invalid_prompt", "bio_policy", "misalignment_policy_violation",
		"image_content_policy_violation",
	}
	// transientCodes of an answer with the status "failed" are the provider's own trouble.
	transientCodes = []string{"server_error", "vector_store_timeout"}
)

// What to do, by class of failure.
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

// providerError is what an error's body says.
type providerError struct {
	message, kind, code string
	// parsed means that the body is an error in the provider's form, and not a page of something in front of it.
	parsed bool
}

// parseError reads {"error":{"message","type","param","code"}} and what compatible providers make of it: an error
// that is a text, a code that is a number. Anything else, such as a gateway's HTML, says nothing.
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

// has says whether the error's code or type is one of these.
func (e providerError) has(codes ...string) bool {
	return slices.Contains(codes, e.code) || slices.Contains(codes, e.kind)
}

// says looks for words in the error's message.
func (e providerError) says(words string) bool {
	return strings.Contains(strings.ToLower(e.message), words)
}

// statusFailure classifies an answer whose status is not a success.
func statusFailure(resp *http.Response, now time.Time, key string) *pipeline.Failure {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		body = nil // the status alone must do
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

// classOf decides what a status that is not a success means.
func classOf(status int, e providerError) v1alpha1.FailureClass {
	switch {
	case e.has(quotaCodes...), status == http.StatusPaymentRequired && e.parsed:
		return v1alpha1.FailureQuotaExhausted
	case status == http.StatusUnauthorized, status == http.StatusForbidden && e.has(accountCodes...):
		return v1alpha1.FailureUnauthorized
	case status == http.StatusTooManyRequests:
		return classOf429(e)
	case status == http.StatusServiceUnavailable && (e.has(codeSlowDown) || e.says("slow down")):
		return v1alpha1.FailureSlowDown
	case status == http.StatusRequestTimeout, status == http.StatusConflict, status == http.StatusTooEarly, status >= 500, status < 400:
		// A redirect is not followed, so that the key goes nowhere else; the endpoint may move back.
		return v1alpha1.FailureUnavailable
	case e.has(refusalCodes...):
		return v1alpha1.FailureRefused
	case blocked(status, e):
		return v1alpha1.FailureBlocked
	default:
		return v1alpha1.FailureInvalidRequest
	}
}

// blocked reports whether a 4xx may be about anything but the call's content: a permission of the key, a route that a
// gateway lost, or a proxy's own page. Those change without a change of the call, so that it is worth another attempt.
func blocked(status int, e providerError) bool {
	switch status {
	case http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusProxyAuthRequired,
		http.StatusMisdirectedRequest, http.StatusUnavailableForLegalReasons:
		return true
	case http.StatusRequestEntityTooLarge:
		return false // whoever answers it, the same call meets it again
	default:
		return !e.parsed
	}
}

// classOf429 tells the kinds of 429 apart that are not about quota.
func classOf429(e providerError) v1alpha1.FailureClass {
	switch {
	case e.says("request too large"):
		return v1alpha1.FailureRequestTooLarge
	case e.has(codeResourceUnavailable) || e.says("resource unavailable"):
		// The flex tier had no capacity. The account's limits are not the reason, so the budget is left alone.
		return v1alpha1.FailureUnavailable
	default:
		return v1alpha1.FailureRateLimited
	}
}

// inBandFailure classifies an answer that came with 200 and the status "failed".
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
	failure := newFailure(class, "the provider took the call and failed", e, key)
	if class == v1alpha1.FailureRateLimited {
		failure.RetryAfter = retryAfter(http.Header{}, e.message, time.Time{})
	}
	return failure
}

// newFailure words a failure that the provider reported.
func newFailure(class v1alpha1.FailureClass, what string, e providerError, key string) *pipeline.Failure {
	code := e.code
	if code == "" {
		code = e.kind
	}
	return &pipeline.Failure{
		Class: class, Code: clip(scrub(code, key), maxCode), Message: compose(what, scrub(e.message, key), advice[class]),
	}
}

// maxCode is the bound of v1alpha1.StageFailure's code.
const maxCode = 64

// transportFailure classifies a call without a complete response. A call that was not sent cannot have cost anything.
func transportFailure(err error, sent bool, key string) *pipeline.Failure {
	if errors.Is(err, errBodyTooLarge) {
		return outputFailure("the answer cannot be read", err.Error())
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

// errorText is an error's text, also of none: the provider's client must not be able to crash a worker.
func errorText(err error) string {
	if err == nil {
		return "no response and no error"
	}
	return err.Error()
}

// outputFailure is an answer that came and cannot be used.
func outputFailure(what, words string) *pipeline.Failure {
	return &pipeline.Failure{
		Class: v1alpha1.FailureInvalidOutput, Message: compose(what, words, advice[v1alpha1.FailureInvalidOutput]),
	}
}

// truncatedFailure is an answer that reached the output limit.
func truncatedFailure() *pipeline.Failure {
	return &pipeline.Failure{
		Class: v1alpha1.FailureInvalidOutput, Code: "max_output_tokens",
		Message: "the answer was cut off at the output limit; raise stageDefaults.maxOutputTokens of the pool if this is frequent",
	}
}

// refusedFailure is a model, or the provider's filter, that declined.
func refusedFailure(code, words, key string) *pipeline.Failure {
	return &pipeline.Failure{
		Class: v1alpha1.FailureRefused, Code: code,
		Message: compose("the model declined to answer", scrub(words, key), advice[v1alpha1.FailureRefused]),
	}
}
