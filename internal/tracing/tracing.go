// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package tracing traces scans with OpenTelemetry: from the request that submits a scan, through the annotations of its
// object, to the worker that runs its stages. It is off, and costs nothing, unless the environment names a collector.
// Spans contain no texts, URLs or secrets.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/utils/clock"
)

// Scope is the instrumentation scope of all spans.
const Scope = "github.com/eco2-team/scan-operator"

// flushTimeout bounds how long a process waits for the collector when it stops. A worker has one second of its grace
// period left for that.
const flushTimeout = time.Second

// The variables that decide whether spans are exported. The SDK reads them too, and others.
const (
	envDisabled       = "OTEL_SDK_DISABLED"
	envExporter       = "OTEL_TRACES_EXPORTER"
	envEndpoint       = "OTEL_EXPORTER_OTLP_ENDPOINT"
	envTracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	envProtocol       = "OTEL_EXPORTER_OTLP_PROTOCOL"
	envTracesProtocol = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
)

// propagator reads and writes W3C trace context. Baggage is not propagated, because it may contain anything.
var propagator = propagation.TraceContext{}

// Start returns the tracer of a process, and a function that sends the last spans within flushTimeout. The tracer is nil
// if the environment, which getenv reads, names no collector. service is the name of the process unless
// OTEL_SERVICE_NAME sets it. An error names the variable that is not valid. An unreachable collector is not an error:
// spans are dropped and log reports it.
func Start(ctx context.Context, service string, getenv func(string) string, log logr.Logger) (trace.Tracer, func(), error) {
	on, err := enabled(getenv)
	if err != nil || !on {
		return nil, func() {}, err
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc((&errorLog{log: log, clock: clock.RealClock{}}).handle))
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("create the trace exporter: %w; check the OTEL_EXPORTER_OTLP_* variables", err)
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(attribute.String("service.name", service)), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, nil, fmt.Errorf("describe this process in traces: %w; check OTEL_RESOURCE_ATTRIBUTES", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	stop := func() {
		// The process stops: its own context has ended.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Error(err, "last spans not sent")
		}
	}
	log.Info("tracing enabled")
	return provider.Tracer(Scope), stop, nil
}

// enabled reports whether the environment enables tracing. The error names a variable that is not valid.
func enabled(getenv func(string) string) (bool, error) {
	name := envTracesEndpoint
	endpoint := getenv(name)
	if endpoint == "" {
		name = envEndpoint
		endpoint = getenv(name)
	}
	exporter := getenv(envExporter)
	switch {
	case endpoint == "" || strings.EqualFold(getenv(envDisabled), "true") || exporter == "none":
		return false, nil
	case exporter != "" && exporter != "otlp":
		return false, fmt.Errorf("%s=%q must be otlp or none", envExporter, exporter)
	}
	// The exporter would use localhost instead of an address that it cannot parse.
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return false, fmt.Errorf("%s is not an absolute http or https URL, e.g. http://collector:4318", name)
	}
	for _, name := range []string{envTracesProtocol, envProtocol} {
		if protocol := getenv(name); protocol != "" {
			if protocol != "http/protobuf" {
				return false, fmt.Errorf("%s=%q: only http/protobuf is supported, usually at the collector's port 4318", name, protocol)
			}
			break
		}
	}
	return true, nil
}

// StartChild starts a child of the span in ctx. If that is not recorded, the child does nothing.
func StartChild(ctx context.Context, name string, kind trace.SpanKind) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, trace.SpanFromContext(context.Background())
	}
	return parent.TracerProvider().Tracer(Scope).Start(ctx, name, trace.WithSpanKind(kind))
}
