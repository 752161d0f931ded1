// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

const callersTraceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// Requests that change something begin a trace; others are only followed.
func TestWhichRequestsAreTraced(t *testing.T) {
	type request struct{ method, path, body, traceparent string }
	unknown := "/api/v1/scan/0190a000-0000-7000-8000-000000000000"
	tests := map[string]struct {
		request request
		fail    error
		want    []string
		failed  bool
	}{
		"a submit":               {request: request{http.MethodPost, scanapi.SubmitPath, goodBody, ""}, want: []string{"create ScanRequest", "POST /api/v1/scan"}},
		"a submit that is wrong": {request: request{http.MethodPost, scanapi.SubmitPath, `{}`, ""}, want: []string{"POST /api/v1/scan"}},
		"a submit without an API server": {
			request: request{http.MethodPost, scanapi.SubmitPath, goodBody, ""}, fail: errRefused,
			want: []string{"create ScanRequest", "POST /api/v1/scan"}, failed: true,
		},
		"a cancel":                      {request: request{http.MethodDelete, unknown, "", ""}, want: []string{"DELETE /api/v1/scan/{id}"}},
		"a poll":                        {request: request{http.MethodGet, unknown + "/result", "", ""}},
		"a poll within a trace":         {request: request{http.MethodGet, unknown + "/result", "", callersTraceparent}, want: []string{"GET /api/v1/scan/{id}/result"}},
		"a poll with a malformed trace": {request: request{http.MethodGet, unknown + "/result", "", "00-\u00e9-1"}},
		"a probe":                       {request: request{http.MethodGet, "/readyz", "", ""}},
		"a path that is none":           {request: request{http.MethodPost, "/api/v1/scan/x/y/z", "{}", callersTraceparent}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			exporter := tracetest.NewInMemoryExporter()
			provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
			h := newHarness(t, func(o *Options) { o.Tracer = provider.Tracer("test") })
			h.cluster.setFail(tt.fail)
			w := h.call(t, tt.request.method, tt.request.path, tt.request.body, "Traceparent", tt.request.traceparent)
			var got []string
			for _, span := range exporter.GetSpans() {
				got = append(got, span.Name)
				if span.Parent.IsValid() && span.Name != "create ScanRequest" && tt.request.traceparent == "" {
					t.Errorf("%s has a parent", span.Name)
				}
				if failed := span.Status.Code == codes.Error; span.Name != "create ScanRequest" && failed != tt.failed {
					t.Errorf("%s failed: %t, want %t; it was answered with %d", span.Name, failed, tt.failed, w.Code)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("spans (-want +got):\n%s", diff)
			}
		})
	}
}

// A server that does not trace leaves no trace on objects, and a submit without a key is no repeated one for it.
func TestTheObjectCarriesTheTraceOnlyWhereOneIsMade(t *testing.T) {
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(tracetest.NewInMemoryExporter()))
	for name, tt := range map[string]struct {
		change func(*Options)
		want   bool
	}{
		"tracing":     {change: func(o *Options) { o.Tracer = provider.Tracer("test") }, want: true},
		"not tracing": {change: func(*Options) {}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, tt.change)
			for _, key := range []string{"", "key-1", "key-1"} {
				w := h.call(t, http.MethodPost, scanapi.SubmitPath, goodBody, "Traceparent", callersTraceparent, scanapi.IdempotencyKeyHeader, key)
				if w.Code != http.StatusOK {
					t.Fatalf("the submit is answered with %d %s", w.Code, w.Body)
				}
				scan := h.cluster.stored[decode[scanapi.SubmitResponse](t, w).JobID]
				if _, got := scan.Annotations[v1alpha1.AnnotationTraceparent]; got != tt.want {
					t.Errorf("the object carries a trace: %t, want %t", got, tt.want)
				}
			}
			if got := h.cluster.creates.Load(); got != 2 {
				t.Errorf("%d creates, want 2", got)
			}
		})
	}
}
