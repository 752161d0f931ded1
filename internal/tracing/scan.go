package tracing

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// Bounds of what is stored and read, in bytes. A traceparent of the version in use has 55; a later one may be
// longer. A tracestate has at most 512, or it is left out, as the standard allows.
const (
	maxTraceparent = 128
	maxTracestate  = 512
)

// The fields of W3C trace context.
const (
	traceparent = "traceparent"
	tracestate  = "tracestate"
)

// Annotate makes a scan that is about to be created carry on the trace in ctx, if there is one. A trace that is not
// sampled is carried on too, so that the workers do not begin another.
func Annotate(ctx context.Context, scan *v1alpha1.ScanRequest) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return
	}
	carrier := propagation.MapCarrier{}
	propagator.Inject(ctx, carrier)
	if scan.Annotations == nil {
		scan.Annotations = map[string]string{}
	}
	scan.Annotations[v1alpha1.AnnotationTraceparent] = carrier[traceparent]
	if state := carrier[tracestate]; state != "" && len(state) <= maxTracestate {
		scan.Annotations[v1alpha1.AnnotationTracestate] = state
	}
}

// withParent returns ctx with the trace that a scan carries. Anybody may have written it: what is malformed or too
// long counts as nothing.
func withParent(ctx context.Context, scan *v1alpha1.ScanRequest) context.Context {
	parent, state := scan.Annotations[v1alpha1.AnnotationTraceparent], scan.Annotations[v1alpha1.AnnotationTracestate]
	if parent == "" || len(parent) > maxTraceparent {
		return ctx
	}
	carrier := propagation.MapCarrier{traceparent: parent}
	if len(state) <= maxTracestate {
		carrier[tracestate] = state
	}
	return propagator.Extract(ctx, carrier)
}

// scanKey is the key of the scan in a context.
type scanKey struct{}

// WithScan lets the Runner of this package know which scan it runs: its stages do not.
func WithScan(ctx context.Context, scan *v1alpha1.ScanRequest) context.Context {
	return context.WithValue(ctx, scanKey{}, scan)
}

func scanOf(ctx context.Context) *v1alpha1.ScanRequest {
	scan, _ := ctx.Value(scanKey{}).(*v1alpha1.ScanRequest)
	return scan
}
