// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"strconv"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

func TestScanLimiter(t *testing.T) {
	c := clocktesting.NewFakePassiveClock(testStart)
	limiter := newScanLimiter(c, 2, 3)
	scan := func(name string, phase v1alpha1.ScanPhase) *v1alpha1.ScanRequest {
		s := &v1alpha1.ScanRequest{}
		s.Name, s.Spec.UserID, s.Status.Phase = name, "kim", phase
		if phase == v1alpha1.ScanSucceeded || phase == v1alpha1.ScanFailed {
			s.Status.FinishedAt = metav1.NewMicroTime(testStart)
		}
		return s
	}
	steps := []struct {
		name        string
		do          func() limitReached
		want        limitReached
		wantBacklog int
	}{
		{"first reservation", func() limitReached { return limiter.reserve("kim", "a") }, withinLimits, 1},
		{"the watch delivers it", func() limitReached { limiter.observe(scan("a", v1alpha1.ScanQueued), false); return 0 }, 0, 1},
		{"and again", func() limitReached { limiter.observe(scan("a", v1alpha1.ScanRunning), false); return 0 }, 0, 1},
		{"second reservation", func() limitReached { return limiter.reserve("kim", "b") }, withinLimits, 2},
		{"same reservation", func() limitReached { return limiter.reserve("kim", "b") }, withinLimits, 2},
		{"third reservation", func() limitReached { return limiter.reserve("kim", "c") }, userLimit, 2},
		{"another user's", func() limitReached { return limiter.reserve("lee", "d") }, withinLimits, 3},
		{"and one more", func() limitReached { return limiter.reserve("lee", "e") }, overallLimit, 3},
		{"which fails", func() limitReached { limiter.release("lee", "d"); return 0 }, 0, 2},
		{"released twice", func() limitReached { limiter.release("lee", "d"); return 0 }, 0, 2},
		{"the first finishes", func() limitReached { limiter.observe(scan("a", v1alpha1.ScanSucceeded), false); return 0 }, 0, 1},
		{"and is deleted", func() limitReached { limiter.observe(scan("a", v1alpha1.ScanSucceeded), true); return 0 }, 0, 1},
		{"now there is room", func() limitReached { return limiter.reserve("kim", "c") }, withinLimits, 2},
		{"but for one only", func() limitReached { return limiter.reserve("kim", "f") }, userLimit, 2},
		{"reservations that the watch lost expire", func() limitReached {
			c.SetTime(testStart.Add(reservationTTL + time.Second))
			return limiter.reserve("kim", "f")
		}, withinLimits, 1},
		{"seen finished only", func() limitReached { limiter.observe(scan("f", v1alpha1.ScanFailed), false); return 0 }, 0, 0},
	}
	for _, step := range steps {
		if got := step.do(); got != step.want {
			t.Errorf("%s: limit %d, want %d", step.name, got, step.want)
		}
		if got := limiter.backlog(); got != step.wantBacklog {
			t.Errorf("%s: backlog %d, want %d", step.name, got, step.wantBacklog)
		}
	}
	if len(limiter.byUser)+len(limiter.unfinished)+len(limiter.reserved) != 0 {
		t.Errorf("an empty limiter keeps %v, %v, %v", limiter.byUser, limiter.unfinished, limiter.reserved)
	}
}

func TestDrainTime(t *testing.T) {
	c := clocktesting.NewFakePassiveClock(testStart)
	limiter := newScanLimiter(c, 0, 0)
	if _, ok := limiter.drainTime(1); ok {
		t.Error("a drain time is known before anything has finished")
	}
	scan := &v1alpha1.ScanRequest{}
	for i := range 120 { // two a second
		c.SetTime(testStart.Add(time.Duration(i) * time.Second / 2))
		scan.Name = strconv.Itoa(i)
		scan.Status.FinishedAt = metav1.MicroTime{}
		limiter.observe(scan, false)
		scan.Status.FinishedAt = metav1.NewMicroTime(c.Now())
		limiter.observe(scan, false)
	}
	if got, _ := limiter.drainTime(10); got != 5*time.Second {
		t.Errorf("10 scans drain in %s, want 5s", got)
	}
	c.SetTime(testStart.Add(89 * time.Second)) // 60 of 120 have left the window
	if got, _ := limiter.drainTime(10); got != 10*time.Second {
		t.Errorf("half a minute later 10 scans drain in %s, want 10s", got)
	}
	c.SetTime(testStart.Add(time.Hour))
	if _, ok := limiter.drainTime(10); ok {
		t.Error("a drain time is known although nothing finishes")
	}
}
