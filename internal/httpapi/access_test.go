// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/eco2-team/scan-operator/internal/httpapi/auth"
	"github.com/eco2-team/scan-operator/internal/httpapi/openapi"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

func TestEveryRouteKnowsItsUser(t *testing.T) {
	h := newHarness(t, nil)
	h.cluster.put(newLife(t, "job").scan)
	for _, r := range apiRoutes(h.Server, nil) {
		path := strings.ReplaceAll(r.Path, "{id}", "job")
		w := h.call(t, r.Method, path, "", scanapi.UserIDHeader, "")
		if anonymous := w.Code != http.StatusUnauthorized; anonymous != r.Anonymous {
			t.Errorf("%s %s without a user: status %d, anonymous is %v", r.Method, path, w.Code, r.Anonymous)
		}
	}
}

func TestRoutes(t *testing.T) {
	tests := map[string]struct {
		method, path string
		wantStatus   int
		wantCode     string
		wantAllow    string
	}{
		"health":              {method: http.MethodGet, path: "/api/v1/scan/health", wantStatus: 200},
		"ready":               {method: http.MethodGet, path: "/api/v1/scan/ready", wantStatus: 200},
		"healthz":             {method: http.MethodGet, path: "/healthz", wantStatus: 200},
		"readyz":              {method: http.MethodGet, path: "/readyz", wantStatus: 200},
		"head":                {method: http.MethodHead, path: "/api/v1/scan/health", wantStatus: 200},
		"metrics":             {method: http.MethodGet, path: "/api/v1/scan/metrics", wantStatus: 200},
		"docs":                {method: http.MethodGet, path: "/api/v1/scan/docs", wantStatus: 200},
		"openapi.json":        {method: http.MethodGet, path: "/api/v1/scan/openapi.json", wantStatus: 200},
		"categories":          {method: http.MethodGet, path: "/api/v1/scan/categories", wantStatus: 200},
		"nothing":             {method: http.MethodGet, path: "/nothing", wantStatus: 404, wantCode: scanapi.CodeRouteNotFound},
		"wrong method":        {method: http.MethodPut, path: "/api/v1/scan", wantStatus: 405, wantCode: scanapi.CodeMethodNotAllowed, wantAllow: "POST"},
		"wrong method, alias": {method: http.MethodPost, path: "/api/v1/scan/result/job", wantStatus: 405, wantCode: scanapi.CodeMethodNotAllowed, wantAllow: "GET, HEAD"},
		"made-up method":      {method: "HACK", path: "/api/v1/scan", wantStatus: 405, wantCode: scanapi.CodeMethodNotAllowed, wantAllow: "POST"},
		"alias without id":    {method: http.MethodGet, path: "/api/v1/scan/result/", wantStatus: 404, wantCode: scanapi.CodeRouteNotFound},
		"a scan named result": {method: http.MethodGet, path: "/api/v1/scan/result/result", wantStatus: 404, wantCode: scanapi.CodeResultNotFound},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, nil)
			w := h.call(t, tt.method, tt.path, "")
			if w.Code != tt.wantStatus {
				t.Errorf("status %d, want %d: %s", w.Code, tt.wantStatus, w.Body)
			}
			if tt.wantCode != "" && problemCode(t, w) != tt.wantCode {
				t.Errorf("problem %s, want %s", w.Body, tt.wantCode)
			}
			if got := w.Header().Get("Allow"); got != tt.wantAllow {
				t.Errorf("Allow %q, want %q", got, tt.wantAllow)
			}
		})
	}
}

// A replica that does not know the scans yet must not say that one does not exist.
func TestNothingIsMissingBeforeTheWatchHasCaughtUp(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.Synced = func() bool { return false } })
	for _, r := range apiRoutes(h.Server, nil) {
		want := http.StatusServiceUnavailable
		if r.Path == openapi.Health.Path {
			want = http.StatusOK
		}
		w := h.call(t, r.Method, strings.ReplaceAll(r.Path, "{id}", "job"), "")
		if w.Code != want {
			t.Errorf("%s %s: status %d, want %d", r.Method, r.Path, w.Code, want)
		}
	}
}

func TestCategories(t *testing.T) {
	h := newHarness(t, nil)
	w := h.call(t, http.MethodGet, scanapi.CategoriesPath, "")
	const want = `[{"id":1,"name":"종이","display_name":"종이류","instructions":["묶어서 배출"]}]`
	if diff := cmp.Diff(want, w.Body.String()); diff != "" {
		t.Errorf("categories (-want +got):\n%s", diff)
	}
}

const app = "https://app.example.com"

