// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"errors"
	"fmt"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/clip"
)

var (
	// ErrFenced is returned for an event of an assignment that is no longer current: its worker was presumed dead, or
	// the scan has ended. The event must be dropped, not retried.
	ErrFenced = errors.New("the assignment is no longer current")
	// ErrStale is returned for an event that was decided on an older state of the scan, such as an assignment of a
	// stage that is not the next one. The writer must read the scan again.
	ErrStale = errors.New("the scan has moved on")
	// ErrGone is returned by writers of events for a scan that no longer exists.
	ErrGone = errors.New("the scan no longer exists")
)

// Context is the input of Fold besides the status.
type Context struct {
	// Spec is the scan's specification.
	Spec v1alpha1.ScanRequestSpec
	// CreatedAt is the object's creation time, in whole seconds.
	CreatedAt time.Time
	// Generation is the object's generation; it goes into the conditions.
	Generation int64
	// Now is the time of the event.
	Now time.Time
	// Jitter returns a number in [0, 1) that spreads retries. It must not be nil for a Completed event.
	Jitter func() float64
}

// Deadline is when the scan expires. The API server truncates the creation time to whole seconds, so a scan may be almost
// a second younger. The deadline counts from the end of that second: it is never early and at most one second late.
func Deadline(spec v1alpha1.ScanRequestSpec, createdAt time.Time) time.Time {
	return createdAt.Add(time.Second + time.Duration(spec.DeadlineSeconds)*time.Second)
}

// Event is something that happened to a scan: Assigned, Completed, Released, Waiting, Rejected or Expired.
type Event interface {
	fold(c Context, s *v1alpha1.ScanRequestStatus) error
}

// Assigned gives the next stage to a worker.
type Assigned struct {
	Assignment v1alpha1.Assignment
	// AcceptedAt is when the scheduler first saw the scan. Only the first assignment uses it.
	AcceptedAt time.Time
}

// Completed reports the outcomes of an assignment's stages, in the order they ran. Only the last may have failed.
type Completed struct {
	AssignmentID string
	Outcomes     []Outcome
}

// Released ends an assignment without an outcome: its worker was lost or is draining.
type Released struct {
	AssignmentID string
	// Class is FailureWorkerLost or FailureDrained.
	Class v1alpha1.FailureClass
	// Message explains to users what happened.
	Message string
}

// Waiting records why the scan is not assigned.
type Waiting struct {
	Reason, Message string
}

// Rejected ends a scan that can never be assigned.
type Rejected struct {
	Reason, Message string
}

// Expired ends a scan whose deadline has passed.
type Expired struct{}

// Fold folds an event into a status and reports whether that changed the status. It is the only code that changes a
// scan's status: scheduler, workers and controllers all use it. On error the status is unchanged.
//
// ErrFenced and ErrStale are documented above; other errors are faults of the caller.
func Fold(c Context, s *v1alpha1.ScanRequestStatus, ev Event) (bool, error) {
	c.Now = c.Now.Truncate(time.Microsecond) // the precision of the API
	next := s.DeepCopy()
	if err := ev.fold(c, next); err != nil {
		return false, err
	}
	next.Phase = PhaseOf(next)
	next.Summary = summaryOf(next)
	if apiequality.Semantic.DeepEqual(s, next) {
		return false, nil
	}
	*s = *next
	return true, nil
}

// NextStage is the next stage to run: the first one that is neither succeeded nor skipped. It is empty for a finished
// scan.
func NextStage(s *v1alpha1.ScanRequestStatus) v1alpha1.StageName {
	if IsFinished(s) {
		return ""
	}
	for _, name := range Stages {
		if st := Stage(s, name); st == nil || !isDone(st.State) {
			return name
		}
	}
	return ""
}

// IsFinished reports whether the scan has ended.
func IsFinished(s *v1alpha1.ScanRequestStatus) bool {
	return !s.FinishedAt.IsZero()
}

// Stage returns the record of a stage, or nil if it has not begun. It points into the status.
func Stage(s *v1alpha1.ScanRequestStatus, name v1alpha1.StageName) *v1alpha1.StageStatus {
	for i := range s.Stages {
		if s.Stages[i].Name == name {
			return &s.Stages[i]
		}
	}
	return nil
}

func isDone(state v1alpha1.StageState) bool {
	return state == v1alpha1.StageSucceeded || state == v1alpha1.StageSkipped
}

func (e Assigned) fold(c Context, s *v1alpha1.ScanRequestStatus) error {
	switch next := NextStage(s); {
	case IsFinished(s):
		return fmt.Errorf("assign stage %s: the scan has finished: %w", e.Assignment.Stage, ErrStale)
	case c.Spec.Suspend:
		return fmt.Errorf("assign stage %s: the scan is suspended: %w", e.Assignment.Stage, ErrStale)
	case s.Assignment != nil:
		return fmt.Errorf("assign stage %s: worker %s has the scan: %w", e.Assignment.Stage, s.Assignment.Worker, ErrStale)
	case next != e.Assignment.Stage:
		return fmt.Errorf("assign stage %s: the next stage is %s: %w", e.Assignment.Stage, next, ErrStale)
	}
	// A writer that did not see the response to its first write may write the same assignment again, after it ended.
	if st := Stage(s, e.Assignment.Stage); st != nil && st.AssignmentID != "" && st.AssignmentID == e.Assignment.ID {
		return fmt.Errorf("assign stage %s: assignment %s has ended: %w", e.Assignment.Stage, e.Assignment.ID, ErrStale)
	}
	if s.AcceptedAt.IsZero() {
		s.AcceptedAt = micro(AcceptedAt(c.CreatedAt, e.AcceptedAt))
	}
	s.WaitedMilliseconds += positiveMillis(c.Now.Sub(WaitingSince(s)))

	a := e.Assignment
	a.AssignedAt = micro(c.Now)
	s.Assignment = &a

	st := beginStage(s, a.Stage)
	st.State = v1alpha1.StageRunning
	st.AssignmentID = a.ID
	st.StartedAt = micro(c.Now)
	st.FinishedAt = metav1.MicroTime{}
	st.Worker, st.Budget, st.Model = a.Worker, a.Budget, a.Model
	st.Tokens.Reserved += a.ReservedTokens
	st.RateLimit = nil
	st.Message = ""

	message := "worker " + a.Worker + " runs stage " + string(a.Stage)
	if a.Budget != "" {
		message += fmt.Sprintf(" with %d tokens of budget %s", a.ReservedTokens, a.Budget)
	}
	setCondition(c, s, v1alpha1.ConditionAdmitted, metav1.ConditionTrue, v1alpha1.ReasonAssigned, message)
	return nil
}

