// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The provider's error types that more than one reply uses.
const (
	typeInvalidRequest = "invalid_request_error"
	typeServerError    = "server_error"
	codeRateLimit      = "rate_limit_exceeded"
)

// apiError is a reply of the provider that carries no answer. It implements
// error so that parsing can return it.
type apiError struct {
	status  int
	message string
	kind    string // the "type" field
	param   string // empty for null
	code    string // empty for null
	// wait is the Retry-After, 0 for none.
	wait time.Duration
	// counter is the name under which the statistics count the reply; empty
	// for the status and code.
	counter string
}

// Error implements error.
func (e *apiError) Error() string { return strconv.Itoa(e.status) + " " + e.message }

// statName is the name under which the statistics count the reply.
func (e *apiError) statName() string {
	if e.counter != "" {
		return e.counter
	}
	if e.code == "" {
		return strconv.Itoa(e.status)
	}
	return strconv.Itoa(e.status) + " " + e.code
}

// body is the JSON document of the reply, its fields in the provider's order.
func (e *apiError) body() []byte {
	type fields struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    *string `json:"code"`
	}
	out, err := json.MarshalIndent(struct {
		Error fields `json:"error"`
	}{fields{e.message, e.kind, orNull(e.param), orNull(e.code)}}, "", "    ")
	if err != nil {
		// Strings and pointers to strings always marshal.
		panic(err)
	}
	return append(out, '\n')
}

// orNull turns an empty string into a JSON null.
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// invalid is a 400 about one parameter.
func invalid(param, code, format string, args ...any) *apiError {
	return &apiError{
		status: http.StatusBadRequest, kind: typeInvalidRequest, param: param, code: code,
		message: fmt.Sprintf(format, args...),
	}
}

func errNoKey() *apiError {
	return &apiError{
		status: http.StatusUnauthorized, kind: typeInvalidRequest, counter: "401 missing_api_key",
		message: "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth " +
			"(i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're accessing the API from " +
			"your browser and are prompted for a username and password. You can obtain an API key from " +
			"https://platform.openai.com/account/api-keys.",
	}
}

func errWrongKey(key string) *apiError {
	return &apiError{
		status: http.StatusUnauthorized, kind: typeInvalidRequest, code: "invalid_api_key",
		message: "Incorrect API key provided: " + maskKey(key) +
			". You can find your API key at https://platform.openai.com/account/api-keys.",
	}
}

// maskKey hides the middle of a key: the first eight and the last four
// characters stay, as in the provider's own message.
func maskKey(key string) string {
	const head, tail = 8, 4
	runes := []rune(key)
	if len(runes) <= head+tail {
		return strings.Repeat("*", len(runes))
	}
	return string(runes[:head]) + strings.Repeat("*", len(runes)-head-tail) + string(runes[len(runes)-tail:])
}

func errUnknownModel(model string) *apiError {
	return &apiError{
		status: http.StatusNotFound, kind: typeInvalidRequest, code: "model_not_found",
		message: fmt.Sprintf("The model `%s` does not exist or you do not have access to it.", model),
	}
}

func errUnknownURL(method, path string) *apiError {
	return &apiError{
		status: http.StatusNotFound, kind: typeInvalidRequest, counter: "404 unknown_url",
		message: fmt.Sprintf("Invalid URL (%s %s)", method, path),
	}
}

func errMethod(method, path string) *apiError {
	return &apiError{
		status: http.StatusMethodNotAllowed, kind: typeInvalidRequest, counter: "405 method",
		message: fmt.Sprintf("Not allowed to %s on %s (HINT: Perhaps you meant to use a different HTTP method?)", method, path),
	}
}

func errNotJSON() *apiError {
	return invalid("", "", "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP "+
		"library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. If you have trouble "+
		"figuring out how to fix this, please contact us through our help center at help.openai.com.)")
}

func errBodyTooLarge(limit int64) *apiError {
	return &apiError{
		status: http.StatusRequestEntityTooLarge, kind: typeInvalidRequest, code: "request_too_large",
		message: fmt.Sprintf("The request body is larger than the limit of %d bytes.", limit),
	}
}

