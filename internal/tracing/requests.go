package tracing

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Attributes of a request, named by OpenTelemetry's conventions for HTTP.
const (
	attributeMethod = attribute.Key("http.request.method")
	attributeRoute  = attribute.Key("http.route")
	attributeStatus = attribute.Key("http.response.status_code")
)

// StartRequest begins the span of a request, within the caller's trace where it sent one. Only requests that change
// something begin a trace themselves: polls and streams would bury the others. The span does nothing where the
// request is not traced. method and route must be of a bounded set; they are all that is said of the request.
func StartRequest(ctx context.Context, tracer trace.Tracer, header http.Header, method, route string) (context.Context, trace.Span) {
	ctx = propagator.Extract(ctx, propagation.HeaderCarrier(header))
	if !trace.SpanContextFromContext(ctx).IsValid() && method != http.MethodPost && method != http.MethodDelete {
		return ctx, trace.SpanFromContext(ctx)
	}
	return tracer.Start(ctx, method+" "+route, trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attributeMethod.String(method), attributeRoute.String(route)))
}

// EndRequest ends the span of a request. The client's mistakes are no errors of the server's.
func EndRequest(span trace.Span, status int) {
	span.SetAttributes(attributeStatus.Int(status))
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, http.StatusText(status))
	}
	span.End()
}
