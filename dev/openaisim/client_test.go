// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/openai/openai-go/v3"           //nolint:depguard // the simulation is tried with the real client
	"github.com/openai/openai-go/v3/option"    //nolint:depguard // the simulation is tried with the real client
	"github.com/openai/openai-go/v3/responses" //nolint:depguard // the simulation is tried with the real client
	"github.com/openai/openai-go/v3/shared"    //nolint:depguard // the simulation is tried with the real client
)

// client is the real client library, without retries of its own.
func (f *fixture) client(key string) *openai.Client {
	c := openai.NewClient(option.WithAPIKey(key), option.WithBaseURL(f.url+"/v1"), option.WithMaxRetries(0))
	return &c
}

// schemaMap decodes a schema for the client.
func schemaMap(t *testing.T, raw string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(raw), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// visionParams is the request of a vision call.
func visionParams(t *testing.T, imageURL string) responses.ResponseNewParams {
	t.Helper()
	return responses.ResponseNewParams{
		Model: "gpt-5.4-mini", MaxOutputTokens: openai.Int(300), Store: openai.Bool(false),
		Instructions: openai.String("사진 속 물건을 분류하세요."),
		Input: responses.ResponseNewParamsInputUnion{OfInputItemList: responses.ResponseInputParam{
			responses.ResponseInputItemParamOfMessage(responses.ResponseInputMessageContentListParam{
				responses.ResponseInputContentParamOfInputText("이거 어떻게 버려요?"),
				{OfInputImage: &responses.ResponseInputImageParam{
					ImageURL: openai.String(imageURL), Detail: responses.ResponseInputImageDetailLow,
				}},
			}, responses.EasyInputMessageRoleUser),
		}},
		Text: responses.ResponseTextConfigParam{Format: responses.ResponseFormatTextConfigUnionParam{
			OfJSONSchema: &responses.ResponseFormatTextJSONSchemaConfigParam{
				Name: "classification", Schema: schemaMap(t, wasteSchema), Strict: openai.Bool(true),
			},
		}},
	}
}

// answerParams is the request of an answer call.
func answerParams(t *testing.T) openai.ChatCompletionNewParams {
	t.Helper()
	return openai.ChatCompletionNewParams{
		Model: "gpt-5.4-mini", MaxCompletionTokens: openai.Int(800),
		Messages: []openai.ChatCompletionMessageParamUnion{
			openai.SystemMessage("Answer from the rule only."), openai.UserMessage("페트병은 어떻게 버려요?"),
		},
		ResponseFormat: openai.ChatCompletionNewParamsResponseFormatUnion{OfJSONSchema: &shared.ResponseFormatJSONSchemaParam{
			JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{
				Name: "answer", Schema: schemaMap(t, answerSchema), Strict: openai.Bool(true),
			},
		}},
	}
}

func TestClientResponses(t *testing.T) {
	f := newFixture(t, nil)
	var raw *http.Response
	r, err := f.client(testKey).Responses.New(t.Context(),
		visionParams(t, "https://img.test/1.jpg?w=800&h=600&class=%EC%9E%AC%ED%99%9C%EC%9A%A9%ED%8F%90%EA%B8%B0%EB%AC%BC%2F%EB%AC%B4%EC%83%89%ED%8E%98%ED%8A%B8%EB%B3%91"),
		option.WithResponseInto(&raw))
	if err != nil {
		t.Fatal(err)
	}
	satisfies(t, wasteSchema, r.OutputText())
	for _, want := range []string{`"재활용폐기물"`, `"무색페트병"`} {
		if !strings.Contains(r.OutputText(), want) {
			t.Errorf("output %s, want %s in it", r.OutputText(), want)
		}
	}
	if r.Status != responses.ResponseStatusCompleted || r.ServiceTier != "default" || r.Model != "gpt-5.4-mini" {
		t.Errorf("status %q, tier %q, model %q", r.Status, r.ServiceTier, r.Model)
	}
	if u := r.Usage; u.OutputTokens != countTokens(r.OutputText()) || u.InputTokens < 570 || u.TotalTokens != u.InputTokens+u.OutputTokens {
		t.Errorf("usage %+v for %s", u, r.OutputText())
	}
	// 15 and 12 characters, 570 tokens of image, 300 of output.
	if got, want := raw.Header.Get("x-ratelimit-remaining-tokens"), "1999119"; got != want {
		t.Errorf("remaining tokens %s, want %s", got, want)
	}
	for name, want := range map[string]string{
		"openai-organization": testOrg, "openai-processing-ms": "0", "x-ratelimit-limit-tokens": "2000000", "openai-version": apiVersion,
	} {
		if got := raw.Header.Get(name); got != want {
			t.Errorf("header %s %q, want %q", name, got, want)
		}
	}
}

func TestClientChat(t *testing.T) {
	f := newFixture(t, nil)
	c, err := f.client(testKey).Chat.Completions.New(t.Context(), answerParams(t))
	if err != nil {
		t.Fatal(err)
	}
	one := c.Choices[0]
	satisfies(t, answerSchema, one.Message.Content)
	if one.FinishReason != "stop" || one.Message.Refusal != "" {
		t.Errorf("finish %q, refusal %q", one.FinishReason, one.Message.Refusal)
	}
	if got, want := c.Usage.CompletionTokens, countTokens(one.Message.Content); got != want {
		t.Errorf("%d completion tokens, want %d", got, want)
	}
}

func TestClientInputTokens(t *testing.T) {
	f := newFixture(t, nil)
	n, err := f.client(testKey).Responses.InputTokens.Count(t.Context(), responses.InputTokenCountParams{
		Model: openai.String("gpt-5.4"),
		Input: responses.InputTokenCountParamsInputUnion{OfString: openai.String("Who is Joseph Conrad?")},
	})
	if err != nil || n.InputTokens != 12 {
		t.Errorf("counted %+v, %v; want 12 tokens", n, err)
	}
	if got := f.Stats().Accounts[0]; got.TokensRemaining != got.TokenLimit || got.RequestsRemaining != got.RequestLimit-1 {
		t.Errorf("after a count: %+v, want one request and no tokens spent", got)
	}
}

func TestClientModels(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Models = []Model{{Name: "house-model", Like: "gpt-5.4"}} })
	client := f.client(testKey)
	page, err := client.Models.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, m := range page.Data {
		found = found || m.ID == "house-model"
	}
	if !found || len(page.Data) != len(catalog)+1 {
		t.Errorf("%d models, house-model among them %v; want %d and true", len(page.Data), found, len(catalog)+1)
	}
	if m, err := client.Models.Get(t.Context(), "gpt-4o-2024-08-06"); err != nil || m.ID != "gpt-4o-2024-08-06" {
		t.Errorf("dated model: %+v, %v", m, err)
	}
	if _, err := client.Models.Get(t.Context(), "gpt-99"); !isAPIError(err, http.StatusNotFound, "model_not_found") {
		t.Errorf("unknown model: %v, want 404 model_not_found", err)
	}
}

