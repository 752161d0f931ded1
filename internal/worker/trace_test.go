// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"k8s.io/utils/clock"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/tracing"
)

// A worker hands the scan with its trace to what traces its stages.
func TestAnAssignmentIsPartOfItsScansTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const traceID = "0af7651916cd43dd8448eb211c80319c"
		exporter := tracetest.NewInMemoryExporter()
		tracer := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter)).Tracer(tracing.Scope)
		stub := newStubRunner()
		a := testAssignments(tracing.TraceStages(stub, tracer, clock.RealClock{}), 1, &stubReporter{}, newStubMembership(true))
		scan := assigned(t, "a", "1")
		scan.Annotations = map[string]string{v1alpha1.AnnotationTraceparent: "00-" + traceID + "-b7ad6b7169203331-01"}
		a.observe(t.Context(), scan)
		stub.answer("1", classified())
		synctest.Wait()

		var names []string
		for _, span := range exporter.GetSpans() {
			names = append(names, span.Name)
			if got := span.SpanContext.TraceID().String(); got != traceID {
				t.Errorf("%s is of trace %s, want %s", span.Name, got, traceID)
			}
		}
		slices.Sort(names)
		if diff := cmp.Diff([]string{"vision", "wait for vision"}, names); diff != "" {
			t.Errorf("spans (-want +got):\n%s", diff)
		}
	})
}
