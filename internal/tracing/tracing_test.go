// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tracing_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/go-logr/logr"

	"github.com/eco2-team/scan-operator/internal/tracing"
)

func TestTheEnvironmentDecides(t *testing.T) {
	const endpoint = "http://127.0.0.1:1"
	tests := map[string]struct {
		env     map[string]string
		wantOn  bool
		wantErr string
	}{
		"nothing is set":            {},
		"an endpoint":               {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, wantOn: true},
		"an endpoint of traces":     {env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint + "/v1/traces"}, wantOn: true},
		"the SDK is disabled":       {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_SDK_DISABLED": "TRUE"}},
		"no exporter":               {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_TRACES_EXPORTER": "none"}},
		"the exporter's own name":   {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_TRACES_EXPORTER": "otlp"}, wantOn: true},
		"another exporter":          {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_TRACES_EXPORTER": "console"}, wantErr: "OTEL_TRACES_EXPORTER"},
		"an endpoint without http":  {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, wantErr: "OTEL_EXPORTER_OTLP_ENDPOINT"},
		"the protocol that is sent": {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, wantOn: true},
		"another protocol":          {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, wantErr: "OTEL_EXPORTER_OTLP_PROTOCOL"},
		"another protocol in general": {
			env: map[string]string{
				"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
			},
			wantOn: true,
		},
		"resource attributes that cannot be read": {
			env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_RESOURCE_ATTRIBUTES": "nonsense"}, wantOn: true,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			tracer, flush, err := tracing.Start(t.Context(), "scan-api", os.Getenv, logr.Discard())
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("Start() = %v, want an error that names %s", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatalf("Start() = %v", err)
			}
			flush()
			if got := tracer != nil; got != tt.wantOn {
				t.Errorf("there is a tracer: %t, want %t", got, tt.wantOn)
			}
		})
	}
}

func TestNothingIsWrappedWithoutATracer(t *testing.T) {
	ctx := context.Background() //nolint:usetesting // what is compared is that it comes back as it is
	if got, span := tracing.StartChild(ctx, "a", 0); got != ctx || span.IsRecording() {
		t.Error("StartChild() starts a span outside any trace")
	}
	if got := tracing.TraceCalls(nil, nil); got != nil {
		t.Errorf("TraceCalls() = %v", got)
	}
	if got := tracing.TraceStages(nil, nil, nil); got != nil {
		t.Errorf("TraceStages() = %v", got)
	}
}
