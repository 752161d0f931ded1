// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"encoding/json"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// eventually yields to the server's goroutines until the statistics are as
// expected. If they never are, the time limit of the test binary ends it.
func (f *fixture) eventually(as func(*Stats) bool) {
	for stats := f.Stats(); !as(&stats); stats = f.Stats() {
		runtime.Gosched()
	}
}

const (
	plainResponse = `{"model":"gpt-4o","input":"Hi","max_output_tokens":500,"text":{"format":{"type":"json_schema","name":"n","strict":true,"schema":` + answerSchema + `}}}`
	plainChat     = `{"model":"gpt-4o","messages":[{"role":"user","content":"Hi"}],"max_completion_tokens":500,"response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":` + answerSchema + `}}}`
	plainVision   = `{"model":"gpt-4o","max_output_tokens":100,"input":[{"role":"user","content":[{"type":"input_image","image_url":"https://x.test/a.jpg"}]}]}`
)

// TestAdmissionFaults checks the faults that turn a call away: a request is
// spent, no tokens are.
func TestAdmissionFaults(t *testing.T) {
	for _, tc := range []struct {
		kind        FaultKind
		wantStatus  int
		wantCode    string
		wantMessage string
	}{
		{FaultInsufficientQuota, 429, "insufficient_quota", "You exceeded your current quota, please check your plan and billing details. For more " +
			"information on this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."},
		{FaultCreditBalance, 429, "credit_balance_exhausted", "Your credit balance"},
		{FaultOrganizationSpend, 429, "organization_spend_limit_exceeded", "Your organization"},
		{FaultProjectSpend, 429, "project_spend_limit_exceeded", "Your project"},
		{FaultOrganizationUsage, 429, "organization_usage_limit_exceeded", "Your organization"},
		{FaultFlexUnavailable, 429, "resource_unavailable", "Resource Unavailable"},
		{FaultOverloaded, 503, "overloaded", "The engine is currently overloaded"},
		{FaultSlowDown, 503, "slow_down", "Slow Down"},
		{FaultInvalidImage, 400, "invalid_image_url", "Error while downloading https://x.test/a.jpg."},
	} {
		t.Run(string(tc.kind), func(t *testing.T) {
			f := newFixture(t, func(c *Config) { c.Faults = []Fault{{Kind: tc.kind, RetryAfterMillis: 1500}} })
			got := f.send(http.MethodPost, string(endpointResponses), plainVision)
			var body struct {
				Error struct{ Message, Type, Code string }
			}
			if err := json.Unmarshal([]byte(got.body), &body); err != nil {
				t.Fatal(err)
			}
			if got.status != tc.wantStatus || body.Error.Code != tc.wantCode || !strings.HasPrefix(body.Error.Message, tc.wantMessage) {
				t.Errorf("got %d %s", got.status, got.body)
			}
			if got.header.Get("Retry-After") != "2" || got.header.Get("Retry-After-Ms") != "1500" {
				t.Errorf("retry headers %v", limitHeaders(got.header))
			}
			stats := f.Stats()
			account := stats.Accounts[0]
			if stats.Admitted != 0 || account.TokensRemaining != account.TokenLimit || account.RequestsRemaining != account.RequestLimit-1 {
				t.Errorf("admitted %d, account %+v; want one request spent and no tokens", stats.Admitted, account)
			}
			if diff := cmp.Diff(map[string]int64{string(tc.kind): 1}, stats.Faults); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRateLimitFaultsAreTrue checks that an injected 429 states what is so: the
// bucket is empty, for this call and the next.
func TestRateLimitFaultsAreTrue(t *testing.T) {
	f := newFixture(t, func(c *Config) {
		c.TokensPerMinute = 6000
		c.Faults = []Fault{{Kind: FaultRateLimitTokens, Count: 1}}
	})
	for _, want := range []string{"10000", "10000"} {
		got := f.chat("gpt-4o", 1000)
		if got.header.Get("Retry-After-Ms") != want || !strings.Contains(got.body, "Limit 6000, Used 6000, Requested 1000. Please try again in 10s.") {
			t.Errorf("got %d %v %s", got.status, limitHeaders(got.header), got.body)
		}
	}
	f.clock.Step(10 * time.Second)
	if got := f.chat("gpt-4o", 1000); got.status != http.StatusOK {
		t.Errorf("after the stated wait: %d %s", got.status, got.body)
	}
}

// TestGenerationFaults checks the faults of calls that were paid.
func TestGenerationFaults(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault Fault
		at    endpoint
		body  string
		want  func(t *testing.T, got reply)
		// wantCompleted is whether an answer was produced, wantError what was
		// counted instead.
		wantCompleted int64
		wantError     string
	}{
		{
			"500",
			Fault{Kind: FaultServerError},
			endpointChat, plainChat,
			func(t *testing.T, got reply) {
				t.Helper()
				want := errorBody("The server had an error while processing your request. Sorry about that! You can retry your request, or "+
					"contact us through our help center at help.openai.com if the error persists. (Please include the request ID "+
					got.header.Get("X-Request-Id")+" in your message.)", "server_error", "", "")
				if got.status != 500 || got.body != want {
					t.Errorf("got %d %s\nwant %s", got.status, got.body, want)
				}
			}, 0, "500 server_error",
		},
		{
			"failed",
			Fault{Kind: FaultFailed, Code: "rate_limit_exceeded"},
			endpointResponses, plainResponse,
			func(t *testing.T, got reply) {
				t.Helper()
				d := decode[responseDocument](t, got)
				if got.status != 200 || d.Status != "failed" || d.Error == nil || d.Error.Code != "rate_limit_exceeded" || len(d.Output) != 0 {
					t.Errorf("got %d %s", got.status, got.body)
				}
			}, 0, "200 failed rate_limit_exceeded",
		},
		{
			"malformed response",
			Fault{Kind: FaultMalformed},
			endpointResponses, plainResponse,
			func(t *testing.T, got reply) {
				t.Helper()
				d := decode[responseDocument](t, got)
				if text := *d.Output[0].Content[0].Text; d.Status != "completed" || text == "" || json.Valid([]byte(text)) {
					t.Errorf("status %s, text %s", d.Status, text)
				}
			}, 1, "",
		},
		{
			"truncated response",
			Fault{Kind: FaultTruncated},
			endpointResponses, plainResponse,
			func(t *testing.T, got reply) {
				t.Helper()
				d := decode[responseDocument](t, got)
				if d.Status != "incomplete" || d.IncompleteDetails.Reason != "max_output_tokens" || json.Valid([]byte(*d.Output[0].Content[0].Text)) {
					t.Errorf("got %s", got.body)
				}
			}, 1, "",
		},
		{
			"truncated chat",
			Fault{Kind: FaultTruncated},
			endpointChat, plainChat,
			func(t *testing.T, got reply) {
				t.Helper()
				if d := decode[chatDocument](t, got); *d.Choices[0].FinishReason != "length" || json.Valid([]byte(*d.Choices[0].Message.Content)) {
					t.Errorf("got %s", got.body)
				}
			}, 1, "",
		},
		{
			"refused response",
			Fault{Kind: FaultRefusal},
			endpointResponses, plainResponse,
			func(t *testing.T, got reply) {
				t.Helper()
				d := decode[responseDocument](t, got)
				if c := d.Output[0].Content[0]; d.Status != "completed" || c.Type != "refusal" || *c.Refusal != refusalText || c.Text != nil {
					t.Errorf("got %s", got.body)
				}
			}, 1, "",
		},
		{
			"refused chat",
			Fault{Kind: FaultRefusal},
			endpointChat, plainChat,
			func(t *testing.T, got reply) {
				t.Helper()
				if m := decode[chatDocument](t, got).Choices[0].Message; m.Content != nil || *m.Refusal != refusalText {
					t.Errorf("got %s", got.body)
				}
			}, 1, "",
		},
		{
			"filtered response",
			Fault{Kind: FaultContentFilter},
			endpointResponses, plainResponse,
			func(t *testing.T, got reply) {
				t.Helper()
				if d := decode[responseDocument](t, got); d.Status != "incomplete" || d.IncompleteDetails.Reason != "content_filter" {
					t.Errorf("got %s", got.body)
				}
			}, 1, "",
		},
		{
			"filtered chat",
			Fault{Kind: FaultContentFilter},
			endpointChat, plainChat,
			func(t *testing.T, got reply) {
				t.Helper()
				if d := decode[chatDocument](t, got); *d.Choices[0].FinishReason != "content_filter" || *d.Choices[0].Message.Content != "" {
					t.Errorf("got %s", got.body)
				}
			}, 1, "",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, func(c *Config) { c.Faults = []Fault{tc.fault} })
			tc.want(t, f.send(http.MethodPost, string(tc.at), tc.body))
			stats := f.Stats()
			if stats.Admitted != 1 || stats.TokensCharged < 500 || stats.Completed != tc.wantCompleted {
				t.Errorf("admitted %d, charged %d, completed %d; want 1, at least 500, %d",
					stats.Admitted, stats.TokensCharged, stats.Completed, tc.wantCompleted)
			}
			if tc.wantError != "" && stats.Errors[tc.wantError] != 1 {
				t.Errorf("errors %v, want %s", stats.Errors, tc.wantError)
			}
		})
	}
}

func decode[T any](t *testing.T, got reply) T {
	t.Helper()
	var d T
	if err := json.Unmarshal([]byte(got.body), &d); err != nil {
		t.Fatalf("%v: %s", err, got.body)
	}
	return d
}

// TestOutputLimit checks that an answer never exceeds what was asked for, on
// both endpoints.
func TestOutputLimit(t *testing.T) {
	f := newFixture(t, nil)
	for _, tc := range []struct {
		at   endpoint
		body string
	}{
		{endpointResponses, strings.Replace(plainResponse, ":500", ":16", 1)},
		{endpointChat, strings.Replace(plainChat, ":500", ":16", 1)},
	} {
		got := f.send(http.MethodPost, string(tc.at), tc.body)
		if !strings.Contains(got.body, `"length"`) && !strings.Contains(got.body, `"reason":"max_output_tokens"`) {
			t.Errorf("%s: not truncated: %s", tc.at, got.body)
		}
	}
	if got := f.Stats().OutputTokens; got < 20 || got > 32 {
		t.Errorf("%d output tokens in two calls of at most 16", got)
	}
}

func TestBadGateway(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Faults = []Fault{{Kind: FaultBadGateway}} })
	got := f.send(http.MethodPost, string(endpointChat), plainChat)
	if got.status != 502 || !strings.HasPrefix(got.header.Get("Content-Type"), "text/html") || !strings.Contains(got.body, "<h1>502 Bad Gateway</h1>") {
		t.Errorf("got %d %s %s", got.status, got.header.Get("Content-Type"), got.body)
	}
	if len(limitHeaders(got.header)) != 0 || got.header.Get("X-Request-Id") != "" {
		t.Errorf("headers %v, want none of the API's", got.header)
	}
}

