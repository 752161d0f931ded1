// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestScrape(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, `# TYPE runs_total counter
runs_total{stage="vision",track="stable"} 3
runs_total{stage="vision",track="canary"} 2
runs_total{stage="answer",track="canary"} 1
# TYPE took_seconds histogram
took_seconds_bucket{track="canary",le="+Inf"} 4
took_seconds_sum{track="canary"} 9
took_seconds_count{track="canary"} 4
`)
	}))
	t.Cleanup(server.Close)
	m, err := Scrape(t.Context(), server.Client(), server.URL+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		family string
		labels []string
		want   float64
	}{
		{family: "runs_total", want: 6},
		{family: "runs_total", labels: []string{"track", "canary"}, want: 3},
		{family: "runs_total", labels: []string{"track", "canary", "stage", "answer"}, want: 1},
		{family: "runs_total", labels: []string{"track", "none"}},
		{family: "took_seconds", labels: []string{"track", "canary"}, want: 4},
		{family: "unknown"},
	} {
		if got := m.Sum(tc.family, tc.labels...); got != tc.want {
			t.Errorf("%s%v sums up to %v, want %v", tc.family, tc.labels, got, tc.want)
		}
	}
	if _, err := Scrape(t.Context(), server.Client(), server.URL+"/nothing"); err == nil {
		t.Error("no error for a page that is not there")
	}
}