func TestCORS(t *testing.T) {
	tests := map[string]struct {
		method      string
		headers     []string
		wantStatus  int
		wantOrigin  string
		wantMethods string
	}{
		"no origin":               {method: http.MethodGet, wantStatus: 200},
		"the app":                 {method: http.MethodGet, headers: []string{"Origin", app, "Sec-Fetch-Site", "cross-site"}, wantStatus: 200, wantOrigin: app},
		"the app posts":           {method: http.MethodPost, headers: []string{"Origin", app, "Sec-Fetch-Site", "cross-site"}, wantStatus: 405, wantOrigin: app},
		"the app's preflight":     {method: http.MethodOptions, headers: []string{"Origin", app, "Access-Control-Request-Method", "POST"}, wantStatus: 204, wantOrigin: app, wantMethods: "POST"},
		"a preflight for PUT":     {method: http.MethodOptions, headers: []string{"Origin", app, "Access-Control-Request-Method", "PUT"}, wantStatus: 204},
		"another page reads":      {method: http.MethodGet, headers: []string{"Origin", "https://evil.example.net", "Sec-Fetch-Site", "cross-site"}, wantStatus: 200},
		"another page posts":      {method: http.MethodPost, headers: []string{"Origin", "https://evil.example.net", "Sec-Fetch-Site", "cross-site"}, wantStatus: 403},
		"another page, old":       {method: http.MethodPost, headers: []string{"Origin", "https://evil.example.net"}, wantStatus: 403},
		"another page, preflight": {method: http.MethodOptions, headers: []string{"Origin", "https://evil.example.net", "Access-Control-Request-Method", "POST"}, wantStatus: 403},
		"nearly the app":          {method: http.MethodGet, headers: []string{"Origin", app + ".evil.net"}, wantStatus: 200},
		"null origin":             {method: http.MethodPost, headers: []string{"Origin", "null"}, wantStatus: 403},
		"plain options":           {method: http.MethodOptions, headers: []string{"Origin", app}, wantStatus: 405, wantOrigin: app},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, func(o *Options) { o.AllowedOrigins = []string{"http://localhost:3000", app} })
			w := h.call(t, tt.method, scanapi.CategoriesPath, "", tt.headers...)
			if w.Code != tt.wantStatus {
				t.Errorf("status %d, want %d: %s", w.Code, tt.wantStatus, w.Body)
			}
			if tt.wantStatus == http.StatusForbidden && problemCode(t, w) != scanapi.CodeOriginNotAllowed {
				t.Errorf("problem %s", w.Body)
			}
			wantCredentials := ""
			if tt.wantOrigin != "" {
				wantCredentials = "true"
			}
			for header, want := range map[string]string{
				"Access-Control-Allow-Origin": tt.wantOrigin, "Access-Control-Allow-Credentials": wantCredentials,
				"Access-Control-Allow-Methods": tt.wantMethods,
			} {
				if got := w.Header().Get(header); got != want {
					t.Errorf("%s: %q, want %q", header, got, want)
				}
			}
			if got := strings.Split(w.Header().Get("Vary"), ", "); !slices.Contains(got, "Origin") {
				t.Errorf("Vary: %q, want Origin", got)
			}
		})
	}
}

func TestCORSRefusesUnsafeOrigins(t *testing.T) {
	for _, origin := range []string{"*", "null", "app.example.com", "https://app.example.com/", "ftp://a", ""} {
		if _, err := newCORS([]string{origin}); err == nil {
			t.Errorf("newCORS(%q) took it", origin)
		}
	}
}

func TestNewNamesTheWrongOption(t *testing.T) {
	if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "Namespace") {
		t.Errorf("New without options: %v", err)
	}
}

func TestMetricsHaveBoundedLabels(t *testing.T) {
	h := newHarness(t, nil)
	for _, path := range []string{"/api/v1/scan/a/result", "/api/v1/scan/b/result", "/api/v1/scan/result/c", "/x", "/y"} {
		h.call(t, http.MethodGet, path, "")
	}
	h.call(t, "HACK", "/x", "")
	const want = `
# HELP scan_api_requests_total HTTP requests that were answered, by route pattern, method and status class.
# TYPE scan_api_requests_total counter
scan_api_requests_total{code="4xx",method="GET",route="/api/v1/scan/result/{id}"} 1
scan_api_requests_total{code="4xx",method="GET",route="/api/v1/scan/{id}/result"} 2
scan_api_requests_total{code="4xx",method="GET",route="unmatched"} 2
scan_api_requests_total{code="4xx",method="other",route="unmatched"} 1
`
	if err := testutil.GatherAndCompare(h.registry, strings.NewReader(want), "scan_api_requests_total"); err != nil {
		t.Error(err)
	}
}

func TestRequestID(t *testing.T) {
	h := newHarness(t, nil)
	for given, kept := range map[string]bool{"abc-1.2_3": true, "": false, "a b": false, strings.Repeat("x", 65): false, "a\nb": false} {
		got := h.call(t, http.MethodGet, "/healthz", "", scanapi.RequestIDHeader, given).Header().Get(scanapi.RequestIDHeader)
		if (got == given) != kept || got == "" {
			t.Errorf("request id %q became %q", given, got)
		}
	}
}

func TestAPanicIsAnswered(t *testing.T) {
	h := newHarness(t, func(o *Options) {
		o.Authenticator = panicking{}
	})
	w := h.call(t, http.MethodGet, scanapi.CategoriesPath, "")
	if w.Code != http.StatusInternalServerError || problemCode(t, w) != scanapi.CodeInternal || strings.Contains(w.Body.String(), "boom") {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

type panicking struct{}

func (panicking) Authenticate(*http.Request) (auth.Caller, error) { panic("boom") }

// failing is an authenticator that always returns its error.
type failing struct{ err error }

func (f failing) Authenticate(*http.Request) (auth.Caller, error) { return auth.Caller{}, f.err }

func TestAuthenticationErrorsAreProblems(t *testing.T) {
	tests := map[string]struct {
		err        error
		wantStatus int
		wantCode   string
	}{
		"no user":                {err: fmt.Errorf("check: %w", &auth.UnauthorizedError{Detail: "Sign in."}), wantStatus: 401, wantCode: scanapi.CodeUnauthorized},
		"the API server is down": {err: fmt.Errorf("review the token: %w", errRefused), wantStatus: 503, wantCode: scanapi.CodeUnavailable},
		"anything else":          {err: errors.New("boom"), wantStatus: 500, wantCode: scanapi.CodeInternal},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newHarness(t, func(o *Options) { o.Authenticator = failing{tt.err} }).call(t, http.MethodGet, scanapi.CategoriesPath, "")
			if code := problemCode(t, w); w.Code != tt.wantStatus || code != tt.wantCode {
				t.Errorf("status %d, code %s; want %d, %s", w.Code, code, tt.wantStatus, tt.wantCode)
			}
		})
	}
}
