// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/utils/clock"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/stages"
)

// AttributeJobID is the attribute to find the trace of a scan by: the scan's name.
const AttributeJobID = attribute.Key("scan.job_id")

// Attributes of the spans of a scan.
const (
	attributeStage      = attribute.Key("scan.stage")
	attributeState      = attribute.Key("scan.stage.state")
	attributeAssignment = attribute.Key("scan.assignment")
	attributeAttempt    = attribute.Key("scan.attempt")
	attributePool       = attribute.Key("scan.pool")
	attributeBudget     = attribute.Key("scan.budget")
	attributeCode       = attribute.Key("scan.failure.code")
	attributeErrorType  = attribute.Key("error.type")
)

// assignedEvent divides a wait: before it the scan waited for tokens or a worker, after it for the worker to start.
const assignedEvent = "assigned"

// StageRunner runs the stages of an assignment. *stages.Runner implements it.
type StageRunner interface {
	Run(ctx context.Context, scan stages.Scan, stages []v1alpha1.StageName) []pipeline.Outcome
}

// TraceStages returns a runner that records a span for each stage of runner and for the wait before. The spans are in
// the trace of the scan's annotations; without one, each assignment is a trace of its own. The context must come from
// WithScan. If tracer is nil, TraceStages returns runner.
func TraceStages(runner StageRunner, tracer trace.Tracer, clk clock.PassiveClock) StageRunner {
	if tracer == nil {
		return runner
	}
	return &stageTracer{runner: runner, tracer: tracer, clock: clk}
}

type stageTracer struct {
	runner StageRunner
	tracer trace.Tracer
	clock  clock.PassiveClock
}

// Run implements StageRunner.
func (t *stageTracer) Run(ctx context.Context, scan stages.Scan, stages []v1alpha1.StageName) []pipeline.Outcome {
	object := scanOf(ctx)
	if object == nil {
		return t.runner.Run(ctx, scan, stages)
	}
	a, started := &scan.Assignment, t.clock.Now()
	about := trace.WithAttributes(
		AttributeJobID.String(object.Name), attributeAssignment.String(a.ID), attributeAttempt.Int(int(a.Attempt)),
		attributePool.String(a.Pool), attributeBudget.String(a.Budget),
	)
	parent := withParent(ctx, object)
	running, span := t.start(parent, a.Stage, started, about)
	if !trace.SpanContextFromContext(parent).IsValid() {
		parent = running
	}
	var ended time.Time
	defer func() {
		if ended.IsZero() { // the runner panicked; the caller recovers and reports a failure of this class
			span.SetStatus(codes.Error, string(v1alpha1.FailureInternal))
			ended = t.clock.Now()
		}
		span.End(trace.WithTimestamp(ended))
	}()
	t.waited(parent, object, a, started, about)

	outcomes := t.runner.Run(running, scan, stages)
	ended = t.clock.Now()
	for i := range outcomes {
		o := &outcomes[i]
		if i == 0 {
			conclude(span, o)
			ended = o.FinishedAt
			continue
		}
		// The following stages make no calls, so their spans can be recorded afterwards.
		_, following := t.start(parent, o.Stage, o.StartedAt, about)
		conclude(following, o)
		following.End(trace.WithTimestamp(o.FinishedAt))
	}
	return outcomes
}

func (t *stageTracer) start(ctx context.Context, stage v1alpha1.StageName, at time.Time, about trace.SpanStartOption) (context.Context, trace.Span) {
	return t.tracer.Start(ctx, string(stage), about, trace.WithAttributes(attributeStage.String(string(stage))),
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(at))
}

// waited records the span of the time that the scan waited for this assignment to start.
func (t *stageTracer) waited(ctx context.Context, scan *v1alpha1.ScanRequest, a *v1alpha1.Assignment, until time.Time, about trace.SpanStartOption) {
	since := waitingSince(scan, until)
	_, span := t.tracer.Start(ctx, "wait for "+string(a.Stage), about,
		trace.WithAttributes(attributeStage.String(string(a.Stage))), trace.WithTimestamp(since))
	if at := a.AssignedAt.Time; at.After(since) && at.Before(until) {
		span.AddEvent(assignedEvent, trace.WithTimestamp(at))
	}
	span.End(trace.WithTimestamp(until))
}

// waitingSince returns when the scan started to wait for its assignment: when its last run ended, or when it was
// accepted. It is at most until, because clocks differ.
func waitingSince(scan *v1alpha1.ScanRequest, until time.Time) time.Time {
	since := pipeline.WaitingSince(&scan.Status)
	if since.IsZero() {
		since = scan.CreationTimestamp.Time
	}
	if since.IsZero() || since.After(until) {
		return until
	}
	return since
}

// conclude records the outcome of a stage in its span, without its message, which may quote the provider.
func conclude(span trace.Span, o *pipeline.Outcome) {
	if o.Failure != nil {
		fail(span, o.Failure)
		return
	}
	span.SetAttributes(attributeState.String(string(o.State)))
}

func fail(span trace.Span, f *pipeline.Failure) {
	span.SetStatus(codes.Error, string(f.Class))
	span.SetAttributes(attributeErrorType.String(string(f.Class)))
	if f.Code != "" {
		span.SetAttributes(attributeCode.String(f.Code))
	}
}
