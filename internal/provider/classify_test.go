// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/openai/openai-go/v3/option"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/stages"
)

// endWhenHeadersArrive runs a function between an answer's headers and its body.
func endWhenHeadersArrive(do func()) option.RequestOption {
	return option.WithMiddleware(func(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
		resp, err := next(r)
		do()
		return resp, err
	})
}

// published returns the body of an error in the provider's format.
func published(message, kind, code string) string {
	quoted := "null"
	if code != "" {
		quoted = fmt.Sprintf("%q", code)
	}
	return fmt.Sprintf("{\n    \"error\": {\n        \"message\": %q,\n        \"type\": %q,\n        \"param\": null,\n        \"code\": %s\n    }\n}\n", message, kind, quoted)
}

const (
	tokensText = "Rate limit reached for gpt-4o in organization org-abcdef0123456789 on tokens per min (TPM): Limit 30000, Used 14567, " +
		"Requested 24754. Please try again in 18.642s. Visit https://platform.openai.com/account/rate-limits to learn more."
	requestsText = "Rate limit reached for gpt-4o in organization org-abcdef0123456789 on requests per min (RPM): Limit 500, Used 500, " +
		"Requested 1. Please try again in 120ms. Visit https://platform.openai.com/account/rate-limits to learn more."
	tooLargeText = "Request too large for gpt-4o in organization org-abcdef0123456789 on tokens per min (TPM): Limit 30000, Requested 45000. " +
		"The input or output tokens must be reduced in order to run successfully. Visit https://platform.openai.com/account/rate-limits to learn more."
	quotaText = "You exceeded your current quota, please check your plan and billing details. For more information on this error, read the docs: " +
		"https://platform.openai.com/docs/guides/error-codes/api-errors."
)

