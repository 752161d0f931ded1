// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"errors"
	"fmt"
	"testing"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// failEvery fails the vision stage repeatedly, once per interval, until the scan ends or the time is over, and
// returns the second at which it ended.
func (s *scan) failEvery(interval, until float64, class v1alpha1.FailureClass) (ended float64) {
	s.t.Helper()
	for i, now := 0, 1.0; now < until; i, now = i+1, now+interval {
		id := fmt.Sprintf("a%d", i)
		s.then(now, assigned(id, v1alpha1.StageVision)).
			then(now+0.05, Completed{AssignmentID: id, Outcomes: []Outcome{broke(v1alpha1.StageVision, class, now, now+0.05)}})
		if IsFinished(&s.status) {
			return now
		}
	}
	return 0
}

// An outage fails fast, so that a number of attempts is used up within seconds. Users of other job systems lost whole
// queues to outages of half a minute in that way.
func TestAnOutageDoesNotUseUpTheAttempts(t *testing.T) {
	tests := map[string]struct {
		class    v1alpha1.FailureClass
		outage   float64
		wantEnds bool
	}{
		"the provider answers 503 for two minutes": {v1alpha1.FailureUnavailable, 120, false},
		"the provider is slow for two minutes":     {v1alpha1.FailureSlowDown, 120, false},
		"no connection for two minutes":            {v1alpha1.FailureUnreachable, 120, false},
		"503 for longer than retryPeriod":          {v1alpha1.FailureUnavailable, 320, true},
		"the output is malformed every time":       {v1alpha1.FailureInvalidOutput, 120, true},
		"something blocks this call":               {v1alpha1.FailureBlocked, 120, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := newScan(t)
			s.spec.DeadlineSeconds = 3600
			if ended := s.failEvery(5, tc.outage, tc.class); (ended > 0) != tc.wantEnds {
				t.Fatalf("ended after %.0f s with %s: %v", ended, s.status.Summary.Reason, conditions(&s.status))
			}
			if tc.wantEnds {
				return
			}
			s.then(tc.outage+5, assigned("last", v1alpha1.StageVision)).
				then(tc.outage+6, Completed{AssignmentID: "last", Outcomes: []Outcome{ok(v1alpha1.StageVision, tc.outage+5, tc.outage+6)}})
			if s.status.Retry != nil {
				t.Errorf("after a success the status still has the retry %+v", s.status.Retry)
			}
		})
	}
}

func TestRetryDelayDoesNotDependOnClocks(t *testing.T) {
	s := newScan(t)
	s.failEvery(5, 7, v1alpha1.FailureUnavailable)
	r := s.status.Retry
	if r == nil || r.DelayMilliseconds != 1000 || !r.Since.Time.Equal(at(1.05)) {
		t.Errorf("retry = %+v, want a delay of 1000 ms and the first failure at %s", r, at(1.05))
	}
}

func TestLostWorkers(t *testing.T) {
	s := newScan(t)
	s.spec.DeadlineSeconds = 3600
	for i := range MaxLosses + 1 {
		if IsFinished(&s.status) {
			t.Fatalf("the scan ended after %d lost workers: %v", i, conditions(&s.status))
		}
		now, id := float64(10*i+1), fmt.Sprintf("a%d", i)
		s.then(now, assigned(id, v1alpha1.StageVision)).
			then(now+5, Released{AssignmentID: id, Class: v1alpha1.FailureWorkerLost, Message: "the worker's Lease expired"})
	}
	if s.status.Phase != v1alpha1.ScanFailed || s.status.Summary.Reason != v1alpha1.ReasonWorkersLost {
		t.Errorf("phase %s, reason %s; want Failed, WorkersLost", s.status.Phase, s.status.Summary.Reason)
	}
	if got := Stage(&s.status, v1alpha1.StageVision).Attempts; got != 0 {
		t.Errorf("lost workers count as %d attempts", got)
	}
	drained := newScan(t)
	for i := range 10 {
		now, id := float64(10*i+1), fmt.Sprintf("a%d", i)
		drained.then(now, assigned(id, v1alpha1.StageVision)).
			then(now+5, Released{AssignmentID: id, Class: v1alpha1.FailureDrained, Message: "the worker drains"})
	}
	if IsFinished(&drained.status) {
		t.Errorf("draining workers ended the scan: %v", conditions(&drained.status))
	}
}

// A writer whose first write was stored, and whose response was lost, writes the assignment again. By then the worker
// may have ended it; a worker starts an id once only, so that the second one would never run.
func TestAnAssignmentIsStoredOnce(t *testing.T) {
	first := assigned("a1", v1alpha1.StageVision)
	for name, end := range map[string]Event{
		"failed":   Completed{AssignmentID: "a1", Outcomes: []Outcome{broke(v1alpha1.StageVision, v1alpha1.FailureRateLimited, 1, 2)}},
		"released": Released{AssignmentID: "a1", Class: v1alpha1.FailureDrained, Message: "the worker drains"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScan(t).then(1, first).then(2, end)
			if changed, err := s.try(3, first); changed || !errors.Is(err, ErrStale) {
				t.Errorf("the same assignment again: changed %t, error %v, want ErrStale", changed, err)
			}
			s.then(4, assigned("a2", v1alpha1.StageVision))
		})
	}
}

func TestWaitsOfUnsentCallsAreExplained(t *testing.T) {
	s := newScan(t)
	s.failEvery(5, 2, v1alpha1.FailureUnreachable)
	if s.status.Summary.Reason != v1alpha1.ReasonWaitingForBudget || s.status.Retry != nil {
		t.Errorf("reason %s, retry %v", s.status.Summary.Reason, s.status.Retry)
	}
	if st := s.status.Stages[0]; st.Attempts != 0 || st.Failure == nil {
		t.Errorf("stage %+v", st)
	}
}