func (e Completed) fold(c Context, s *v1alpha1.ScanRequestStatus) error {
	if s.Assignment == nil || s.Assignment.ID != e.AssignmentID {
		return fmt.Errorf("complete assignment %s: %w", e.AssignmentID, ErrFenced)
	}
	if len(e.Outcomes) == 0 {
		return fmt.Errorf("complete assignment %s: no outcome", e.AssignmentID)
	}
	a := *s.Assignment
	s.WaitedMilliseconds += positiveMillis(e.Outcomes[0].StartedAt.Sub(a.AssignedAt.Time))
	s.Assignment = nil
	for i, o := range e.Outcomes {
		if next := NextStage(s); next != o.Stage {
			return fmt.Errorf("complete assignment %s: outcome %d is of stage %q, want %q", e.AssignmentID, i, o.Stage, next)
		}
		recordOutcome(s, a, o)
		if o.Failure != nil { // nothing can follow a failure
			foldFailure(c, s, a, o)
			break
		}
		foldSuccess(c, s, o)
	}
	if !IsFinished(s) && NextStage(s) == "" {
		finish(c, s, v1alpha1.ReasonSucceeded, "the scan succeeded")
	}
	if last := e.Outcomes[len(e.Outcomes)-1]; !IsFinished(s) && last.Failure == nil {
		setCondition(c, s, v1alpha1.ConditionAdmitted, metav1.ConditionFalse, v1alpha1.ReasonStageCompleted,
			fmt.Sprintf("stage %s is done, stage %s is queued", last.Stage, NextStage(s)))
	}
	return nil
}

func (e Released) fold(c Context, s *v1alpha1.ScanRequestStatus) error {
	if s.Assignment == nil || s.Assignment.ID != e.AssignmentID {
		return fmt.Errorf("release assignment %s: %w", e.AssignmentID, ErrFenced)
	}
	if CountsAsAttempt(e.Class) {
		return fmt.Errorf("release assignment %s: class %s is an outcome, not a release", e.AssignmentID, e.Class)
	}
	a := *s.Assignment
	s.Assignment = nil
	o := Outcome{
		Stage: a.Stage, StartedAt: a.AssignedAt.Time, FinishedAt: c.Now,
		Failure: &Failure{Class: e.Class, Message: e.Message},
	}
	recordOutcome(s, a, o)
	if e.Class == v1alpha1.FailureWorkerLost {
		Stage(s, a.Stage).Losses++
	}
	foldFailure(c, s, a, o)
	return nil
}

func (e Waiting) fold(c Context, s *v1alpha1.ScanRequestStatus) error {
	if IsFinished(s) || s.Assignment != nil {
		return fmt.Errorf("record reason %s for waiting: %w", e.Reason, ErrStale)
	}
	setCondition(c, s, v1alpha1.ConditionAdmitted, metav1.ConditionFalse, e.Reason, e.Message)
	return nil
}

func (e Rejected) fold(c Context, s *v1alpha1.ScanRequestStatus) error {
	if IsFinished(s) || s.Assignment != nil {
		return fmt.Errorf("reject with %s: %w", e.Reason, ErrStale)
	}
	finish(c, s, e.Reason, e.Message)
	return nil
}

func (Expired) fold(c Context, s *v1alpha1.ScanRequestStatus) error {
	if IsFinished(s) {
		return fmt.Errorf("expire: the scan has finished: %w", ErrStale)
	}
	message := fmt.Sprintf("not finished %d seconds after creation (spec.deadlineSeconds)", c.Spec.DeadlineSeconds)
	stage := NextStage(s)
	if a := s.Assignment; a != nil {
		message += fmt.Sprintf("; worker %s was running stage %s", a.Worker, a.Stage)
		s.Assignment = nil
	} else {
		message += fmt.Sprintf("; stage %s was waiting", stage)
		if why := condition(s, v1alpha1.ConditionAdmitted); why != nil && why.Status == metav1.ConditionFalse {
			message += ": " + why.Reason + ": " + why.Message
		}
	}
	if st := Stage(s, stage); st != nil {
		st.State = v1alpha1.StageFailed
		st.FinishedAt = micro(c.Now)
		st.Failure = &v1alpha1.StageFailure{Class: v1alpha1.FailureTimeout, At: micro(c.Now)}
		st.Message = clip.Bytes(message, maxMessage)
	}
	setCondition(c, s, stageCondition(stage), metav1.ConditionFalse, v1alpha1.ReasonDeadlineExceeded, message)
	finish(c, s, v1alpha1.ReasonDeadlineExceeded, message)
	return nil
}