// errRejected is the 429 of an admission that found no room.
func errRejected(d decision, model, organization string) *apiError {
	const learnMore = " Visit https://platform.openai.com/account/rate-limits to learn more."
	e := &apiError{status: http.StatusTooManyRequests, code: codeRateLimit, wait: d.wait, kind: "tokens"}
	dimension := "tokens per min (TPM)"
	switch d.verdict {
	case tooLarge:
		e.counter = "too_large"
		e.message = fmt.Sprintf("Request too large for %s in organization %s on %s: Limit %d, Requested %d. The input or output "+
			"tokens must be reduced in order to run successfully.", model, organization, dimension, d.limit, d.requested) + learnMore
		return e
	case shortOfProjectTokens:
		e.counter, dimension = "project_tokens", "project tokens per min (TPM)"
	case shortOfRequests:
		e.counter, e.kind, dimension = "requests", "requests", "requests per min (RPM)"
	case shortOfDailyRequests:
		e.counter, e.kind, dimension = "requests_per_day", "requests", "requests per day (RPD)"
	case admitted, shortOfTokens:
		e.counter = "tokens"
	}
	e.message = fmt.Sprintf("Rate limit reached for %s in organization %s on %s: Limit %d, Used %d, Requested %d. "+
		"Please try again in %s.", model, organization, dimension, d.limit, d.used, d.requested, formatDuration(d.wait)) + learnMore
	return e
}

// quotaErrors are the 429 replies that waiting does not cure, by code. The
// first is the legacy one; the others split it by cause.
var quotaErrors = map[FaultKind]*apiError{
	FaultInsufficientQuota: {
		kind: "insufficient_quota",
		message: "You exceeded your current quota, please check your plan and billing details. For more information on this " +
			"error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
	},
	FaultCreditBalance: {
		kind:    "insufficient_quota",
		message: "Your credit balance is exhausted. Add credits to continue using the API.",
	},
	FaultOrganizationSpend: {
		kind:    "insufficient_quota",
		message: "Your organization has reached its configured spend limit. Raise the limit or wait for the next billing period.",
	},
	FaultProjectSpend: {
		kind:    "insufficient_quota",
		message: "Your project has reached its configured spend limit. Raise the limit or wait for the next billing period.",
	},
	FaultOrganizationUsage: {
		kind:    "insufficient_quota",
		message: "Your organization has reached its monthly usage limit.",
	},
}

// errQuota is the reply of a quota fault.
func errQuota(kind FaultKind) *apiError {
	e := *quotaErrors[kind]
	e.status, e.code, e.counter = http.StatusTooManyRequests, string(kind), string(kind)
	return &e
}

func errFlexUnavailable() *apiError {
	return &apiError{
		status: http.StatusTooManyRequests, kind: "resource_unavailable", code: "resource_unavailable",
		counter: "resource_unavailable", message: "Resource Unavailable",
	}
}

func errInternal(requestID string) *apiError {
	return &apiError{
		status: http.StatusInternalServerError, kind: typeServerError, counter: "500 server_error",
		message: "The server had an error while processing your request. Sorry about that! You can retry your request, or contact " +
			"us through our help center at help.openai.com if the error persists. (Please include the request ID " + requestID +
			" in your message.)",
	}
}

func errOverloaded() *apiError {
	return &apiError{
		status: http.StatusServiceUnavailable, kind: typeServerError, code: "overloaded",
		message: "The engine is currently overloaded, please try again later.",
	}
}

func errSlowDown() *apiError {
	return &apiError{
		status: http.StatusServiceUnavailable, kind: typeServerError, code: "slow_down",
		message: "Slow Down: your request rate rose too quickly. Please reduce it to its original level, keep it there for at " +
			"least 15 minutes, and then increase it gradually.",
	}
}

func errImageDownload(rawURL string) *apiError {
	return invalid("url", "invalid_image_url", "Error while downloading %s.", rawURL)
}