func TestErrorStatuses(t *testing.T) {
	tests := map[string]struct {
		status int
		header map[string]string
		body   string
		want   pipeline.Failure
		// wantMessage is the whole message; empty means any.
		wantMessage string
	}{
		"429 tokens": {
			status: 429, header: map[string]string{"Retry-After": "19"}, body: published(tokensText, "tokens", "rate_limit_exceeded"),
			want: pipeline.Failure{Class: v1alpha1.FailureRateLimited, Code: "rate_limit_exceeded", RetryAfter: 19 * time.Second},
			wantMessage: "the provider answered 429 Too Many Requests: Rate limit reached for gpt-4o in organization [organization] on tokens per min (TPM): " +
				"Limit 30000, Used 14567, Requested 24754. Please try again in 18.642s. Visit https://platform.openai.com/account/rate-limits to learn more.; " +
				"sent again when the budget has room",
		},
		"429 tokens, headers missing": {
			status: 429, body: published(tokensText, "tokens", "rate_limit_exceeded"),
			want: pipeline.Failure{Class: v1alpha1.FailureRateLimited, Code: "rate_limit_exceeded", RetryAfter: 18642 * time.Millisecond},
		},
		"429 requests, retry-after-ms": {
			status: 429, header: map[string]string{"Retry-After-Ms": "120", "Retry-After": "1"}, body: published(requestsText, "requests", "rate_limit_exceeded"),
			want: pipeline.Failure{Class: v1alpha1.FailureRateLimited, Code: "rate_limit_exceeded", RetryAfter: 120 * time.Millisecond},
		},
		"429 without a body": {
			status: 429, header: map[string]string{"Retry-After": "Mon, 02 Mar 2026 09:00:30 GMT"},
			want:        pipeline.Failure{Class: v1alpha1.FailureRateLimited, RetryAfter: 30 * time.Second},
			wantMessage: "the provider answered 429 Too Many Requests; sent again when the budget has room",
		},
		"429 request too large": {
			status: 429, body: published(tooLargeText, "tokens", "rate_limit_exceeded"),
			want: pipeline.Failure{Class: v1alpha1.FailureRequestTooLarge, Code: "rate_limit_exceeded"},
		},
		"429 insufficient quota": {
			status: 429, body: published(quotaText, "insufficient_quota", "insufficient_quota"),
			want: pipeline.Failure{Class: v1alpha1.FailureQuotaExhausted, Code: "insufficient_quota"},
			wantMessage: "the provider answered 429 Too Many Requests: " + quotaText +
				"; the budget is held; add credit or raise the spend limit of the provider's account",
		},
		"429 insufficient quota by type alone": {
			status: 429, body: published(quotaText, "insufficient_quota", ""),
			want: pipeline.Failure{Class: v1alpha1.FailureQuotaExhausted, Code: "insufficient_quota"},
		},
		"429 credit balance": {
			status: 429, body: published("Your credit balance is exhausted.", "billing", "credit_balance_exhausted"),
			want: pipeline.Failure{Class: v1alpha1.FailureQuotaExhausted, Code: "credit_balance_exhausted"},
		},
		"429 organization spend": {
			status: 429, body: published("Spend limit.", "billing", "organization_spend_limit_exceeded"),
			want: pipeline.Failure{Class: v1alpha1.FailureQuotaExhausted, Code: "organization_spend_limit_exceeded"},
		},
		"429 project spend": {
			status: 429, body: published("Spend limit.", "billing", "project_spend_limit_exceeded"),
			want: pipeline.Failure{Class: v1alpha1.FailureQuotaExhausted, Code: "project_spend_limit_exceeded"},
		},
		"429 organization usage": {
			status: 429, body: published("Usage limit.", "billing", "organization_usage_limit_exceeded"),
			want: pipeline.Failure{Class: v1alpha1.FailureQuotaExhausted, Code: "organization_usage_limit_exceeded"},
		},
		"429 flex": {
			status: 429, body: published("Resource Unavailable", "resource_unavailable", "resource_unavailable"),
			want: pipeline.Failure{Class: v1alpha1.FailureUnavailable, Code: "resource_unavailable"},
		},
		"429 flex by message alone": {
			status: 429, body: published("Resource Unavailable", "", ""),
			want: pipeline.Failure{Class: v1alpha1.FailureUnavailable},
		},
		"503 slow down": {
			status: 503, header: map[string]string{"Retry-After": "5"}, body: published("Slow Down: your request rate rose too quickly.", "server_error", "slow_down"),
			want: pipeline.Failure{Class: v1alpha1.FailureSlowDown, Code: "slow_down", RetryAfter: 5 * time.Second},
		},
		"503 slow down by message alone": {
			status: 503, body: published("Slow Down", "service_unavailable", "overloaded"),
			want: pipeline.Failure{Class: v1alpha1.FailureSlowDown, Code: "overloaded"},
		},
		"503 overloaded": {
			status: 503, body: published("The engine is currently overloaded, please try again later.", "server_error", "overloaded"),
			want: pipeline.Failure{Class: v1alpha1.FailureUnavailable, Code: "overloaded"},
		},
		"500": {
			status: 500, body: published("The server had an error while processing your request.", "server_error", ""),
			want: pipeline.Failure{Class: v1alpha1.FailureUnavailable, Code: "server_error"},
		},
		"502 HTML": {
			status: 502, header: map[string]string{"Content-Type": "text/html"}, body: "<html><body><h1>502 Bad Gateway</h1></body></html>",
			want:        pipeline.Failure{Class: v1alpha1.FailureUnavailable},
			wantMessage: "the provider answered 502 Bad Gateway; tried again after a backoff",
		},
		"504 in plain text": {
			status: 504, header: map[string]string{"Content-Type": "text/plain"}, body: "upstream timed out",
			want: pipeline.Failure{Class: v1alpha1.FailureUnavailable},
		},
		"529": {
			status: 529, body: `{}`,
			want: pipeline.Failure{Class: v1alpha1.FailureUnavailable},
		},
		"408": {status: 408, want: pipeline.Failure{Class: v1alpha1.FailureUnavailable}},
		"409": {status: 409, want: pipeline.Failure{Class: v1alpha1.FailureUnavailable}},
		"307": {
			status: 307, header: map[string]string{"Location": "https://elsewhere.example/v1/chat/completions"},
			want: pipeline.Failure{Class: v1alpha1.FailureUnavailable},
		},
		"401": {
			status: 401, body: published("Incorrect API key provided: sk-test-*********cdef. You can find your API key at https://platform.openai.com/account/api-keys.",
				"invalid_request_error", "invalid_api_key"),
			want: pipeline.Failure{Class: v1alpha1.FailureUnauthorized, Code: "invalid_api_key"},
			wantMessage: "the provider answered 401 Unauthorized: Incorrect API key provided: [key]. You can find your API key at " +
				"https://platform.openai.com/account/api-keys.; the budget is held; put a valid key into the Secret that its spec.secretRef names",
		},
		"403": {
			status: 403, body: published("Country, region, or territory not supported", "request_forbidden", "unsupported_country_region_territory"),
			want: pipeline.Failure{Class: v1alpha1.FailureUnauthorized, Code: "unsupported_country_region_territory"},
		},
		"400": {
			status: 400, body: published("Error while downloading https://images.example/1.jpg.", "invalid_request_error", "invalid_image_url"),
			want: pipeline.Failure{Class: v1alpha1.FailureInvalidRequest, Code: "invalid_image_url"},
			wantMessage: "the provider answered 400 Bad Request: Error while downloading https://images.example/1.jpg.; " +
				"check the image URL, the model's name and the TokenBudget's endpoint",
		},
		"400 for the content": {
			status: 400, body: published("The request was rejected by the safety system.", "invalid_request_error", "content_policy_violation"),
			want: pipeline.Failure{Class: v1alpha1.FailureRefused, Code: "content_policy_violation"},
		},
		"404": {
			status: 404, body: published("The model `gpt-9` does not exist or you do not have access to it.", "invalid_request_error", "model_not_found"),
			want: pipeline.Failure{Class: v1alpha1.FailureBlocked, Code: "model_not_found"},
		},
		// The following rows come from reports by users of other clients. In most of them a proxy, a firewall or a
		// gateway answered instead of the provider.
		"403 for one model": {
			status: 403, body: published("Project `proj_abc` does not have access to model `gpt-5.6`", "invalid_request_error", "model_not_found"),
			want: pipeline.Failure{Class: v1alpha1.FailureBlocked, Code: "model_not_found"},
			wantMessage: "the provider answered 403 Forbidden: Project `[project]` does not have access to model `gpt-5.6`; tried again after a backoff; " +
				"if it lasts, check the key's permission for the model, the TokenBudget's endpoint, and proxies and firewalls in front of the provider",
		},
		"403 of a bot filter": {
			status: 403, header: map[string]string{"Content-Type": "text/html; charset=UTF-8", "Cf-Mitigated": "challenge"},
			body: "<!DOCTYPE html><html><title>Just a moment...</title></html>",
			want: pipeline.Failure{Class: v1alpha1.FailureBlocked},
		},
		"403 in plain text": {
			status: 403, header: map[string]string{"Content-Type": "text/plain"}, body: "error code: 1010",
			want: pipeline.Failure{Class: v1alpha1.FailureBlocked},
		},
		"403 of a closed account": {
			status: 403, body: published("The account is deactivated.", "invalid_request_error", "account_deactivated"),
			want: pipeline.Failure{Class: v1alpha1.FailureUnauthorized, Code: "account_deactivated"},
		},
		"402 of a provider without credit": {
			status: 402, body: published("Insufficient Balance", "unknown_error", "invalid_request_error"),
			want: pipeline.Failure{Class: v1alpha1.FailureQuotaExhausted, Code: "invalid_request_error"},
		},
		"402 in HTML": {status: 402, body: "<html>Payment Required</html>", want: pipeline.Failure{Class: v1alpha1.FailureBlocked}},
		"404 of a server without the route": {
			status: 404, body: `{"detail":"Not Found"}`, want: pipeline.Failure{Class: v1alpha1.FailureBlocked},
		},
		"404 of an ingress": {
			status: 404, body: "default backend - 404", want: pipeline.Failure{Class: v1alpha1.FailureBlocked},
		},
		"400 of a proxy": {
			status: 400, body: "<html><center><h1>400 Bad Request</h1></center><hr><center>nginx</center></html>",
			want: pipeline.Failure{Class: v1alpha1.FailureBlocked},
		},
		"405 of a static host": {status: 405, body: "Method Not Allowed", want: pipeline.Failure{Class: v1alpha1.FailureBlocked}},
		"407":                  {status: 407, body: "Proxy Authentication Required", want: pipeline.Failure{Class: v1alpha1.FailureBlocked}},
		"421":                  {status: 421, want: pipeline.Failure{Class: v1alpha1.FailureBlocked}},
		"451":                  {status: 451, body: "<html>Unavailable For Legal Reasons</html>", want: pipeline.Failure{Class: v1alpha1.FailureBlocked}},
		"a block that names a time": {
			status: 403, header: map[string]string{"Retry-After": "20"}, body: "<html>rate limited by the firewall</html>",
			want: pipeline.Failure{Class: v1alpha1.FailureBlocked, RetryAfter: 20 * time.Second},
		},
		"413": {status: 413, want: pipeline.Failure{Class: v1alpha1.FailureInvalidRequest}},
		"422": {
			status: 422, body: published("invalid schema", "invalid_request_error", ""),
			want: pipeline.Failure{Class: v1alpha1.FailureInvalidRequest, Code: "invalid_request_error"},
		},
		"422 without a body": {status: 422, want: pipeline.Failure{Class: v1alpha1.FailureBlocked}},
		"an error that is a text": {
			status: 400, body: `{"error":"model not loaded"}`,
			want:        pipeline.Failure{Class: v1alpha1.FailureInvalidRequest},
			wantMessage: "the provider answered 400 Bad Request: model not loaded; check the image URL, the model's name and the TokenBudget's endpoint",
		},
		"a code that is a number": {
			status: 400, body: `{"error":{"message":"bad","code":400}}`,
			want: pipeline.Failure{Class: v1alpha1.FailureInvalidRequest, Code: "400"},
		},
		"a code longer than fits": {
			status: 400, body: published("bad", "", strings.Repeat("x", 100)),
			want: pipeline.Failure{Class: v1alpha1.FailureInvalidRequest, Code: strings.Repeat("x", 61) + "…"},
		},
		"a message longer than fits": {
			status: 400, body: published(strings.Repeat("길", 1000), "", ""),
			want: pipeline.Failure{Class: v1alpha1.FailureInvalidRequest},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			calls := 0
			base := serve(t, func(w http.ResponseWriter, r *http.Request) {
				calls++
				answer(tc.status, tc.header, tc.body)(w, r)
			})
			for _, call := range []stages.Call{visionCall(), answerCall()} {
				failure := failureFrom(t, newTestClient(t, base), call)
				if diff := cmp.Diff(&tc.want, failure, cmpopts.IgnoreFields(pipeline.Failure{}, "Message")); diff != "" {
					t.Errorf("%s: failure (-want +got):\n%s", call.API, diff)
				}
				if tc.wantMessage != "" && failure.Message != tc.wantMessage {
					t.Errorf("%s: message\n got %s\nwant %s", call.API, failure.Message, tc.wantMessage)
				}
				checkMessage(t, failure)
			}
			if calls != 2 {
				t.Errorf("two calls made %d requests: nothing may be retried here", calls)
			}
		})
	}
}

