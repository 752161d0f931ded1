// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/stages"
)

const testKey = "sk-test-0123456789abcdef"

var testNow = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// keyFunc makes a function a KeySource.
type keyFunc func(budget string) (string, error)

func (f keyFunc) Key(budget string) (string, error) { return f(budget) }

// newTestClient returns a client that sends all calls to one server.
func newTestClient(t *testing.T, baseURL string) *Client {
	t.Helper()
	hc := NewHTTPClient(4)
	t.Cleanup(hc.CloseIdleConnections)
	return New(Options{
		Keys:       keyFunc(func(string) (string, error) { return testKey, nil }),
		Endpoints:  EndpointFunc(func(string) (string, error) { return baseURL, nil }),
		HTTPClient: hc,
		Clock:      clocktesting.NewFakePassiveClock(testNow),
	})
}

// serve starts a server with a handler for all calls.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL + "/v1"
}

// untilTheClientLeaves blocks a handler. A server notices that a client has left only once it has read the request.
func untilTheClientLeaves(r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// answer returns a handler with a fixed response.
func answer(status int, header map[string]string, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// testSchema is a small schema, as strict mode wants it.
var testSchema = map[string]any{
	"type": "object", "properties": map[string]any{"a": map[string]any{"type": "string"}}, "required": []any{"a"}, "additionalProperties": false,
}

func visionCall() stages.Call {
	return stages.Call{
		API: stages.Responses, Budget: "main", Model: "gpt-5.4-mini", Instructions: "Classify.", Text: "User's note: 병",
		ImageURL: "https://images.example/1.jpg", ImageDetail: v1alpha1.ImageDetailLow, SchemaName: "classification", Schema: testSchema,
		MaxOutputTokens: 300, ReasoningEffort: "none", RequestID: "assignment-1", CacheKey: "vision-1",
	}
}

func answerCall() stages.Call {
	return stages.Call{
		API: stages.ChatCompletions, Budget: "main", Model: "gpt-4o-mini", Instructions: "Advise.", Text: "Rule: …",
		SchemaName: "advice", Schema: testSchema, MaxOutputTokens: 800, RequestID: "assignment-2", CacheKey: "answer-1",
	}
}

const (
	goodResponse = `{"id":"resp_1","object":"response","status":"completed","output":[
		{"type":"reasoning","id":"rs_1","summary":[]},
		{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"{\"a\":1}","annotations":[]}]}],
		"usage":{"input_tokens":120,"input_tokens_details":{"cached_tokens":64},"output_tokens":30,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":150}}`
	goodChat = `{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"finish_reason":"stop",
		"message":{"role":"assistant","content":"{\"b\":2}","refusal":null}}],
		"usage":{"prompt_tokens":90,"prompt_tokens_details":{"cached_tokens":10},"completion_tokens":40,"total_tokens":130}}`
)

func TestRequests(t *testing.T) {
	tests := map[string]struct {
		call     stages.Call
		reply    string
		wantPath string
		wantBody string
		want     stages.Reply
	}{
		"responses": {
			call: visionCall(), reply: goodResponse, wantPath: "/v1/responses",
			wantBody: `{
				"model": "gpt-5.4-mini", "instructions": "Classify.", "max_output_tokens": 300, "store": false,
				"prompt_cache_key": "vision-1", "reasoning": {"effort": "none"},
				"input": [{"role": "user", "content": [
					{"type": "input_text", "text": "User's note: 병"},
					{"type": "input_image", "image_url": "https://images.example/1.jpg", "detail": "low"}]}],
				"text": {"format": {"type": "json_schema", "name": "classification", "strict": true,
					"schema": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false}}}}`,
			want: stages.Reply{Text: `{"a":1}`, Usage: v1alpha1.TokenUsage{Input: 120, CachedInput: 64, Output: 30}},
		},
		"chat completions": {
			call: answerCall(), reply: goodChat, wantPath: "/v1/chat/completions",
			wantBody: `{
				"model": "gpt-4o-mini", "max_completion_tokens": 800, "store": false, "prompt_cache_key": "answer-1",
				"messages": [{"role": "system", "content": "Advise."}, {"role": "user", "content": "Rule: …"}],
				"response_format": {"type": "json_schema", "json_schema": {"name": "advice", "strict": true,
					"schema": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false}}}}`,
			want: stages.Reply{Text: `{"b":2}`, Usage: v1alpha1.TokenUsage{Input: 90, CachedInput: 10, Output: 40}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var got struct {
				method, path, auth, requestID, retryCount string
				body                                      any
			}
			base := serve(t, func(w http.ResponseWriter, r *http.Request) {
				got.method, got.path, got.auth = r.Method, r.URL.Path, r.Header.Get("Authorization")
				got.requestID, got.retryCount = r.Header.Get("X-Client-Request-Id"), r.Header.Get("X-Stainless-Retry-Count")
				if err := json.NewDecoder(r.Body).Decode(&got.body); err != nil {
					t.Errorf("the body is not JSON: %v", err)
				}
				answer(http.StatusOK, nil, tc.reply)(w, r)
			})
			reply, err := newTestClient(t, base).Complete(t.Context(), tc.call)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, reply); diff != "" {
				t.Errorf("reply (-want +got):\n%s", diff)
			}
			if got.method != http.MethodPost || got.path != tc.wantPath || got.auth != "Bearer "+testKey || got.requestID != tc.call.RequestID {
				t.Errorf("got %s %s with Authorization %q and X-Client-Request-Id %q", got.method, got.path, got.auth, got.requestID)
			}
			if got.retryCount != "0" {
				t.Errorf("the retry count is %q, want 0", got.retryCount)
			}
			var want any
			if err := json.Unmarshal([]byte(tc.wantBody), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got.body); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
		})
	}
}

// The environment of a worker must not decide whose account pays, or where a key goes.
func TestTheEnvironmentDoesNotLeakIn(t *testing.T) {
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the call went where the environment says") })
	t.Setenv("OPENAI_BASE_URL", elsewhere)
	t.Setenv("OPENAI_API_KEY", "sk-environment")
	t.Setenv("OPENAI_ADMIN_KEY", "sk-environment-admin")
	t.Setenv("OPENAI_ORG_ID", "org-environment")
	t.Setenv("OPENAI_PROJECT_ID", "proj_environment")
	t.Setenv("OPENAI_CUSTOM_HEADERS", "X-Environment: leaked")
	calls := 0
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		calls++
		for name, values := range r.Header {
			if v := strings.Join(values, " "); strings.Contains(v, "environment") || strings.Contains(v, "leaked") {
				t.Errorf("%s: %s comes from the environment", name, v)
			}
		}
		if got := r.Header.Get("Authorization"); got != "Bearer "+testKey {
			t.Errorf("Authorization is %q", got)
		}
		if r.URL.Path == "/v1/responses" {
			answer(http.StatusOK, nil, goodResponse)(w, r)
			return
		}
		answer(http.StatusOK, nil, goodChat)(w, r)
	})
	client := newTestClient(t, base)
	for _, call := range []stages.Call{visionCall(), answerCall()} {
		if _, err := client.Complete(t.Context(), call); err != nil {
			t.Error(err)
		}
	}
	if calls != 2 {
		t.Errorf("the budget's endpoint got %d calls, want 2", calls)
	}
}

