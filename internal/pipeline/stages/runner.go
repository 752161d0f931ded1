// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"k8s.io/utils/clock"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
)

// Scan is the part of a scan that running its stages needs.
type Scan struct {
	// ID is the scan's UID. It is sent with its calls.
	ID string
	// Spec is the scan's specification.
	Spec v1alpha1.ScanRequestSpec
	// Result is what the finished stages found.
	Result v1alpha1.ScanResult
	// Assignment is the stage to start with, and the limits of its call.
	Assignment v1alpha1.Assignment
}

// Runner runs stages. It is safe for concurrent use.
type Runner struct {
	pack      *knowledge.Pack
	completer Completer
	clock     clock.PassiveClock
}

// NewRunner returns a Runner that uses a knowledge pack and sends its calls with a completer. None of the arguments may
// be nil.
func NewRunner(pack *knowledge.Pack, completer Completer, clk clock.PassiveClock) *Runner {
	return &Runner{pack: pack, completer: completer, clock: clk}
}

// Run runs the assignment's stage, then the following stages as long as they are in stages (those of the worker's pool)
// and need no tokens. It stops after the first failure. If the knowledge pack has no rule, answer and reward have
// nothing to do: they are reported as skipped, whether or not they are in stages, and the scan is complete.
//
// Run returns at least one outcome, in the order the stages ran. It has no timeout of its own: ctx carries the
// assignment's deadline. When ctx ends, the running call fails with the class that the caller chose by canceling with
// a *Failure as the cause (context.WithCancelCause); without one, a passed deadline is a FailureTimeout and any other
// end a FailureDrained. An answer that arrived in time is kept, and the following stages without tokens still run:
// they take no time, unlike another assignment.
func (r *Runner) Run(ctx context.Context, scan Scan, stages []v1alpha1.StageName) []pipeline.Outcome {
	var outcomes []pipeline.Outcome
	for stage := scan.Assignment.Stage; ; {
		outcome := r.runStage(ctx, scan, stage)
		outcomes = append(outcomes, outcome)
		if outcome.Failure != nil {
			return outcomes
		}
		if outcome.Reason == v1alpha1.ReasonNoRuleFound {
			return append(outcomes, r.skipAfter(scan, stage)...)
		}
		pipeline.MergeResult(&scan.Result, outcome)
		next := pipeline.StageIndex(stage) + 1
		if next >= len(pipeline.Stages) || pipeline.NeedsTokens(pipeline.Stages[next]) || !slices.Contains(stages, pipeline.Stages[next]) {
			return outcomes
		}
		stage = pipeline.Stages[next]
	}
}

// runStage runs one stage and sets the stage and the times of its outcome.
func (r *Runner) runStage(ctx context.Context, scan Scan, stage v1alpha1.StageName) pipeline.Outcome {
	started := r.clock.Now()
	var outcome pipeline.Outcome
	switch stage {
	case v1alpha1.StageVision:
		outcome = r.vision(ctx, scan)
	case v1alpha1.StageRule:
		outcome = lookUpRule(r.pack, scan)
	case v1alpha1.StageAnswer:
		outcome = r.answer(ctx, scan)
	case v1alpha1.StageReward:
		outcome = matchReward(r.pack, scan)
	default:
		outcome = pipeline.Failed(internalFailure("the assignment names the stage %q, which does not exist; "+
			"manager and worker are probably of different versions: roll them out together", stage))
	}
	outcome.Stage = stage
	outcome.StartedAt, outcome.FinishedAt = started, r.clock.Now()
	return outcome
}

// skipAfter reports the stages after the one that found no rule as skipped.
func (r *Runner) skipAfter(scan Scan, stage v1alpha1.StageName) []pipeline.Outcome {
	var outcomes []pipeline.Outcome
	for _, next := range pipeline.Stages[pipeline.StageIndex(stage)+1:] {
		now := r.clock.Now()
		outcome := pipeline.Outcome{
			Stage: next, State: v1alpha1.StageSkipped, Reason: v1alpha1.ReasonNoRuleFound, Message: noRuleMessage,
			StartedAt: now, FinishedAt: now,
		}
		if next == v1alpha1.StageAnswer {
			outcome.Result.Answer = noRuleAnswer(r.pack, scan)
		}
		outcomes = append(outcomes, outcome)
	}
	return outcomes
}

// call sends a stage's call. On failure the outcome is complete; otherwise it has usage and headers, and the caller
// parses the text.
func (r *Runner) call(ctx context.Context, scan Scan, stage v1alpha1.StageName) (string, pipeline.Outcome) {
	scan.Assignment.Stage = stage
	call, ok := StageCall(r.pack, scan)
	if !ok {
		return "", pipeline.Failed(internalFailure("the %s stage has nothing to send; its input is missing from the scan's status", stage))
	}
	if ctx.Err() != nil {
		return "", pipeline.Failed(contextFailure(ctx)) // send no call whose result would be discarded
	}
	reply, err := r.completer.Complete(ctx, call)
	outcome := pipeline.Outcome{State: v1alpha1.StageSucceeded, Usage: reply.Usage, RateLimit: reply.RateLimit}
	if err != nil {
		outcome.Failure = failureOf(ctx, err)
		outcome.Message = outcome.Failure.Message
	}
	return reply.Text, outcome
}

// failureOf finds the classification in an error.
func failureOf(ctx context.Context, err error) *pipeline.Failure {
	if failure, ok := errors.AsType[*pipeline.Failure](err); ok {
		return failure
	}
	if ctx.Err() != nil {
		return contextFailure(ctx)
	}
	return internalFailure("%v", err)
}

// contextFailure classifies the end of a context, as documented at Run.
func contextFailure(ctx context.Context) *pipeline.Failure {
	cause := context.Cause(ctx)
	if failure, ok := errors.AsType[*pipeline.Failure](cause); ok {
		return failure
	}
	if errors.Is(cause, context.DeadlineExceeded) {
		return &pipeline.Failure{
			Class:   v1alpha1.FailureTimeout,
			Message: "no answer before the stage's deadline; raise stageDefaults.timeoutSeconds of the pool if this is frequent",
		}
	}
	return &pipeline.Failure{Class: v1alpha1.FailureDrained, Message: "the worker stopped before the stage was done; another one takes over"}
}

// internalFailure is a fault in this operator.
func internalFailure(format string, args ...any) *pipeline.Failure {
	return &pipeline.Failure{Class: v1alpha1.FailureInternal, Message: fmt.Sprintf(format, args...)}
}