// TestMannerFaults checks the faults that only change headers and time, on top
// of true replies.
func TestMannerFaults(t *testing.T) {
	for _, tc := range []struct {
		name   string
		kind   FaultKind
		charge int64
		want   map[string]string
	}{
		{"headers missing on success", FaultHeadersMissing, 100, map[string]string{}},
		{"headers missing on 429", FaultHeadersMissing, 5000, map[string]string{}},
		{"only milliseconds on 429", FaultRetryAfterMillisOnly, 5000, map[string]string{"Retry-After-Ms": "20000"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, func(c *Config) {
				c.TokensPerMinute = 6000
				c.Faults = []Fault{{Kind: tc.kind}}
			})
			f.consume(3000, 0)
			if diff := cmp.Diff(tc.want, limitHeaders(f.chat("gpt-4o", tc.charge).header)); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFaultSelection checks whom a rule hits, and how often.
func TestFaultSelection(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault Fault
		// want is the status of: a chat, a vision call, another chat.
		want [3]int
	}{
		{"everybody", Fault{Kind: FaultServerError}, [3]int{500, 500, 500}},
		{"answers only", Fault{Kind: FaultServerError, Stage: StageAnswer}, [3]int{500, 200, 500}},
		{"vision only", Fault{Kind: FaultServerError, Stage: StageVision}, [3]int{200, 500, 200}},
		{"once", Fault{Kind: FaultServerError, Count: 1}, [3]int{500, 200, 200}},
		{"another model", Fault{Kind: FaultServerError, Model: "gpt-5.4"}, [3]int{200, 200, 200}},
		{"this model", Fault{Kind: FaultServerError, Model: "gpt-4o"}, [3]int{500, 500, 500}},
		{"another key", Fault{Kind: FaultServerError, Key: "sk-other"}, [3]int{200, 200, 200}},
		{"this key", Fault{Kind: FaultServerError, Key: testKey}, [3]int{500, 500, 500}},
		{"only where it exists", Fault{Kind: FaultInvalidImage, Count: 1}, [3]int{200, 400, 200}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, func(c *Config) { c.Faults = []Fault{tc.fault} })
			got := [3]int{
				f.send(http.MethodPost, string(endpointChat), plainChat).status,
				f.send(http.MethodPost, string(endpointResponses), plainVision).status,
				f.send(http.MethodPost, string(endpointChat), plainChat).status,
			}
			if got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestFaultDurationAndProbability(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Faults = []Fault{{Kind: FaultSlowDown, DurationSeconds: 30}} })
	for _, tc := range []struct {
		step time.Duration
		want int
	}{{0, 503}, {29 * time.Second, 503}, {time.Second, 200}} {
		f.clock.Step(tc.step)
		if got := f.send(http.MethodPost, string(endpointChat), plainChat).status; got != tc.want {
			t.Errorf("after another %s: %d, want %d", tc.step, got, tc.want)
		}
	}
	if left := f.Config().Faults; len(left) != 0 {
		t.Errorf("rules left %+v, want none", left)
	}

	f.configure(func(c *Config) { c.Faults = []Fault{{Kind: FaultOverloaded, Probability: 0.25}} })
	f.Reset()
	const calls = 400
	for range calls {
		f.send(http.MethodPost, string(endpointChat), plainChat)
	}
	if got := f.Stats().Faults[string(FaultOverloaded)]; got < calls*15/100 || got > calls*35/100 {
		t.Errorf("%d of %d calls hit, want about a quarter", got, calls)
	}
}

// TestFaultAfterRejection checks that a rule for paid calls is not used up by
// a call that was turned away.
func TestFaultAfterRejection(t *testing.T) {
	f := newFixture(t, func(c *Config) {
		c.TokensPerMinute = 6000
		c.Faults = []Fault{{Kind: FaultServerError, Count: 1}}
	})
	f.consume(6000, 0)
	if got := f.chat("gpt-4o", 100); got.status != http.StatusTooManyRequests {
		t.Errorf("first call: %d, want 429", got.status)
	}
	f.clock.Step(time.Minute)
	if got := f.chat("gpt-4o", 100); got.status != http.StatusInternalServerError {
		t.Errorf("second call: %d, want 500", got.status)
	}
}
