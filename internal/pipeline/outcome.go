// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// Stages are the stages of a scan in the order they run.
var Stages = [...]v1alpha1.StageName{
	v1alpha1.StageVision, v1alpha1.StageRule, v1alpha1.StageAnswer, v1alpha1.StageReward,
}

// NeedsTokens reports whether a stage calls a language model and therefore draws on a budget.
func NeedsTokens(stage v1alpha1.StageName) bool {
	return stage == v1alpha1.StageVision || stage == v1alpha1.StageAnswer
}

// StageIndex is the position of a stage in Stages, or -1 for an unknown name.
func StageIndex(stage v1alpha1.StageName) int {
	for i, s := range Stages {
		if s == stage {
			return i
		}
	}
	return -1
}

// Outcome is how one run of one stage ended: succeeded or skipped (State), or failed (Failure is set).
type Outcome struct {
	// Stage is the stage that ran.
	Stage v1alpha1.StageName
	// State is StageSucceeded or StageSkipped. It is ignored if Failure is set.
	State v1alpha1.StageState
	// Reason overrides the reason of the stage's condition on success, e.g. NoRuleFound.
	Reason string
	// Message explains the outcome to users. It is cut to 512 bytes.
	Message string
	// Failure is set if the run failed.
	Failure *Failure
	// StartedAt and FinishedAt are the bounds of the run.
	StartedAt, FinishedAt time.Time
	// Usage is what the provider reported. Its Reserved field is ignored: the assignment has that number.
	Usage v1alpha1.TokenUsage
	// RateLimit is from the provider's headers; nil without an answer or without such headers.
	RateLimit *v1alpha1.RateLimitObservation
	// Result holds what this stage found; only the stage's own fields are set.
	Result v1alpha1.ScanResult
}

// Failure is a failed run, classified once, where it happened.
type Failure struct {
	// Class decides what happens next.
	Class v1alpha1.FailureClass
	// Code is the provider's own error code, if any.
	Code string
	// Message explains what happened, why, and what to do; without secrets.
	Message string
	// RetryAfter is the minimum wait that the provider demanded, or zero.
	RetryAfter time.Duration
}

// Error implements error, so that stages can return a Failure and callers find it with errors.As.
func (f *Failure) Error() string {
	if f.Code == "" {
		return string(f.Class) + ": " + f.Message
	}
	return string(f.Class) + " (" + f.Code + "): " + f.Message
}

// CountsAsAttempt reports whether a failure uses up one of the stage's attempts. Rate limiting, held budgets, calls that
// were not sent and lost or draining workers are not the scan's fault and do not count.
func CountsAsAttempt(class v1alpha1.FailureClass) bool {
	switch class {
	case v1alpha1.FailureRateLimited, v1alpha1.FailureQuotaExhausted, v1alpha1.FailureUnauthorized,
		v1alpha1.FailureWorkerLost, v1alpha1.FailureDrained, v1alpha1.FailureUnreachable, v1alpha1.FailureKeyMissing:
		return false
	default:
		return true
	}
}

// IsTerminal reports whether a failure ends the scan at once, because another attempt would fail in the same way.
func IsTerminal(class v1alpha1.FailureClass) bool {
	switch class {
	case v1alpha1.FailureRefused, v1alpha1.FailureInvalidRequest, v1alpha1.FailureRequestTooLarge,
		v1alpha1.FailureNotClassifiable:
		return true
	default:
		return false
	}
}

// Failed is the outcome of a run that failed.
func Failed(failure *Failure) Outcome {
	return Outcome{Failure: failure, Message: failure.Message}
}
