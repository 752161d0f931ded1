// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/clip"
)

// Backoff bounds of the time between two attempts of a stage.
const (
	backoffBase = time.Second
	backoffMax  = time.Minute
)

// MaxLosses is how many workers a stage may lose before it runs alone on a worker. If that worker is lost too, the scan
// ends: it probably is what kills them.
const MaxLosses = 3

// retryPeriod is how long failures of the provider must go on before attempts alone end a scan. Attempts that fail fast
// are used up within seconds; an outage takes minutes.
const retryPeriod = 5 * time.Minute

// Backoff is the wait after the nth failed attempt, n from 1: exponential from 1 s to 60 s with full jitter, so that
// scans that failed together are not retried together. jitter is in [0, 1).
func Backoff(n int32, jitter float64) time.Duration {
	limit := backoffMax
	if shift := max(n-1, 0); shift < 6 { // 2^6 s is beyond the maximum
		limit = min(backoffBase<<shift, backoffMax)
	}
	return time.Duration(jitter * float64(limit))
}

// beginStage returns the record of a stage, and adds it if the stage has not begun.
func beginStage(s *v1alpha1.ScanRequestStatus, name v1alpha1.StageName) *v1alpha1.StageStatus {
	if st := Stage(s, name); st != nil {
		return st
	}
	s.Stages = append(s.Stages, v1alpha1.StageStatus{Name: name})
	return &s.Stages[len(s.Stages)-1]
}

// recordOutcome records what successes and failures have in common.
func recordOutcome(s *v1alpha1.ScanRequestStatus, a v1alpha1.Assignment, o Outcome) {
	st := beginStage(s, o.Stage)
	st.StartedAt, st.FinishedAt = micro(o.StartedAt), micro(o.FinishedAt)
	st.Worker = a.Worker
	if o.Stage == a.Stage {
		st.Budget, st.Model = a.Budget, a.Model
	}
	st.Tokens.Input += o.Usage.Input
	st.Tokens.CachedInput += o.Usage.CachedInput
	st.Tokens.Output += o.Usage.Output
	st.RateLimit = o.RateLimit.DeepCopy()
	st.Message = clip.Bytes(o.Message, maxMessage)
}

func foldSuccess(c Context, s *v1alpha1.ScanRequestStatus, o Outcome) {
	st := Stage(s, o.Stage)
	st.State = o.State
	st.Failure = nil
	if o.State == v1alpha1.StageSucceeded {
		st.Attempts++
	}
	if s.Retry != nil && s.Retry.Stage == o.Stage {
		s.Retry = nil
	}
	if s.Result == nil {
		s.Result = &v1alpha1.ScanResult{}
	}
	MergeResult(s.Result, o)

	reason := v1alpha1.ReasonSucceeded
	if o.State == v1alpha1.StageSkipped {
		reason = v1alpha1.ReasonSkipped
	}
	if o.Reason != "" {
		reason = o.Reason
	}
	setCondition(c, s, stageCondition(o.Stage), metav1.ConditionTrue, reason, o.Message)
}

// foldFailure decides what follows a failed run: the end of the scan, another attempt after a backoff, or another run
// because this one does not count as an attempt.
func foldFailure(c Context, s *v1alpha1.ScanRequestStatus, a v1alpha1.Assignment, o Outcome) {
	st, f := Stage(s, o.Stage), o.Failure
	st.Failure = &v1alpha1.StageFailure{
		Class: f.Class, Code: f.Code, RetryAfterMilliseconds: f.RetryAfter.Milliseconds(), At: micro(o.FinishedAt),
	}
	st.Message = clip.Bytes(f.Message, maxMessage)

	fail := func(reason, message string) {
		st.State = v1alpha1.StageFailed
		setCondition(c, s, stageCondition(o.Stage), metav1.ConditionFalse, reason, message)
		finish(c, s, reason, "stage "+string(o.Stage)+": "+message)
	}
	if st.Losses > MaxLosses {
		fail(v1alpha1.ReasonWorkersLost, fmt.Sprintf(
			"%d workers were lost while they ran the stage, the last one while it ran nothing else; last: %s", st.Losses, f.Message))
		return
	}
	if !CountsAsAttempt(f.Class) {
		st.State = v1alpha1.StageWaiting
		setCondition(c, s, v1alpha1.ConditionAdmitted, metav1.ConditionFalse, waitingReason(f.Class), f.Message)
		return
	}
	st.Attempts++
	switch {
	case IsTerminal(f.Class):
		fail(terminalReason(f.Class), f.Message)
	case !c.Now.Before(Deadline(c.Spec, c.CreatedAt)):
		fail(v1alpha1.ReasonDeadlineExceeded, fmt.Sprintf(
			"not finished %d seconds after creation (spec.deadlineSeconds); last failure: %s", c.Spec.DeadlineSeconds, f.Message))
	case st.Attempts >= a.MaxAttempts && !recentOutage(c, s, o):
		fail(v1alpha1.ReasonRetriesExhausted, fmt.Sprintf("attempt %d of %d failed: %s", st.Attempts, a.MaxAttempts, f.Message))
	default:
		st.State = v1alpha1.StageWaiting
		wait := max(Backoff(st.Attempts, c.Jitter()), f.RetryAfter)
		s.Retry = &v1alpha1.RetryStatus{
			Stage: o.Stage, Count: st.Attempts, After: micro(c.Now.Add(wait)), DelayMilliseconds: wait.Milliseconds(),
			Since: micro(failingSince(c, s, o)),
		}
		message := fmt.Sprintf("attempt %d of %d failed: %s", st.Attempts, a.MaxAttempts, f.Message)
		setCondition(c, s, stageCondition(o.Stage), metav1.ConditionFalse, v1alpha1.ReasonRetrying, message)
		setCondition(c, s, v1alpha1.ConditionAdmitted, metav1.ConditionFalse, v1alpha1.ReasonBackingOff, message)
	}
}

