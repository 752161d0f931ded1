// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// reasonCheck is a scan whose reason for waiting is to be checked at a time.
type reasonCheck struct {
	scan *scanState
	at   time.Time
}

// laneWait is the reason why the first scan of a lane waits, and when it began.
type laneWait struct {
	reason string
	since  time.Time
}

// recordWaitReasons records when each lane was first blocked for its present reason.
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

// reasonSince returns when a scan began to wait for a reason.
func (s *Scheduler) reasonSince(st *scanState, reason string) time.Time {
	if b, ok := s.blockedSince[s.lane(st, pipeline.NextStage(&st.obj.Status))]; ok && b.reason == reason && b.since.After(st.waitingSince) {
		return b.since
	}
	return st.waitingSince
}

// dueReasons returns the writes of reasons that have held for long enough, oldest first and within the rate limit,
// and when to check again.
func (s *Scheduler) dueReasons(now time.Time, room int) ([]*write, time.Time) {
	for len(s.reasonChecks) > 0 && !now.Before(s.reasonChecks[0].at) {
		st := s.reasonChecks[0].scan
		s.reasonChecks = s.reasonChecks[1:]
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
			position := s.queuePosition(st, now)
			wr := &write{kind: writeReason, event: pipeline.Waiting{Reason: reason, Message: position.Message}}
			s.prepare(st, wr)
			writes = append(writes, wr)
		}
		s.toExplain = s.toExplain[1:]
	}
	var next time.Time
	if len(s.reasonChecks) > 0 {
		next = s.reasonChecks[0].at
	}
	if len(s.toExplain) > 0 {
		next = earliest(next, now.Add(time.Second/time.Duration(s.opts.ReasonsPerSecond)))
	}
	return writes, next
}

// waits reports whether a scan is current, not assigned and without a write under way.
func (s *Scheduler) waits(st *scanState) bool {
	return s.scans[st.name] == st && st.run == nil && st.pending == nil
}

// checkLater schedules a check of a scan's reason for waiting. All checks have the same delay, so the list is in
// order of time.
func (s *Scheduler) checkLater(st *scanState, now time.Time) {
	if st.checking {
		return
	}
	st.checking = true
	s.reasonChecks = append(s.reasonChecks, reasonCheck{scan: st, at: now.Add(s.opts.ReasonDelay)})
}

// unwritten reports whether the object does not show the reason, and no write under way will change that.
func unwritten(st *scanState, reason string) bool {
	if st.writingReason {
		return false
	}
	c := meta.FindStatusCondition(st.obj.Status.Conditions, v1alpha1.ConditionAdmitted)
	return reason != "" && (c == nil || c.Status != metav1.ConditionFalse || c.Reason != reason)
}
