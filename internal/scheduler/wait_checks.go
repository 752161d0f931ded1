// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/queue"
)

// waitInput is everything that the checks below read.
type waitInput struct {
	now    time.Time
	spec   *v1alpha1.ScanRequestSpec
	status *v1alpha1.ScanRequestStatus
	stage  v1alpha1.StageName
	// blockedBy is why the first scan of the lane was not assigned, nil if it was.
	blockedBy *waitReason
	queued    bool
	// ahead and wait are for the message only. They are zero if they are unknown or not needed.
	ahead queue.Position
	wait  time.Duration
}

// waitCheck tests for one reason to wait.
type waitCheck func(in waitInput) (reason, message string, waits bool)

// waitChecks is the chain of checks, in order of precedence: the first check that applies gives the reason.
var waitChecks = []waitCheck{
	checkSuspended,  // by the user; nothing else matters
	checkBackingOff, // after a failed attempt
	checkBlocked,    // the scan's lane is short of tokens, requests, quota or workers
	checkQueued,     // nothing is short; the scan is not assigned yet
}

func checkSuspended(in waitInput) (reason, message string, waits bool) {
	return v1alpha1.ReasonSuspended, "spec.suspend is true; set it to false to continue", in.spec.Suspend
}

func checkBackingOff(in waitInput) (reason, message string, waits bool) {
	r := in.status.Retry
	if r == nil || r.Stage != in.stage || !r.After.After(in.now) {
		return "", "", false
	}
	return v1alpha1.ReasonBackingOff, fmt.Sprintf("attempt %d of stage %s failed; the next attempt starts at %s",
		r.Count, r.Stage, r.After.UTC().Format(time.RFC3339)), true
}

func checkBlocked(in waitInput) (reason, message string, waits bool) {
	if in.blockedBy == nil {
		return "", "", false
	}
	return in.blockedBy.reason, in.blockedBy.explain(in.ahead, in.wait), true
}

func checkQueued(in waitInput) (reason, message string, waits bool) {
	return v1alpha1.ReasonWaitingForWorker, "earlier scans are being assigned", in.queued
}

// runWaitChecks returns the first reason that applies.
func runWaitChecks(in waitInput) (reason, message string) {
	for _, check := range waitChecks {
		if reason, message, waits := check(in); waits {
			return reason, message
		}
	}
	return "", ""
}

// reasonOf returns why a scan waits, without position and estimated wait.
func (s *Scheduler) reasonOf(st *scanState, now time.Time) string {
	reason, _ := runWaitChecks(s.waitInput(st, now))
	return reason
}

// queuePosition returns the place, the estimated wait and the reason of a waiting scan. It costs more than reasonOf.
func (s *Scheduler) queuePosition(st *scanState, now time.Time) QueuePosition {
	in := s.waitInput(st, now)
	in.ahead, _ = s.queue.Position(st.name.String())
	wait, known := s.waitOf(st, in.ahead)
	in.wait = wait
	position := QueuePosition{Ahead: in.ahead.Ahead, TokensAhead: in.ahead.TokensAhead, Wait: wait, WaitKnown: known}
	position.Reason, position.Message = runWaitChecks(in)
	return position
}

func (s *Scheduler) waitInput(st *scanState, now time.Time) waitInput {
	in := waitInput{now: now, spec: &st.obj.Spec, status: &st.obj.Status, stage: pipeline.NextStage(&st.obj.Status)}
	if b, ok := s.blocked[s.lane(st, in.stage)]; ok {
		in.blockedBy = &b
	}
	_, in.queued = s.queue.Get(st.name.String())
	return in
}
