// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"
)

const (
	testKey = "sk-test-0123456789abcdef"
	testOrg = "org-simulated"
	// noLatency is a speed at which no call takes time.
	noLatency = 1e12
)

// fixture is a server on a fake clock.
type fixture struct {
	*testing.T
	*Server
	clock *clocktesting.FakeClock
	url   string
}

func newFixture(t *testing.T, change func(*Config)) *fixture {
	t.Helper()
	config := Config{Speed: noLatency, Keys: []Key{{Key: testKey, Organization: testOrg}}}
	if change != nil {
		change(&config)
	}
	clk := clocktesting.NewFakeClock(epoch)
	s := New(Options{Config: config, Clock: clk})
	web := httptest.NewServer(s.Handler())
	t.Cleanup(web.Close)
	return &fixture{T: t, Server: s, clock: clk, url: web.URL}
}

// reply is what came back.
type reply struct {
	status int
	header http.Header
	body   string
}

// send sends a request with the test key; extra are further headers in pairs.
func (f *fixture) send(method, path, body string, extra ...string) reply {
	f.Helper()
	request, err := http.NewRequestWithContext(f.Context(), method, f.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		f.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+testKey)
	for i := 0; i+1 < len(extra); i += 2 {
		request.Header.Set(extra[i], extra[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		f.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		f.Fatalf("%s %s: read the reply: %v", method, path, err)
	}
	return reply{response.StatusCode, response.Header, string(raw)}
}

// chat sends a chat of which the charge is exactly the given number of tokens.
func (f *fixture) chat(model string, charge int64) reply {
	f.Helper()
	return f.send(http.MethodPost, string(endpointChat),
		fmt.Sprintf(`{"model":%q,"max_completion_tokens":%d,"messages":[{"role":"user","content":"Hi"}]}`, model, charge-3))
}

func (f *fixture) configure(change func(*Config)) {
	f.Helper()
	if err := f.Configure(change); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) consume(tokens, requests int64) {
	f.Helper()
	if _, _, err := f.Consume(testKey, "gpt-4o", tokens, requests); err != nil {
		f.Fatal(err)
	}
}

// errorBody is the provider's layout of an error.
func errorBody(message, kind, param, code string) string {
	quote := func(s string) string {
		if s == "" {
			return "null"
		}
		return `"` + s + `"`
	}
	raw, err := json.Marshal(message)
	if err != nil {
		panic(err)
	}
	return "{\n    \"error\": {\n        \"message\": " + string(raw) + ",\n        \"type\": " + quote(kind) +
		",\n        \"param\": " + quote(param) + ",\n        \"code\": " + quote(code) + "\n    }\n}\n"
}

// limitHeaders picks the rate-limit headers.
func limitHeaders(h http.Header) map[string]string {
	picked := map[string]string{}
	for _, name := range []string{
		"Retry-After", "Retry-After-Ms", "X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests",
		"X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens", "X-Ratelimit-Limit-Project-Tokens",
		"X-Ratelimit-Remaining-Project-Tokens", "X-Ratelimit-Reset-Project-Tokens",
	} {
		if v := h.Get(name); v != "" {
			picked[name] = v
		}
	}
	return picked
}

// TestRateLimitMessages reproduces the six published 429 replies to the
// letter, from consumption to body and headers.
func TestRateLimitMessages(t *testing.T) {
	for _, tc := range []struct {
		limit, used, requested              int64
		wantWait, wantSeconds, wantMillis   string
		wantRemaining, wantResetToFullDelay string
	}{
		{30000, 14567, 24754, "18.642s", "19", "18642", "15433", "29.134s"},
		{30000, 18928, 11159, "174ms", "1", "174", "11072", "37.856s"},
		{30000, 28039, 3906, "3.89s", "4", "3890", "1961", "56.078s"},
		{30000, 22999, 12528, "11.054s", "12", "11054", "7001", "45.998s"},
		{30000, 26713, 7669, "8.764s", "9", "8764", "3287", "53.426s"},
		{250000, 250000, 149514, "35.883s", "36", "35884", "0", "1m0s"},
	} {
		t.Run(tc.wantWait, func(t *testing.T) {
			f := newFixture(t, func(c *Config) { c.TokensPerMinute, c.RequestsPerMinute = tc.limit, 500 })
			f.consume(tc.used, 0)
			got := f.chat("gpt-4o", tc.requested)
			want := reply{status: http.StatusTooManyRequests, body: errorBody(fmt.Sprintf(
				"Rate limit reached for gpt-4o in organization org-simulated on tokens per min (TPM): Limit %d, Used %d, Requested %d. "+
					"Please try again in %s. Visit https://platform.openai.com/account/rate-limits to learn more.",
				tc.limit, tc.used, tc.requested, tc.wantWait), "tokens", "", "rate_limit_exceeded")}
			if got.status != want.status || got.body != want.body {
				t.Errorf("got %d %s\nwant %d %s", got.status, got.body, want.status, want.body)
			}
			wantHeaders := map[string]string{
				"Retry-After": tc.wantSeconds, "Retry-After-Ms": tc.wantMillis,
				"X-Ratelimit-Limit-Requests": "500", "X-Ratelimit-Remaining-Requests": "499", "X-Ratelimit-Reset-Requests": "120ms",
				"X-Ratelimit-Limit-Tokens": strconv.FormatInt(tc.limit, 10), "X-Ratelimit-Remaining-Tokens": tc.wantRemaining,
				"X-Ratelimit-Reset-Tokens": tc.wantResetToFullDelay,
			}
			if diff := cmp.Diff(wantHeaders, limitHeaders(got.header)); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAdmission(t *testing.T) {
	const visit = " Visit https://platform.openai.com/account/rate-limits to learn more."
	for _, tc := range []struct {
		name        string
		config      func(*Config)
		before      func(*fixture)
		charge      int64
		wantStatus  int
		wantMessage string
		wantType    string
		wantHeaders map[string]string
		wantKind    string
	}{
		{
			name: "admitted", charge: 519, wantStatus: http.StatusOK,
			config: func(c *Config) { c.TokensPerMinute, c.RequestsPerMinute = 10000, 500 },
			wantHeaders: map[string]string{
				"X-Ratelimit-Limit-Requests": "500", "X-Ratelimit-Remaining-Requests": "499", "X-Ratelimit-Reset-Requests": "120ms",
				"X-Ratelimit-Limit-Tokens": "10000", "X-Ratelimit-Remaining-Tokens": "9481", "X-Ratelimit-Reset-Tokens": "3.114s",
			},
		},
		{
			name: "daily requests take over the request headers", charge: 7, wantStatus: http.StatusOK,
			config: func(c *Config) { c.TokensPerMinute, c.RequestsPerMinute, c.RequestsPerDay = 30000, 500, 10000 },
			wantHeaders: map[string]string{
				"X-Ratelimit-Limit-Requests": "10000", "X-Ratelimit-Remaining-Requests": "9999", "X-Ratelimit-Reset-Requests": "8.64s",
				"X-Ratelimit-Limit-Tokens": "30000", "X-Ratelimit-Remaining-Tokens": "29993", "X-Ratelimit-Reset-Tokens": "14ms",
			},
		},
		{
			name: "project limit", charge: 8, wantStatus: http.StatusOK,
			config: func(c *Config) {
				c.TokensPerMinute, c.RequestsPerMinute, c.ProjectTokensPerMinute = 30000, 500, 6000
			},
			wantHeaders: map[string]string{
				"X-Ratelimit-Limit-Requests": "500", "X-Ratelimit-Remaining-Requests": "499", "X-Ratelimit-Reset-Requests": "120ms",
				"X-Ratelimit-Limit-Tokens": "30000", "X-Ratelimit-Remaining-Tokens": "29992", "X-Ratelimit-Reset-Tokens": "16ms",
				"X-Ratelimit-Limit-Project-Tokens": "6000", "X-Ratelimit-Remaining-Project-Tokens": "5992",
				"X-Ratelimit-Reset-Project-Tokens": "80ms",
			},
		},
		{
			name: "too large costs a request and no tokens", charge: 30001, wantStatus: http.StatusTooManyRequests,
			config: func(c *Config) {
				c.TokensPerMinute, c.RequestsPerMinute, c.SpareRequestsOnReject = 30000, 500, true
			},
			wantMessage: "Request too large for gpt-4o in organization org-simulated on tokens per min (TPM): Limit 30000, Requested 30001. " +
				"The input or output tokens must be reduced in order to run successfully." + visit,
			wantType: "tokens", wantKind: "too_large",
			wantHeaders: map[string]string{
				"X-Ratelimit-Limit-Requests": "500", "X-Ratelimit-Remaining-Requests": "499", "X-Ratelimit-Reset-Requests": "120ms",
				"X-Ratelimit-Limit-Tokens": "30000", "X-Ratelimit-Remaining-Tokens": "30000", "X-Ratelimit-Reset-Tokens": "0s",
			},
		},
		{
			name: "exactly the limit fits", charge: 30000, wantStatus: http.StatusOK,
			config: func(c *Config) { c.TokensPerMinute, c.RequestsPerMinute = 30000, 500 },
			wantHeaders: map[string]string{
				"X-Ratelimit-Limit-Requests": "500", "X-Ratelimit-Remaining-Requests": "499", "X-Ratelimit-Reset-Requests": "120ms",
				"X-Ratelimit-Limit-Tokens": "30000", "X-Ratelimit-Remaining-Tokens": "0", "X-Ratelimit-Reset-Tokens": "1m0s",
			},
		},
		{
			name: "out of requests", charge: 10, wantStatus: http.StatusTooManyRequests,
			config: func(c *Config) { c.TokensPerMinute, c.RequestsPerMinute = 30000, 3 },
			before: func(f *fixture) { f.consume(0, 3) },
			wantMessage: "Rate limit reached for gpt-4o in organization org-simulated on requests per min (RPM): Limit 3, Used 3, Requested 1. " +
				"Please try again in 20s." + visit,
			wantType: "requests", wantKind: "requests",
			wantHeaders: map[string]string{
				"Retry-After": "20", "Retry-After-Ms": "20000",
				"X-Ratelimit-Limit-Requests": "3", "X-Ratelimit-Remaining-Requests": "0", "X-Ratelimit-Reset-Requests": "1m0s",
				"X-Ratelimit-Limit-Tokens": "30000", "X-Ratelimit-Remaining-Tokens": "30000", "X-Ratelimit-Reset-Tokens": "0s",
			},
		},
		{
			name: "out of daily requests", charge: 10, wantStatus: http.StatusTooManyRequests,
			config: func(c *Config) { c.TokensPerMinute, c.RequestsPerDay = 30000, 200 },
			before: func(f *fixture) { f.consume(0, 200) },
			wantMessage: "Rate limit reached for gpt-4o in organization org-simulated on requests per day (RPD): Limit 200, Used 200, Requested 1. " +
				"Please try again in 7m12s." + visit,
			wantType: "requests", wantKind: "requests_per_day",
			wantHeaders: map[string]string{
				"Retry-After": "432", "Retry-After-Ms": "432000",
				"X-Ratelimit-Limit-Requests": "200", "X-Ratelimit-Remaining-Requests": "0", "X-Ratelimit-Reset-Requests": "24h0m0s",
				"X-Ratelimit-Limit-Tokens": "30000", "X-Ratelimit-Remaining-Tokens": "30000", "X-Ratelimit-Reset-Tokens": "0s",
			},
		},
		{
			name: "a rejected call may keep its request", charge: 20000, wantStatus: http.StatusTooManyRequests,
			config: func(c *Config) {
				c.TokensPerMinute, c.RequestsPerMinute, c.SpareRequestsOnReject = 30000, 500, true
			},
			before: func(f *fixture) { f.consume(15000, 0) },
			wantMessage: "Rate limit reached for gpt-4o in organization org-simulated on tokens per min (TPM): Limit 30000, Used 15000, " +
				"Requested 20000. Please try again in 10s." + visit,
			wantType: "tokens", wantKind: "tokens",
			wantHeaders: map[string]string{
				"Retry-After": "10", "Retry-After-Ms": "10000",
				"X-Ratelimit-Limit-Requests": "500", "X-Ratelimit-Remaining-Requests": "500", "X-Ratelimit-Reset-Requests": "0s",
				"X-Ratelimit-Limit-Tokens": "30000", "X-Ratelimit-Remaining-Tokens": "15000", "X-Ratelimit-Reset-Tokens": "30s",
			},
		},
		{
			name: "a rejected call may cost its tokens", charge: 20000, wantStatus: http.StatusTooManyRequests,
			config: func(c *Config) {
				c.TokensPerMinute, c.RequestsPerMinute, c.ChargeTokensOnReject = 30000, 500, true
			},
			before: func(f *fixture) { f.consume(15000, 0) },
			wantMessage: "Rate limit reached for gpt-4o in organization org-simulated on tokens per min (TPM): Limit 30000, Used 15000, " +
				"Requested 20000. Please try again in 10s." + visit,
			wantType: "tokens", wantKind: "tokens",
			wantHeaders: map[string]string{
				"Retry-After": "10", "Retry-After-Ms": "10000",
				"X-Ratelimit-Limit-Requests": "500", "X-Ratelimit-Remaining-Requests": "499", "X-Ratelimit-Reset-Requests": "120ms",
				"X-Ratelimit-Limit-Tokens": "30000", "X-Ratelimit-Remaining-Tokens": "0", "X-Ratelimit-Reset-Tokens": "1m0s",
			},
		},
		{
			name: "short of project tokens", charge: 4000, wantStatus: http.StatusTooManyRequests,
			config: func(c *Config) {
				c.TokensPerMinute, c.RequestsPerMinute, c.ProjectTokensPerMinute = 30000, 500, 6000
			},
			before: func(f *fixture) { f.consume(3000, 0) },
			wantMessage: "Rate limit reached for gpt-4o in organization org-simulated on project tokens per min (TPM): Limit 6000, Used 3000, " +
				"Requested 4000. Please try again in 10s." + visit,
			wantType: "tokens", wantKind: "project_tokens",
			wantHeaders: map[string]string{
				"Retry-After": "10", "Retry-After-Ms": "10000",
				"X-Ratelimit-Limit-Requests": "500", "X-Ratelimit-Remaining-Requests": "499", "X-Ratelimit-Reset-Requests": "120ms",
				"X-Ratelimit-Limit-Tokens": "30000", "X-Ratelimit-Remaining-Tokens": "27000", "X-Ratelimit-Reset-Tokens": "6s",
				"X-Ratelimit-Limit-Project-Tokens": "6000", "X-Ratelimit-Remaining-Project-Tokens": "3000",
				"X-Ratelimit-Reset-Project-Tokens": "30s",
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, tc.config)
			if tc.before != nil {
				tc.before(f)
			}
			got := f.chat("gpt-4o", tc.charge)
			if got.status != tc.wantStatus {
				t.Fatalf("status %d, want %d: %s", got.status, tc.wantStatus, got.body)
			}
			if tc.wantMessage != "" {
				if want := errorBody(tc.wantMessage, tc.wantType, "", "rate_limit_exceeded"); got.body != want {
					t.Errorf("body %s\nwant %s", got.body, want)
				}
				if diff := cmp.Diff(map[string]int64{tc.wantKind: 1}, f.Stats().RateLimited); diff != "" {
					t.Errorf("counted (-want +got):\n%s", diff)
				}
			}
			if diff := cmp.Diff(tc.wantHeaders, limitHeaders(got.header)); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNoRefund checks that neither a short answer nor time travel gives tokens
// back, and that waiting for Retry-After is enough.
func TestNoRefund(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.TokensPerMinute = 6000 })
	if got := f.chat("gpt-4o", 5000); got.status != http.StatusOK {
		t.Fatalf("first call: %d %s", got.status, got.body)
	}
	if got := f.Stats().Accounts[0].TokensRemaining; got != 1000 {
		t.Errorf("%d tokens left after a short answer, want 1000", got)
	}
	if got := f.chat("gpt-4o", 2000); got.header.Get("Retry-After-Ms") != "10000" {
		t.Fatalf("second call: %d %v", got.status, limitHeaders(got.header))
	}
	f.clock.Step(10*time.Second - 1)
	if got := f.chat("gpt-4o", 2000); got.status != http.StatusTooManyRequests {
		t.Errorf("a nanosecond early: %d, want 429", got.status)
	}
	f.clock.Step(1)
	if got := f.chat("gpt-4o", 2000); got.status != http.StatusOK {
		t.Errorf("after the stated wait: %d %s", got.status, got.body)
	}
}

// TestAccounts checks who shares a bucket with whom.
func TestAccounts(t *testing.T) {
	f := newFixture(t, func(c *Config) {
		c.TokensPerMinute = 6000
		c.Keys = append(c.Keys, Key{Key: "sk-rotated-key-of-the-same", Organization: testOrg})
		c.Groups = map[string][]string{"gpt-4-family": {"gpt-4o", "gpt-4.1"}}
		c.Limits = []Limit{{Key: "sk-somebody-else", TokensPerMinute: 9000}, {Model: "gpt-4o-mini", TokensPerMinute: 7000}}
	})
	for _, tc := range []struct {
		name, key, model string
		want             string
	}{
		{"first use", testKey, "gpt-4o", "5000"},
		{"a dated name is the same model", testKey, "gpt-4o-2024-08-06", "4000"},
		{"a model of the same group", testKey, "gpt-4.1", "3000"},
		{"another key of the organization", "sk-rotated-key-of-the-same", "gpt-4o", "2000"},
		{"a model outside the group", testKey, "gpt-5.4", "5000"},
		{"a model with a limit of its own", testKey, "gpt-4o-mini", "6000"},
		{"another organization, with a limit of its own", "sk-somebody-else", "gpt-4o", "8000"},
	} {
		got := f.send(http.MethodPost, string(endpointChat),
			fmt.Sprintf(`{"model":%q,"max_completion_tokens":997,"messages":[{"role":"user","content":"Hi"}]}`, tc.model),
			"Authorization", "Bearer "+tc.key)
		if remaining := got.header.Get("X-Ratelimit-Remaining-Tokens"); remaining != tc.want {
			t.Errorf("%s: %s tokens remaining, want %s (%d %s)", tc.name, remaining, tc.want, got.status, got.body)
		}
	}
}
