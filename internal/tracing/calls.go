// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/stages"
)

// Attributes of a call, named after OpenTelemetry's conventions for generative AI.
const (
	attributeOperation   = attribute.Key("gen_ai.operation.name")
	attributeModel       = attribute.Key("gen_ai.request.model")
	attributeMaxTokens   = attribute.Key("gen_ai.request.max_tokens")
	attributeInput       = attribute.Key("gen_ai.usage.input_tokens")
	attributeCachedInput = attribute.Key("gen_ai.usage.cache_read.input_tokens")
	attributeOutput      = attribute.Key("gen_ai.usage.output_tokens")
	attributeAPI         = attribute.Key("scan.api")
)

// operation is the conventions' name for both APIs in use.
const operation = "chat"

// TraceCalls returns a completer that records a span for each call of completer, inside the span of the stage. The
// provider does not receive the trace. If tracer is nil, TraceCalls returns completer.
func TraceCalls(completer stages.Completer, tracer trace.Tracer) stages.Completer {
	if tracer == nil {
		return completer
	}
	return &callTracer{completer: completer, tracer: tracer}
}

type callTracer struct {
	completer stages.Completer
	tracer    trace.Tracer
}

// Complete implements stages.Completer.
func (t *callTracer) Complete(ctx context.Context, call stages.Call) (stages.Reply, error) {
	ctx, span := t.tracer.Start(ctx, operation+" "+call.Model, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attributeOperation.String(operation), attributeModel.String(call.Model), attributeAPI.String(string(call.API)),
		attributeMaxTokens.Int(int(call.MaxOutputTokens)), attributeBudget.String(call.Budget),
	))
	defer span.End()
	reply, err := t.completer.Complete(ctx, call)
	if reply.Usage.Input > 0 {
		span.SetAttributes(attributeInput.Int64(reply.Usage.Input), attributeCachedInput.Int64(reply.Usage.CachedInput),
			attributeOutput.Int64(reply.Usage.Output))
	}
	// The error's text may quote the provider, so it is not recorded.
	if failure, ok := errors.AsType[*pipeline.Failure](err); ok {
		fail(span, failure)
	} else if err != nil {
		span.SetStatus(codes.Error, "canceled")
	}
	return reply, err
}