// failureFrom sends a call that must fail with a classified error.
func failureFrom(t *testing.T, client *Client, call stages.Call) *pipeline.Failure {
	t.Helper()
	_, err := client.Complete(t.Context(), call)
	failure, ok := errors.AsType[*pipeline.Failure](err)
	if !ok {
		t.Fatalf("got %v, want a *pipeline.Failure", err)
	}
	return failure
}

// checkMessage checks that a message is not empty, is not too long and contains no secret.
func checkMessage(t *testing.T, failure *pipeline.Failure) {
	t.Helper()
	if n := len(failure.Message); n == 0 || n > 512 {
		t.Errorf("the message has %d bytes: %s", n, failure.Message)
	}
	for _, secret := range []string{testKey, "org-", "proj_", "sk-"} {
		if strings.Contains(failure.Message, secret) || strings.Contains(failure.Code, secret) {
			t.Errorf("%q is in: %s", secret, failure.Error())
		}
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	const usage = `"usage":{"input_tokens":100,"output_tokens":20}`
	const chatUsage = `"usage":{"prompt_tokens":100,"completion_tokens":20}`
	used := v1alpha1.TokenUsage{Input: 100, Output: 20}
	tests := map[string]struct {
		call      stages.Call
		body      string
		wantClass v1alpha1.FailureClass
		wantCode  string
		wantUsage v1alpha1.TokenUsage
		wantWait  time.Duration
	}{
		"responses: refusal": {
			call:      visionCall(),
			body:      `{"status":"completed","output":[{"type":"message","content":[{"type":"refusal","refusal":"I cannot help with that."}]}],` + usage + `}`,
			wantClass: v1alpha1.FailureRefused, wantCode: "refusal", wantUsage: used,
		},
		"responses: truncated": {
			call: visionCall(),
			body: `{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"output":[{"type":"message","content":[{"type":"output_text","text":"{\"a\":"}]}],` +
				usage + `}`,
			wantClass: v1alpha1.FailureInvalidOutput, wantCode: "max_output_tokens", wantUsage: used,
		},
		"responses: content filter": {
			call: visionCall(), body: `{"status":"incomplete","incomplete_details":{"reason":"content_filter"},"output":[],` + usage + `}`,
			wantClass: v1alpha1.FailureRefused, wantCode: "content_filter", wantUsage: used,
		},
		"responses: failed, rate limit": {
			call:      visionCall(),
			body:      `{"status":"failed","error":{"code":"rate_limit_exceeded","message":"Rate limit reached for gpt-5 in organization org-x. Please try again in 1.5s."},"output":[]}`,
			wantClass: v1alpha1.FailureRateLimited, wantCode: "rate_limit_exceeded", wantWait: 1500 * time.Millisecond,
		},
		"responses: failed, quota": {
			call: visionCall(), body: `{"status":"failed","error":{"code":"insufficient_quota","message":"quota"},"output":[]}`,
			wantClass: v1alpha1.FailureQuotaExhausted, wantCode: "insufficient_quota",
		},
		"responses: failed, server error": {
			call: visionCall(), body: `{"status":"failed","error":{"code":"server_error","message":"sorry"},"output":[],` + usage + `}`,
			wantClass: v1alpha1.FailureUnavailable, wantCode: "server_error", wantUsage: used,
		},
		"responses: failed, image": {
			call: visionCall(), body: `{"status":"failed","error":{"code":"failed_to_download_image","message":"404"},"output":[]}`,
			wantClass: v1alpha1.FailureInvalidRequest, wantCode: "failed_to_download_image",
		},
		"responses: failed, policy": {
			call: visionCall(), body: `{"status":"failed","error":{"code":"image_content_policy_violation","message":"no"},"output":[]}`,
			wantClass: v1alpha1.FailureRefused, wantCode: "image_content_policy_violation",
		},
		"responses: failed, no reason": {
			call: visionCall(), body: `{"status":"failed","error":null,"output":[]}`,
			wantClass: v1alpha1.FailureUnavailable,
		},
		"responses: not finished": {
			call: visionCall(), body: `{"status":"in_progress","output":[]}`,
			wantClass: v1alpha1.FailureInvalidOutput,
		},
		"responses: empty": {
			call: visionCall(), body: `{"status":"completed","output":[],` + usage + `}`,
			wantClass: v1alpha1.FailureInvalidOutput, wantUsage: used,
		},
		"responses: not an object": {call: visionCall(), body: `[1,2]`, wantClass: v1alpha1.FailureInvalidOutput},
		"responses: cut JSON":      {call: visionCall(), body: goodResponse[:100], wantClass: v1alpha1.FailureInvalidOutput},
		"responses: HTML":          {call: visionCall(), body: `<html>welcome</html>`, wantClass: v1alpha1.FailureInvalidOutput},
		"responses: nothing":       {call: visionCall(), body: ``, wantClass: v1alpha1.FailureInvalidOutput},
		"chat: refusal": {
			call: answerCall(), body: `{"choices":[{"finish_reason":"stop","message":{"content":null,"refusal":"No, sk-abc123."}}],` + chatUsage + `}`,
			wantClass: v1alpha1.FailureRefused, wantCode: "refusal", wantUsage: used,
		},
		"chat: truncated": {
			call: answerCall(), body: `{"choices":[{"finish_reason":"length","message":{"content":"{\"b\":"}}],` + chatUsage + `}`,
			wantClass: v1alpha1.FailureInvalidOutput, wantCode: "max_output_tokens", wantUsage: used,
		},
		"chat: content filter": {
			call: answerCall(), body: `{"choices":[{"finish_reason":"content_filter","message":{"content":""}}],` + chatUsage + `}`,
			wantClass: v1alpha1.FailureRefused, wantCode: "content_filter", wantUsage: used,
		},
		"chat: no choices": {
			call: answerCall(), body: `{"choices":[],` + chatUsage + `}`,
			wantClass: v1alpha1.FailureInvalidOutput, wantUsage: used,
		},
		"chat: an error with status 200": {
			call: answerCall(), body: `{"error":{"message":"Rate limit reached. Please try again in 2s.","code":"rate_limit_exceeded"}}`,
			wantClass: v1alpha1.FailureRateLimited, wantCode: "rate_limit_exceeded", wantWait: 2 * time.Second,
		},
		"chat: empty": {
			call: answerCall(), body: `{"choices":[{"finish_reason":"tool_calls","message":{"content":null}}]}`,
			wantClass: v1alpha1.FailureInvalidOutput,
		},
		"chat: cut JSON":        {call: answerCall(), body: goodChat[:100], wantClass: v1alpha1.FailureInvalidOutput},
		"chat: negative tokens": {call: answerCall(), body: `{"choices":[],"usage":{"prompt_tokens":-5}}`, wantClass: v1alpha1.FailureInvalidOutput},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			reply, err := newTestClient(t, serve(t, answer(http.StatusOK, nil, tc.body))).Complete(t.Context(), tc.call)
			failure, ok := errors.AsType[*pipeline.Failure](err)
			if !ok {
				t.Fatalf("got %v, want a *pipeline.Failure", err)
			}
			want := &pipeline.Failure{Class: tc.wantClass, Code: tc.wantCode, RetryAfter: tc.wantWait}
			if diff := cmp.Diff(want, failure, cmpopts.IgnoreFields(pipeline.Failure{}, "Message")); diff != "" {
				t.Errorf("failure (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.wantUsage, reply.Usage); diff != "" {
				t.Errorf("usage (-want +got):\n%s", diff)
			}
			if reply.Text != "" {
				t.Errorf("a failed call has the text %q", reply.Text)
			}
			checkMessage(t, failure)
		})
	}
}

func TestScrub(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"organization": {"in organization org-AbC123xyz on tokens", "in organization [organization] on tokens"},
		"project":      {"Project `proj_Ab12cd` has", "Project `[project]` has"},
		"key":          {"key sk-proj-Ab_12-cd is bad", "key [key] is bad"},
		"masked key":   {"provided: sk-proj-********************ab12. You", "provided: [key]. You"},
		"own key":      {"custom-key-of-another-style rejected", "[key] rejected"},
		"bearer":       {"header Authorization: Bearer abc.def.ghi was", "header Authorization: [key] was"},
		"password":     {`Post "http://user:secret@host/v1": refused`, `Post "http://host/v1": refused`},
		"lines":        {"a\r\nb\tc\x00", "a b c\x00"},
		"no secret":    {"task-force and disk-full are words", "task-force and disk-full are words"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := scrub(tc.text, "custom-key-of-another-style"); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
