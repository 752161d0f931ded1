package scheduler

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/queue"
)

// waitInput is all that the checks below look at.
type waitInput struct {
	now       time.Time
	spec      *v1alpha1.ScanRequestSpec
	status    *v1alpha1.ScanRequestStatus
	stage     v1alpha1.StageName
	blockedBy *waitReason
	queued    bool
	// ahead and wait are for the message alone, and zero where it is not asked for or they are not known.
	ahead queue.Position
	wait  time.Duration
}

// waitCheck finds one reason for waiting.
type waitCheck func(in waitInput) (reason, message string, waits bool)

// waitChecks are asked in this order; the first that finds a reason gives it.
var waitChecks = []waitCheck{checkSuspended, checkBackingOff, checkBlocked, checkPosition}

func checkSuspended(in waitInput) (string, string, bool) {
	return v1alpha1.ReasonSuspended, "spec.suspend is true; set it to false to go on", in.spec.Suspend
}

func checkBackingOff(in waitInput) (string, string, bool) {
	r := in.status.Retry
	if r == nil || r.Stage != in.stage || !r.After.After(in.now) {
		return "", "", false
	}
	return v1alpha1.ReasonBackingOff, fmt.Sprintf("attempt %d of stage %s failed; the next one is due at %s",
		r.Count, r.Stage, r.After.UTC().Format(time.RFC3339)), true
}

func checkBlocked(in waitInput) (string, string, bool) {
	if in.blockedBy == nil {
		return "", "", false
	}
	return in.blockedBy.reason, in.blockedBy.explain(in.ahead, in.wait), true
}

// checkPosition gives the reason of a scan whose turn has not come although nothing is blocked: the writes of
// those before it are under way.
func checkPosition(in waitInput) (string, string, bool) {
	return v1alpha1.ReasonWaitingForWorker, "the scan's turn has not come; others are being assigned", in.queued
}

// reasonOf says why a scan waits, in one word.
func (s *Scheduler) reasonOf(st *scanState, now time.Time) string {
	reason, _ := firstReason(s.waitInput(st, now))
	return reason
}

// explain says why a scan waits, and for people how long that may take. It is dearer than reasonOf.
func (s *Scheduler) explain(st *scanState, now time.Time) (reason, message string) {
	standing := s.queuePosition(st, now)
	return standing.Reason, standing.Message
}

// queuePosition is where a waiting scan stands.
func (s *Scheduler) queuePosition(st *scanState, now time.Time) QueuePosition {
	in := s.waitInput(st, now)
	in.ahead, _ = s.queue.Position(st.name.String())
	wait, known := s.waitOf(st, in.ahead)
	in.wait = wait
	standing := QueuePosition{Ahead: in.ahead.Ahead, TokensAhead: in.ahead.TokensAhead, Wait: wait, WaitKnown: known}
	standing.Reason, standing.Message = firstReason(in)
	return standing
}

func (s *Scheduler) waitInput(st *scanState, now time.Time) waitInput {
	in := waitInput{now: now, spec: &st.obj.Spec, status: &st.obj.Status, stage: pipeline.NextStage(&st.obj.Status)}
	if b, ok := s.blocked[s.lane(st, in.stage)]; ok {
		in.blockedBy = &b
	}
	_, in.queued = s.queue.Get(st.name.String())
	return in
}

func firstReason(in waitInput) (reason, message string) {
	for _, check := range waitChecks {
		if reason, message, waits := check(in); waits {
			return reason, message
		}
	}
	return "", ""
}

// reasonCheck is a scan whose reason for waiting is to be looked at, and when.
type reasonCheck struct {
	scan *scanState
	at   time.Time
}

// laneWait is the reason that the head of a lane has been waiting for, and since when.
type laneWait struct {
	reason string
	since  time.Time
}

// recordWaitReasons remembers since when each lane has been blocked for the same reason.
func (s *Scheduler) recordWaitReasons(now time.Time) {
	for lane := range s.blockedSince {
		if _, still := s.blocked[lane]; !still {
			delete(s.blockedSince, lane)
		}
	}
	for lane, b := range s.blocked {
		if s.blockedSince[lane].reason != b.reason {
			s.blockedSince[lane] = laneWait{reason: b.reason, since: now}
		}
	}
}

// reasonSince is since when a scan has been waiting for a reason.
func (s *Scheduler) reasonSince(st *scanState, reason string) time.Time {
	if b, ok := s.blockedSince[s.lane(st, pipeline.NextStage(&st.obj.Status))]; ok && b.reason == reason && b.since.After(st.waitingSince) {
		return b.since
	}
	return st.waitingSince
}

// dueReasons returns the writes of reasons that have held long enough, oldest first and within the rate, and
// when to look again.
func (s *Scheduler) dueReasons(now time.Time, room int) ([]*write, time.Time) {
	for len(s.checks) > 0 && !now.Before(s.checks[0].at) {
		st := s.checks[0].scan
		s.checks = s.checks[1:]
		st.checking = false
		if !s.waits(st) {
			continue
		}
		reason := s.reasonOf(st, now)
		if now.Sub(s.reasonSince(st, reason)) >= s.opts.ReasonDelay && unwritten(st, reason) {
			s.toExplain = append(s.toExplain, st)
		}
		s.checkLater(st, now)
	}
	var writes []*write
	for len(s.toExplain) > 0 && room > len(writes) {
		st := s.toExplain[0]
		var reason string
		if s.waits(st) {
			reason = s.reasonOf(st, now)
		}
		if unwritten(st, reason) {
			if !s.reasons.AllowN(now, 1) {
				break
			}
			_, message := s.explain(st, now)
			wr := &write{kind: writeReason, event: pipeline.Waiting{Reason: reason, Message: message}}
			s.prepare(st, wr)
			writes = append(writes, wr)
		}
		s.toExplain = s.toExplain[1:]
	}
	var next time.Time
	if len(s.checks) > 0 {
		next = s.checks[0].at
	}
	if len(s.toExplain) > 0 {
		next = earliest(next, now.Add(time.Second/time.Duration(s.opts.ReasonsPerSecond)))
	}
	return writes, next
}

// waits says whether a scan is known, unfinished and not being worked on.
func (s *Scheduler) waits(st *scanState) bool {
	return s.scans[st.name] == st && st.run == nil && st.pending == nil
}

// checkLater puts a scan on the list of those to look at. All wait for the same time, so that the list is in
// order.
func (s *Scheduler) checkLater(st *scanState, now time.Time) {
	if st.checking {
		return
	}
	st.checking = true
	s.checks = append(s.checks, reasonCheck{scan: st, at: now.Add(s.opts.ReasonDelay)})
}

// unwritten says whether the object does not show the reason yet, nor will when a write under way has ended.
func unwritten(st *scanState, reason string) bool {
	if st.writingReason {
		return false
	}
	c := meta.FindStatusCondition(st.obj.Status.Conditions, v1alpha1.ConditionAdmitted)
	return reason != "" && (c == nil || c.Status != metav1.ConditionFalse || c.Reason != reason)
}