// isAPIError reports whether the client saw a typed error.
func isAPIError(err error, status int, code string) bool {
	apiErr, ok := errors.AsType[*openai.Error](err)
	return ok && apiErr.StatusCode == status && apiErr.Code == code
}

// TestClientTypedErrors checks that the client recognizes the errors.
func TestClientTypedErrors(t *testing.T) {
	for _, tc := range []struct {
		name       string
		key        string
		config     func(*Config)
		wantStatus int
		wantCode   string
		wantType   string
	}{
		{"wrong key", "nonsense-key-0123456789", nil, 401, "invalid_api_key", "invalid_request_error"},
		{"too large", testKey, func(c *Config) { c.TokensPerMinute = 100 }, 429, "rate_limit_exceeded", "tokens"},
		{"no tokens", testKey, func(c *Config) { c.Faults = []Fault{{Kind: FaultRateLimitTokens}} }, 429, "rate_limit_exceeded", "tokens"},
		{"no requests", testKey, func(c *Config) { c.Faults = []Fault{{Kind: FaultRateLimitRequests}} }, 429, "rate_limit_exceeded", "requests"},
		{"no quota", testKey, func(c *Config) { c.Faults = []Fault{{Kind: FaultInsufficientQuota}} }, 429, "insufficient_quota", "insufficient_quota"},
		{"server error", testKey, func(c *Config) { c.Faults = []Fault{{Kind: FaultServerError}} }, 500, "", "server_error"},
		{"bad gateway", testKey, func(c *Config) { c.Faults = []Fault{{Kind: FaultBadGateway}} }, 502, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, tc.config)
			client := f.client(tc.key)
			_, chatErr := client.Chat.Completions.New(t.Context(), answerParams(t))
			f.Reset()
			_, visionErr := client.Responses.New(t.Context(), visionParams(t, "https://img.test/1.jpg"))
			for endpoint, err := range map[string]error{"chat": chatErr, "responses": visionErr} {
				apiErr, ok := errors.AsType[*openai.Error](err)
				if !ok {
					t.Fatalf("%s: %v, want a typed error", endpoint, err)
				}
				if apiErr.StatusCode != tc.wantStatus || apiErr.Code != tc.wantCode || apiErr.Type != tc.wantType {
					t.Errorf("%s: %d %q %q, want %d %q %q", endpoint, apiErr.StatusCode, apiErr.Code, apiErr.Type,
						tc.wantStatus, tc.wantCode, tc.wantType)
				}
			}
		})
	}
}

