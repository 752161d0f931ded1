package httpapi

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

func TestGatewayAuthenticator(t *testing.T) {
	tests := map[string]struct {
		remote   string
		trusted  []netip.Prefix
		users    []string
		wantUser string // empty: 401
	}{
		"from a private range":     {remote: "10.0.0.1:1", users: []string{"kim"}, wantUser: "kim"},
		"from loopback":            {remote: "[::1]:1", users: []string{"kim"}, wantUser: "kim"},
		"from a mapped address":    {remote: "[::ffff:192.168.1.1]:1", users: []string{"kim"}, wantUser: "kim"},
		"from a unique local one":  {remote: "[fd00::5%eth0]:1", users: []string{"kim"}, wantUser: "kim"},
		"from the internet":        {remote: "203.0.113.9:1", users: []string{"kim"}},
		"from a mapped public one": {remote: "[::ffff:203.0.113.9]:1", users: []string{"kim"}},
		"from nowhere":             {remote: "@", users: []string{"kim"}},
		"from the set range":       {remote: "203.0.113.9:1", trusted: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, users: []string{"kim"}, wantUser: "kim"},
		"from outside of it":       {remote: "10.0.0.1:1", trusted: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, users: []string{"kim"}},
		"no user":                  {remote: "10.0.0.1:1"},
		"an empty user":            {remote: "10.0.0.1:1", users: []string{""}},
		"two users":                {remote: "10.0.0.1:1", users: []string{"kim", "lee"}},
		"128 characters":           {remote: "10.0.0.1:1", users: []string{strings.Repeat("김", 128)}, wantUser: strings.Repeat("김", 128)},
		"129 characters":           {remote: "10.0.0.1:1", users: []string{strings.Repeat("김", 129)}},
		"a control character":      {remote: "10.0.0.1:1", users: []string{"kim\x00"}},
		"invalid UTF-8":            {remote: "10.0.0.1:1", users: []string{"kim\xff"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			trusted := tt.trusted
			if trusted == nil {
				trusted = DefaultTrustedProxies()
			}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
			r.RemoteAddr = tt.remote
			for _, user := range tt.users {
				r.Header.Add(scanapi.UserIDHeader, user)
			}
			caller, err := GatewayAuthenticator{TrustedProxies: trusted}.Authenticate(r)
			if caller.UserID != tt.wantUser || (err == nil) != (tt.wantUser != "") {
				t.Errorf("Authenticate() = %q, %v; want %q", caller.UserID, err, tt.wantUser)
			}
			if err != nil && asProblem(err).code != scanapi.CodeUnauthorized {
				t.Errorf("problem %v, want %s", err, scanapi.CodeUnauthorized)
			}
		})
	}
}

func TestParseTrustedProxies(t *testing.T) {
	got, err := ParseTrustedProxies(" 10.1.2.3/8, fd00::/8 ,")
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("ranges (-want +got):\n%s", diff)
	}
	if _, err := ParseTrustedProxies("10.0.0.1"); err == nil || !strings.Contains(err.Error(), `"10.0.0.1"`) {
		t.Errorf("an address without a length: error %v, want one that names it", err)
	}
}

func TestEveryRouteKnowsItsUser(t *testing.T) {
	h := newHarness(t, nil)
	h.cluster.put(newLife(t, "job").scan)
	for _, r := range apiRoutes(h.Server, nil) {
		path := strings.ReplaceAll(r.path, "{id}", "job")
		w := h.call(t, r.method, path, "", scanapi.UserIDHeader, "")
		if anonymous := w.Code != http.StatusUnauthorized; anonymous != r.operation.anonymous {
			t.Errorf("%s %s without a user: status %d, anonymous is %v", r.method, path, w.Code, r.operation.anonymous)
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
		if r.path == healthPath {
			want = http.StatusOK
		}
		w := h.call(t, r.method, strings.ReplaceAll(r.path, "{id}", "job"), "")
		if w.Code != want {
			t.Errorf("%s %s: status %d, want %d", r.method, r.path, w.Code, want)
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
		"the app's preflight":     {method: http.MethodOptions, headers: []string{"Origin", app, "Access-Control-Request-Method", "POST"}, wantStatus: 204, wantOrigin: app, wantMethods: "GET, POST, DELETE"},
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
			if got := w.Header().Get("Vary"); got != "Origin" {
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

func (panicking) Authenticate(*http.Request) (Caller, error) { panic("boom") }