func TestEachBudgetHasItsOwnKeyAndEndpoint(t *testing.T) {
	seen := make(map[string]string)
	server := func(name string) string {
		return serve(t, func(w http.ResponseWriter, r *http.Request) {
			seen[name] = r.Header.Get("Authorization")
			answer(http.StatusOK, nil, goodChat)(w, r)
		})
	}
	endpoints := map[string]string{"a": server("a"), "b": server("b")}
	client := New(Options{
		Keys:      keyFunc(func(budget string) (string, error) { return "key-of-" + budget, nil }),
		Endpoints: EndpointFunc(func(budget string) (string, error) { return endpoints[budget], nil }),
	})
	for budget := range endpoints {
		call := answerCall()
		call.Budget = budget
		if _, err := client.Complete(t.Context(), call); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(map[string]string{"a": "Bearer key-of-a", "b": "Bearer key-of-b"}, seen); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestCallsThatCannotBeSent(t *testing.T) {
	tests := map[string]struct {
		change        func(*stages.Call)
		key, endpoint string
		keyErr        error
		wantClass     v1alpha1.FailureClass
		wantMessage   string
	}{
		"no key": {
			keyErr: errors.New(`no key is mounted for the budget "main"`), endpoint: "https://api.example/v1",
			wantClass:   v1alpha1.FailureUnauthorized,
			wantMessage: `the budget main has no usable key: no key is mounted for the budget "main"; check the Secret that spec.secretRef of the TokenBudget names`,
		},
		"a key with a line break": {
			key: "sk-a\nX-Evil: 1", endpoint: "https://api.example/v1",
			wantClass:   v1alpha1.FailureUnauthorized,
			wantMessage: "the budget main has no usable key: the key has characters that are not allowed in a header; check the Secret that spec.secretRef of the TokenBudget names",
		},
		"an endpoint that is no URL": {
			key: testKey, endpoint: "api.example/v1",
			wantClass:   v1alpha1.FailureInternal,
			wantMessage: `the budget main has no usable endpoint: "api.example/v1" is not an absolute http or https URL; check spec.endpoint of the TokenBudget`,
		},
		"no output limit": {
			change: func(c *stages.Call) { c.MaxOutputTokens = 0 }, key: testKey, endpoint: "https://api.example/v1",
			wantClass:   v1alpha1.FailureInternal,
			wantMessage: "the assignment has no output limit, which is needed to size the call; set stageDefaults.maxOutputTokens of the pool",
		},
		"an unknown API": {
			change: func(c *stages.Call) { c.API = "telepathy" }, key: testKey, endpoint: "https://api.example/v1",
			wantClass:   v1alpha1.FailureInternal,
			wantMessage: `unknown API "telepathy"; this is a fault of the worker, please report it`,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			client := New(Options{
				Keys:      keyFunc(func(string) (string, error) { return tc.key, tc.keyErr }),
				Endpoints: EndpointFunc(func(string) (string, error) { return tc.endpoint, nil }),
				HTTPClient: &http.Client{Transport: roundTripFunc(func(*http.Request) (*http.Response, error) {
					t.Error("a request was sent")
					return nil, errors.New("not to be sent")
				})},
			})
			call := answerCall()
			if tc.change != nil {
				tc.change(&call)
			}
			_, err := client.Complete(t.Context(), call)
			failure, ok := errors.AsType[*pipeline.Failure](err)
			if !ok {
				t.Fatalf("got %v, want a *pipeline.Failure", err)
			}
			if failure.Class != tc.wantClass || failure.Message != tc.wantMessage {
				t.Errorf("got %s: %s\nwant %s: %s", failure.Class, failure.Message, tc.wantClass, tc.wantMessage)
			}
		})
	}
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestRateLimitHeadersComeWithFailuresToo(t *testing.T) {
	header := map[string]string{
		"x-ratelimit-limit-tokens": "30000", "x-ratelimit-remaining-tokens": "15433", "x-ratelimit-reset-tokens": "29.134s",
		"x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "499", "x-ratelimit-reset-requests": "120ms",
	}
	want := &v1alpha1.RateLimitObservation{
		SentAt: metav1.NewMicroTime(testNow), LimitTokens: 30000, RemainingTokens: 15433,
		LimitRequests: 500, RemainingRequests: 499, ResetRequestsMilliseconds: 120,
	}
	for name, tc := range map[string]struct {
		status int
		body   string
	}{
		"success":      {http.StatusOK, goodChat},
		"rejection":    {http.StatusTooManyRequests, `{"error":{"message":"…","type":"tokens","param":null,"code":"rate_limit_exceeded"}}`},
		"server error": {http.StatusInternalServerError, ``},
		"refusal":      {http.StatusOK, `{"choices":[{"finish_reason":"stop","message":{"refusal":"no"}}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			reply, _ := newTestClient(t, serve(t, answer(tc.status, header, tc.body))).Complete(t.Context(), answerCall())
			if diff := cmp.Diff(want, reply.RateLimit); diff != "" {
				t.Errorf("observation (-want +got):\n%s", diff)
			}
		})
	}
}

// A caller that cancels a call gets its own cause back.
func TestTheEndOfAContextIsItsCause(t *testing.T) {
	drained := &pipeline.Failure{Class: v1alpha1.FailureDrained, Message: "shutting down"}
	for name, cause := range map[string]error{"drained": drained, "deadline": context.DeadlineExceeded} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			base := serve(t, func(_ http.ResponseWriter, r *http.Request) {
				cancel(cause) // the request is on its way: end it here
				untilTheClientLeaves(r)
			})
			_, err := newTestClient(t, base).Complete(ctx, answerCall())
			if !errors.Is(err, cause) {
				t.Errorf("got %v, want %v", err, cause)
			}
		})
	}
}

func TestTheContextMayEndWhileTheBodyIsRead(t *testing.T) {
	drained := &pipeline.Failure{Class: v1alpha1.FailureDrained, Message: "shutting down"}
	ctx, cancel := context.WithCancelCause(t.Context())
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Ratelimit-Limit-Tokens", "1000")
		w.Header().Set("X-Ratelimit-Remaining-Tokens", "10")
		_, _ = io.WriteString(w, `{"choices":`)
		_ = http.NewResponseController(w).Flush()
		untilTheClientLeaves(r)
	})
	client := newTestClient(t, base)
	client.chat.Options = append(client.chat.Options, endWhenHeadersArrive(func() { cancel(drained) }))
	reply, err := client.Complete(ctx, answerCall())
	if !errors.Is(err, drained) {
		t.Errorf("got %v, want %v", err, drained)
	}
	if reply.RateLimit != nil && reply.RateLimit.RemainingTokens != 10 {
		t.Errorf("the headers were read as %+v", reply.RateLimit)
	}
}