// TestClientLeaves checks that a call whose client leaves is dropped and stays
// charged.
func TestClientLeaves(t *testing.T) {
	for _, tc := range []struct {
		name   string
		config func(*Config)
	}{
		{"during generation", func(c *Config) { c.Speed = 1 }},
		{"hanging", func(c *Config) { c.Faults = []Fault{{Kind: FaultHang}} }},
		{"before the first byte", func(c *Config) { c.Faults = []Fault{{Kind: FaultSlowFirstByte, DelayMillis: 60_000}} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, tc.config)
			ctx, leave := context.WithCancel(t.Context())
			failed := make(chan error, 1)
			go func() {
				_, err := f.client(testKey).Chat.Completions.New(ctx, answerParams(t))
				failed <- err
			}()
			f.eventually(func(s *Stats) bool { return s.InFlight == 1 })
			leave()
			if err := <-failed; !errors.Is(err, context.Canceled) {
				t.Errorf("client: %v, want context.Canceled", err)
			}
			f.eventually(func(s *Stats) bool { return s.InFlight == 0 && s.Disconnected == 1 })
			stats := f.Stats()
			if account := stats.Accounts[0]; stats.Completed != 0 || account.TokenLimit-account.TokensRemaining != stats.TokensCharged || stats.TokensCharged < 800 {
				t.Errorf("completed %d, charged %d, account %+v", stats.Completed, stats.TokensCharged, account)
			}
		})
	}
}

func TestResetConnection(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Faults = []Fault{{Kind: FaultReset, Count: 1}} })
	_, err := f.client(testKey).Chat.Completions.New(t.Context(), answerParams(t))
	if _, typed := errors.AsType[*openai.Error](err); err == nil || typed {
		t.Errorf("reset: %v, want an error of the connection", err)
	}
	got := f.Stats()
	if diff := cmp.Diff(map[string]int64{"connection_reset": 1}, got.Errors); diff != "" || got.Admitted != 1 || got.Completed != 0 {
		t.Errorf("admitted %d, completed %d, errors (-want +got):\n%s", got.Admitted, got.Completed, diff)
	}
}