// recentOutage reports whether the stage fails for a reason of the provider's that may pass with time, and has failed
// for less than retryPeriod.
func recentOutage(c Context, s *v1alpha1.ScanRequestStatus, o Outcome) bool {
	switch o.Failure.Class {
	case v1alpha1.FailureUnavailable, v1alpha1.FailureSlowDown:
		return c.Now.Sub(failingSince(c, s, o)) < retryPeriod
	default:
		return false
	}
}

// failingSince is when the stage's first attempt without a success failed.
func failingSince(c Context, s *v1alpha1.ScanRequestStatus, o Outcome) time.Time {
	if r := s.Retry; r != nil && r.Stage == o.Stage && !r.Since.IsZero() {
		return r.Since.Time
	}
	return c.Now
}

// waitingReason is why a scan waits after a run that does not count as an attempt.
func waitingReason(class v1alpha1.FailureClass) string {
	switch class {
	case v1alpha1.FailureRateLimited:
		return v1alpha1.ReasonWaitingForTokens
	case v1alpha1.FailureQuotaExhausted:
		return v1alpha1.ReasonWaitingForQuota
	case v1alpha1.FailureUnauthorized, v1alpha1.FailureUnreachable:
		return v1alpha1.ReasonWaitingForBudget
	default:
		return v1alpha1.ReasonWaitingForWorker
	}
}

// terminalReason is why a scan failed, for the terminal classes.
func terminalReason(class v1alpha1.FailureClass) string {
	switch class {
	case v1alpha1.FailureRefused:
		return v1alpha1.ReasonContentRefused
	case v1alpha1.FailureRequestTooLarge:
		return v1alpha1.ReasonRequestTooLarge
	case v1alpha1.FailureNotClassifiable:
		return v1alpha1.ReasonNotClassifiable
	default:
		return v1alpha1.ReasonInvalidRequest
	}
}

// stageCondition is the condition type of a stage.
func stageCondition(stage v1alpha1.StageName) string {
	switch stage {
	case v1alpha1.StageVision:
		return v1alpha1.ConditionVisionCompleted
	case v1alpha1.StageRule:
		return v1alpha1.ConditionRuleCompleted
	case v1alpha1.StageAnswer:
		return v1alpha1.ConditionAnswerCompleted
	default:
		return v1alpha1.ConditionRewardCompleted
	}
}

// MergeResult adds what a stage found to a scan's result. A stage replaces only its own fields.
func MergeResult(result *v1alpha1.ScanResult, o Outcome) {
	found := o.Result.DeepCopy()
	switch o.Stage {
	case v1alpha1.StageVision:
		result.Classification, result.SituationTags = found.Classification, found.SituationTags
	case v1alpha1.StageRule:
		result.DisposalRules = found.DisposalRules
	case v1alpha1.StageAnswer:
		result.Answer = found.Answer
	case v1alpha1.StageReward:
		result.Reward = found.Reward
	}
}

// finish makes the scan terminal.
func finish(c Context, s *v1alpha1.ScanRequestStatus, reason, message string) {
	if s.AcceptedAt.IsZero() {
		s.AcceptedAt = micro(c.CreatedAt)
	}
	s.FinishedAt = micro(c.Now)
	s.Assignment, s.Retry = nil, nil
	setCondition(c, s, v1alpha1.ConditionAdmitted, metav1.ConditionFalse, v1alpha1.ReasonFinished, "the scan has finished and needs no worker")
	setCondition(c, s, v1alpha1.ConditionFinished, metav1.ConditionTrue, reason, message)
}

// AcceptedAt is the best estimate of when the object was stored. Its creation time has whole seconds only, and the
// scheduler sees it a little later, so the estimate is seenAt within that second.
func AcceptedAt(createdAt, seenAt time.Time) time.Time {
	latest := createdAt.Add(time.Second - time.Microsecond)
	switch {
	case seenAt.Before(createdAt):
		return createdAt
	case seenAt.After(latest):
		return latest
	default:
		return seenAt
	}
}

// WaitingSince is when the scan began to wait for its present or next assignment: when its last run ended, or when it was
// accepted. It is zero for a scan that was never assigned.
func WaitingSince(s *v1alpha1.ScanRequestStatus) time.Time {
	since := s.AcceptedAt.Time
	for i := range s.Stages {
		st := &s.Stages[i]
		if end := st.FinishedAt.Time; end.After(since) {
			since = end
		}
		// While a stage runs again, only its failure shows when its last run ended.
		if f := st.Failure; f != nil && f.At.After(since) {
			since = f.At.Time
		}
	}
	return since
}

func positiveMillis(d time.Duration) int64 { return max(d.Milliseconds(), 0) }

// micro is t with the precision that the API keeps.
func micro(t time.Time) metav1.MicroTime {
	if t.IsZero() {
		return metav1.MicroTime{}
	}
	return metav1.NewMicroTime(t.Truncate(time.Microsecond))
}
