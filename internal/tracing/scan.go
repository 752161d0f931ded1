// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// Bounds of what is stored and read, in bytes. A traceparent of the current version has 55; later ones may be longer. A
// tracestate of more than 512 is dropped, which the standard allows.
const (
	maxTraceparent = 128
	maxTracestate  = 512
)

// The fields of W3C trace context.
const (
	traceparent = "traceparent"
	tracestate  = "tracestate"
)

// Annotate stores the trace in ctx, if there is one, in the annotations of a scan that will be created. It also stores a
// trace that is not sampled, so that the workers do not start another.
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

// withParent returns ctx with the trace in a scan's annotations. Any client may have written them, so a trace that is
// malformed or too long is ignored.
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

// scanKey is the context key of the scan.
type scanKey struct{}

// WithScan returns ctx with the scan, for TraceStages. stages.Scan has no annotations.
func WithScan(ctx context.Context, scan *v1alpha1.ScanRequest) context.Context {
	return context.WithValue(ctx, scanKey{}, scan)
}

func scanOf(ctx context.Context) *v1alpha1.ScanRequest {
	scan, _ := ctx.Value(scanKey{}).(*v1alpha1.ScanRequest)
	return scan
}
