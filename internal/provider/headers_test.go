// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

func TestParseRateLimit(t *testing.T) {
	at := metav1.NewMicroTime(testNow)
	tests := map[string]struct {
		header map[string]string
		want   *v1alpha1.RateLimitObservation
	}{
		"none":          {nil, nil},
		"other headers": {map[string]string{"Retry-After": "1"}, nil},
		"all": {
			map[string]string{
				"x-ratelimit-limit-tokens": "150000", "x-ratelimit-remaining-tokens": "149984", "x-ratelimit-reset-tokens": "6m0s",
				"x-ratelimit-limit-requests": "10000", "x-ratelimit-remaining-requests": "9999", "x-ratelimit-reset-requests": "8.64s",
				"x-ratelimit-limit-project-tokens": "50000", "x-ratelimit-remaining-project-tokens": "40000", "x-ratelimit-reset-project-tokens": "12s",
			},
			&v1alpha1.RateLimitObservation{
				SentAt: at, LimitTokens: 150000, RemainingTokens: 149984, LimitRequests: 10000, RemainingRequests: 9999,
				ResetRequestsMilliseconds: 8640, ProjectLimitTokens: 50000, ProjectRemainingTokens: 40000,
			},
		},
		"requests only, empty": {
			map[string]string{"x-ratelimit-limit-requests": "10000", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "60s"},
			&v1alpha1.RateLimitObservation{SentAt: at, LimitRequests: 10000, ResetRequestsMilliseconds: 60000},
		},
		"seconds without a unit": {
			map[string]string{"x-ratelimit-limit-requests": "10000", "x-ratelimit-remaining-requests": "5000", "x-ratelimit-reset-requests": " 1.5 "},
			&v1alpha1.RateLimitObservation{SentAt: at, LimitRequests: 10000, RemainingRequests: 5000, ResetRequestsMilliseconds: 1500},
		},
		"overdrawn": {
			map[string]string{"x-ratelimit-limit-tokens": "10000", "x-ratelimit-remaining-tokens": "-20", "x-ratelimit-reset-tokens": "61s"},
			&v1alpha1.RateLimitObservation{SentAt: at, LimitTokens: 10000},
		},
		"more left than the limit": {
			map[string]string{"x-ratelimit-limit-tokens": "10000", "x-ratelimit-remaining-tokens": "20000"},
			&v1alpha1.RateLimitObservation{SentAt: at, LimitTokens: 10000, RemainingTokens: 10000},
		},
		"a limit without what is left": {
			map[string]string{
				"x-ratelimit-limit-tokens":   "10000",
				"x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "499", "x-ratelimit-reset-requests": "120ms",
			},
			&v1alpha1.RateLimitObservation{SentAt: at, LimitRequests: 500, RemainingRequests: 499, ResetRequestsMilliseconds: 120},
		},
		"garbage": {
			map[string]string{
				"x-ratelimit-limit-tokens": "lots", "x-ratelimit-remaining-tokens": "1e9", "x-ratelimit-limit-requests": "0",
				"x-ratelimit-remaining-requests": "0", "x-ratelimit-limit-project-tokens": "99999999999999999999", "x-ratelimit-remaining-project-tokens": "1",
			},
			nil,
		},
		"a reset that makes no sense": {
			map[string]string{"x-ratelimit-limit-requests": "10000", "x-ratelimit-remaining-requests": "5000", "x-ratelimit-reset-requests": "-5s"},
			&v1alpha1.RateLimitObservation{SentAt: at, LimitRequests: 10000, RemainingRequests: 5000},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			h := http.Header{}
			for name, value := range tc.header {
				h.Set(name, value)
			}
			if diff := cmp.Diff(tc.want, parseRateLimit(h, testNow)); diff != "" {
				t.Errorf("observation (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	tests := map[string]struct {
		header  map[string]string
		message string
		want    time.Duration
	}{
		"none":                      {},
		"seconds":                   {header: map[string]string{"Retry-After": "19"}, want: 19 * time.Second},
		"fraction":                  {header: map[string]string{"Retry-After": "0.5"}, want: 500 * time.Millisecond},
		"milliseconds first":        {header: map[string]string{"Retry-After-Ms": "1250", "Retry-After": "2"}, want: 1250 * time.Millisecond},
		"date":                      {header: map[string]string{"Retry-After": "Mon, 02 Mar 2026 09:01:00 GMT"}, want: time.Minute},
		"date that has passed":      {header: map[string]string{"Retry-After": "Mon, 02 Mar 2026 08:00:00 GMT"}},
		"duration":                  {header: map[string]string{"Retry-After": "1m30s"}, want: 90 * time.Second},
		"negative":                  {header: map[string]string{"Retry-After": "-1"}},
		"garbage":                   {header: map[string]string{"Retry-After": "soon", "Retry-After-Ms": "NaN"}},
		"longer than makes sense":   {header: map[string]string{"Retry-After": "1e300"}},
		"infinite":                  {header: map[string]string{"Retry-After": "Inf"}},
		"text":                      {message: "Please try again in 18.642s. Visit", want: 18642 * time.Millisecond},
		"text in milliseconds":      {message: "Please try again in 174ms.", want: 174 * time.Millisecond},
		"text in minutes":           {message: "Please try again in 6m0s.", want: 6 * time.Minute},
		"text in hours":             {message: "Please try again in 1h2m3.5s.", want: time.Hour + 2*time.Minute + 3500*time.Millisecond},
		"header before text":        {header: map[string]string{"Retry-After": "19"}, message: "try again in 18.642s.", want: 19 * time.Second},
		"text for a useless header": {header: map[string]string{"Retry-After": "soon"}, message: "try again in 2s.", want: 2 * time.Second},
		"text without a number":     {message: "try again in a moment"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			h := http.Header{}
			for name, value := range tc.header {
				h.Set(name, value)
			}
			if got := retryAfter(h, tc.message, testNow); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// Any headers of a server must be read as valid values.
func FuzzHeaders(f *testing.F) {
	for _, seed := range [][4]string{
		{"30000", "9481", "3.114s", "19"},
		{"-1", "-9223372036854775808", "-1h", "Mon, 02 Mar 2026 09:01:00 GMT"},
		{"9223372036854775808", "NaN", "9999999h", "1e309"},
		{"1", "2", "0x1p-2", "0x1p62"},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
	f.Fuzz(func(t *testing.T, limit, remaining, reset, after string) {
		h := http.Header{}
		for _, bucket := range []string{"Tokens", "Requests", "Project-Tokens"} {
			h.Set("X-Ratelimit-Limit-"+bucket, limit)
			h.Set("X-Ratelimit-Remaining-"+bucket, remaining)
			h.Set("X-Ratelimit-Reset-"+bucket, reset)
		}
		h.Set("Retry-After", after)
		h.Set("Retry-After-Ms", after)
		if o := parseRateLimit(h, testNow); o != nil {
			if o.LimitTokens < 1 || o.LimitTokens > maxCount || o.RemainingTokens < 0 || o.RemainingTokens > o.LimitTokens ||
				o.ResetRequestsMilliseconds < 0 || o.ResetRequestsMilliseconds > maxWait.Milliseconds() {
				t.Errorf("%q, %q, %q were read as %+v", limit, remaining, reset, o)
			}
		}
		if wait := retryAfter(h, "try again in "+after, testNow); wait < 0 || wait > maxWait {
			t.Errorf("%q was read as %s", after, wait)
		}
	})
}

// Any response of a server must end in a text or in a failure that can be stored.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		goodResponse, goodChat, ``, `null`, `[]`, `{}`, `{"output":[null,{"content":[null]}],"status":"completed"}`, `{"choices":[null]}`,
		`{"status":7,"error":"x","usage":"none"}`, `{"choices":{"a":1}}`, `{"error":{"code":{},"message":[1]}}`,
		published(tokensText, "tokens", "rate_limit_exceeded"),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		text, usage, failure := readResponse(raw, testKey)
		if (text == "") == (failure == nil) {
			t.Errorf("responses: text %q with failure %v", text, failure)
		}
		chatText, chatUsage, chatFailure := readChat(raw, testKey)
		if (chatText == "") == (chatFailure == nil) {
			t.Errorf("chat: text %q with failure %v", chatText, chatFailure)
		}
		for _, u := range []v1alpha1.TokenUsage{usage, chatUsage} {
			if u.Input < 0 || u.Output < 0 || u.CachedInput < 0 || u.CachedInput > u.Input {
				t.Errorf("usage %+v", u)
			}
		}
		e := parseError(raw)
		for status := 300; status < 600; status += 100 {
			failed := newFailure(classOf(status, e), "failed", e, testKey)
			if len(failed.Message) > maxMessage || len(failed.Code) > maxCode {
				t.Errorf("message of %d and code of %d bytes", len(failed.Message), len(failed.Code))
			}
		}
	})
}
