// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Attributes of a request, named after OpenTelemetry's conventions for HTTP.
const (
	attributeMethod = attribute.Key("http.request.method")
	attributeRoute  = attribute.Key("http.route")
	attributeStatus = attribute.Key("http.response.status_code")
)

// StartRequest starts the span of a request, in the caller's trace if the request has one. Without one, only a request
// that changes something starts a trace: polls and streams would outnumber all others. If the request is not traced, the
// span does nothing. method and route must come from a bounded set; nothing else of the request is recorded.
func StartRequest(ctx context.Context, tracer trace.Tracer, header http.Header, method, route string) (context.Context, trace.Span) {
	ctx = propagator.Extract(ctx, propagation.HeaderCarrier(header))
	if !trace.SpanContextFromContext(ctx).IsValid() && method != http.MethodPost && method != http.MethodDelete {
		return ctx, trace.SpanFromContext(ctx)
	}
	return tracer.Start(ctx, method+" "+route, trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attributeMethod.String(method), attributeRoute.String(route)))
}

// EndRequest ends the span of a request. A 4xx is not an error of the server.
func EndRequest(span trace.Span, status int) {
	span.SetAttributes(attributeStatus.Int(status))
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, http.StatusText(status))
	}
	span.End()
}
