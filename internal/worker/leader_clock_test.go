// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

func TestLeaderClock(t *testing.T) {
	start := time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		// delays are how late the assignments arrive; the leader's clock is ahead by skew.
		skew   time.Duration
		delays []time.Duration
		want   time.Duration
	}{
		"equal clocks":              {0, []time.Duration{20 * time.Millisecond, 5 * time.Millisecond}, 0},
		"the worker is behind":      {5 * time.Minute, []time.Duration{20 * time.Millisecond, 30 * time.Millisecond}, 5*time.Minute - 20*time.Millisecond},
		"the worker is ahead":       {-5 * time.Minute, []time.Duration{20 * time.Millisecond, 10 * time.Millisecond}, -5*time.Minute - 20*time.Millisecond},
		"an old assignment first":   {0, []time.Duration{40 * time.Second, 10 * time.Millisecond}, 0},
		"a late one changes it not": {time.Minute, []time.Duration{10 * time.Millisecond, 50 * time.Second}, time.Minute - 10*time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			base := clocktesting.NewFakeClock(start)
			c := NewLeaderClock(base)
			for _, delay := range tc.delays {
				assignedAt := base.Now().Add(tc.skew)
				base.Step(delay)
				c.observe(assignedAt)
				base.Step(time.Second)
			}
			if got := c.Now().Sub(base.Now()); got != tc.want {
				t.Errorf("the offset is %s, want %s", got, tc.want)
			}
		})
	}
}

func TestLeaderClockFollowsACorrection(t *testing.T) {
	base := clocktesting.NewFakeClock(time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC))
	c := NewLeaderClock(base)
	c.observe(base.Now().Add(5 * time.Minute))
	for range clockSamples { // the clocks agree from here on
		c.observe(base.Now())
	}
	if got := c.Now().Sub(base.Now()); got != 0 {
		t.Errorf("the offset is %s after %d assignments without one, want none", got, clockSamples)
	}
}

// A worker whose clock was 57 s ahead timed out calls of 6 s, and one that was 61 s ahead started none. Its failures were
// fast, so that it was given most of all assignments.
func TestClocksMayDiffer(t *testing.T) {
	for name, skew := range map[string]time.Duration{
		"the worker is ahead by 5 minutes":  -5 * time.Minute,
		"the worker is ahead by 57 seconds": -57 * time.Second,
		"the worker is behind by 5 minutes": 5 * time.Minute,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				runner, rep := newStubRunner(), &stubReporter{}
				base := clocktesting.NewFakeClock(time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC))
				leader := func() time.Time { return base.Now().Add(skew) }
				leaderClock := NewLeaderClock(base)
				a := newAssignments(assignmentsOptions{
					runner: runner, stages: []v1alpha1.StageName{v1alpha1.StageVision}, capacity: 10, reporter: rep,
					membership: newStubMembership(true), clock: leaderClock, leaderClock: leaderClock,
					log: logr.Discard(), metrics: testMetrics(),
				})
				a.setIdentity(me)
				scan := &v1alpha1.ScanRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a"}}
				scan.Status.Assignment = &v1alpha1.Assignment{
					ID: "1", Stage: v1alpha1.StageVision, Worker: me,
					AssignedAt: metav1.NewMicroTime(leader()), Deadline: metav1.NewMicroTime(leader().Add(time.Minute)),
				}
				a.observe(t.Context(), scan)
				synctest.Wait()
				if got := runner.startedIDs(); len(got) != 1 {
					t.Fatalf("%d runs were started, want 1; reported %v", len(got), rep.reported())
				}
				if left := a.current[types.NamespacedName{Namespace: "ns", Name: "a"}].deadline.Sub(leaderClock.Now()); left < 59*time.Second || left > 61*time.Second {
					t.Errorf("the run has %s left, want the minute of its assignment", left)
				}
				runner.answer("1", pipeline.Outcome{Stage: v1alpha1.StageVision, State: v1alpha1.StageSucceeded, StartedAt: leaderClock.Now(), FinishedAt: leaderClock.Now()})
				if got := rep.reported(); len(got) != 1 || got[0] != "1 Succeeded" {
					t.Errorf("reported %v, want the success", got)
				}
				if by := leaderClock.Now().Sub(leader()).Abs(); by > clockTolerance {
					t.Errorf("outcomes are stamped %s off the leader's clock", by)
				}
			})
		})
	}
}
