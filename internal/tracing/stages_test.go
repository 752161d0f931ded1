// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/stages"
)

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	parent  = "00-" + traceID + "-b7ad6b7169203331-01"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(seconds int) metav1.MicroTime {
	return metav1.NewMicroTime(start.Add(time.Duration(seconds) * time.Second))
}

// runnerFunc makes a function a StageRunner.
type runnerFunc func() []pipeline.Outcome

func (f runnerFunc) Run(context.Context, stages.Scan, []v1alpha1.StageName) []pipeline.Outcome {
	return f()
}

// record runs a scan's vision stage, a minute after start, and returns the spans by their names.
func record(t *testing.T, scan *v1alpha1.ScanRequest, run runnerFunc) map[string]tracetest.SpanStub {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	clk := clocktesting.NewFakePassiveClock(start.Add(time.Minute))
	runner := TraceStages(run, provider.Tracer(Scope), clk)
	func() {
		defer func() { _ = recover() }()
		runner.Run(WithScan(t.Context(), scan), stages.Scan{Assignment: *scan.Status.Assignment}, nil)
	}()
	spans := map[string]tracetest.SpanStub{}
	for _, span := range exporter.GetSpans() {
		spans[span.Name] = span
	}
	return spans
}

func assigned() *v1alpha1.ScanRequest {
	scan := &v1alpha1.ScanRequest{}
	scan.Status.AcceptedAt = at(0)
	scan.Status.Assignment = &v1alpha1.Assignment{ID: "1", Stage: v1alpha1.StageVision, Attempt: 1, AssignedAt: at(59)}
	return scan
}

func succeed() []pipeline.Outcome {
	return []pipeline.Outcome{{Stage: v1alpha1.StageVision, State: v1alpha1.StageSucceeded, FinishedAt: at(65).Time}}
}

// Annotations of any client are used as a trace only if they are one.
func TestTheTraceOfAnObject(t *testing.T) {
	tests := map[string]struct {
		annotations map[string]string
		wantParent  bool
		wantState   string
	}{
		"none":               {},
		"a trace":            {annotations: map[string]string{v1alpha1.AnnotationTraceparent: parent}, wantParent: true},
		"of a later version": {annotations: map[string]string{v1alpha1.AnnotationTraceparent: "01" + parent[2:] + "-more"}, wantParent: true},
		"too long":           {annotations: map[string]string{v1alpha1.AnnotationTraceparent: "01" + parent[2:] + "-" + strings.Repeat("a", 100)}},
		"all zero":           {annotations: map[string]string{v1alpha1.AnnotationTraceparent: "00-" + strings.Repeat("0", 32) + "-b7ad6b7169203331-01"}},
		"malformed":          {annotations: map[string]string{v1alpha1.AnnotationTraceparent: "00-xyz\r\nX-User-ID: kim"}},
		"with a state": {
			annotations: map[string]string{v1alpha1.AnnotationTraceparent: parent, v1alpha1.AnnotationTracestate: "vendor=1"},
			wantParent:  true, wantState: "vendor=1",
		},
		"with a malformed state": {
			annotations: map[string]string{v1alpha1.AnnotationTraceparent: parent, v1alpha1.AnnotationTracestate: "=,="},
			wantParent:  true,
		},
		"with too long a state": {
			annotations: map[string]string{
				v1alpha1.AnnotationTraceparent: parent,
				v1alpha1.AnnotationTracestate:  "a=" + strings.Repeat("1", 250) + ",b=" + strings.Repeat("2", 250) + ",c=" + strings.Repeat("3", 10),
			},
			wantParent: true,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			scan := assigned()
			scan.Annotations = tt.annotations
			spans := record(t, scan, succeed)
			vision, wait := spans["vision"], spans["wait for vision"]
			if got := vision.SpanContext.TraceID().String() == traceID; got != tt.wantParent {
				t.Errorf("the stage is of the object's trace: %t, want %t", got, tt.wantParent)
			}
			if got := vision.Parent.IsValid(); got != tt.wantParent {
				t.Errorf("the stage has a parent: %t, want %t", got, tt.wantParent)
			}
			if vision.SpanContext.TraceID() != wait.SpanContext.TraceID() {
				t.Error("the stage and the wait before it are of two traces")
			}
			if got := vision.SpanContext.TraceState().String(); got != tt.wantState {
				t.Errorf("the trace's state is %q, want %q", got, tt.wantState)
			}
		})
	}
}

func TestTheSpanOfAWait(t *testing.T) {
	tests := map[string]struct {
		change func(*v1alpha1.ScanRequest)
		want   int // seconds after start
	}{
		"from the creation": {change: func(s *v1alpha1.ScanRequest) {
			s.CreationTimestamp, s.Status.AcceptedAt = metav1.NewTime(at(1).Time), metav1.MicroTime{}
		}, want: 1},
		"from the acceptance": {change: func(*v1alpha1.ScanRequest) {}},
		"from the stage before": {change: func(s *v1alpha1.ScanRequest) {
			s.Status.Stages = []v1alpha1.StageStatus{{FinishedAt: at(10)}, {FinishedAt: at(12)}, {}}
		}, want: 12},
		"from the failed try before": {change: func(s *v1alpha1.ScanRequest) {
			s.Status.Stages = []v1alpha1.StageStatus{{Failure: &v1alpha1.StageFailure{At: at(20)}}}
		}, want: 20},
		"not after its end": {change: func(s *v1alpha1.ScanRequest) { s.Status.AcceptedAt = at(90) }, want: 60},
		"of nothing known":  {change: func(s *v1alpha1.ScanRequest) { s.Status.AcceptedAt = metav1.MicroTime{} }, want: 60},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			scan := assigned()
			tt.change(scan)
			wait := record(t, scan, succeed)["wait for vision"]
			want := []time.Time{at(tt.want).Time, at(60).Time}
			if diff := cmp.Diff(want, []time.Time{wait.StartTime, wait.EndTime}); diff != "" {
				t.Errorf("start and end (-want +got):\n%s", diff)
			}
		})
	}
}

// A span has the class and the code of a failure, but not its message.
func TestTheSpanOfAFailure(t *testing.T) {
	tests := map[string]struct {
		run  runnerFunc
		want sdktrace.Status
		code string
	}{
		"none": {run: succeed},
		"a failed call": {
			run: func() []pipeline.Outcome {
				return []pipeline.Outcome{{Stage: v1alpha1.StageVision, FinishedAt: at(65).Time, Failure: &pipeline.Failure{
					Class: v1alpha1.FailureRateLimited, Code: "rate_limit_exceeded", Message: "the provider's words",
				}}}
			},
			want: sdktrace.Status{Code: codes.Error, Description: string(v1alpha1.FailureRateLimited)}, code: "rate_limit_exceeded",
		},
		"a panic": {
			run:  func() []pipeline.Outcome { panic("no") },
			want: sdktrace.Status{Code: codes.Error, Description: string(v1alpha1.FailureInternal)},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			vision, ok := record(t, assigned(), tt.run)["vision"]
			if !ok {
				t.Fatal("the stage's span has no end")
			}
			if diff := cmp.Diff(tt.want, vision.Status); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
			code := ""
			for _, a := range vision.Attributes {
				if strings.Contains(a.Value.String(), "words") {
					t.Errorf("%s = %q", a.Key, a.Value.String())
				}
				if a.Key == attributeCode {
					code = a.Value.AsString()
				}
			}
			if code != tt.code {
				t.Errorf("code %q, want %q", code, tt.code)
			}
		})
	}
}
