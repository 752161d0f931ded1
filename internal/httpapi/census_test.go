package httpapi

import (
	"strconv"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

func TestCensus(t *testing.T) {
	c := clocktesting.NewFakePassiveClock(testStart)
	census := newCensus(c, 2, 3)
	scan := func(name string, phase v1alpha1.ScanPhase) *v1alpha1.ScanRequest {
		s := &v1alpha1.ScanRequest{}
		s.Name, s.Spec.UserID, s.Status.Phase = name, "kim", phase
		return s
	}
	steps := []struct {
		name        string
		do          func() limitReached
		want        limitReached
		wantBacklog int
	}{
		{"first claim", func() limitReached { return census.claim("kim", "a") }, withinLimits, 1},
		{"the watch delivers it", func() limitReached { census.observe(scan("a", v1alpha1.ScanQueued), false); return 0 }, 0, 1},
		{"and again", func() limitReached { census.observe(scan("a", v1alpha1.ScanRunning), false); return 0 }, 0, 1},
		{"second claim", func() limitReached { return census.claim("kim", "b") }, withinLimits, 2},
		{"same claim", func() limitReached { return census.claim("kim", "b") }, withinLimits, 2},
		{"third claim", func() limitReached { return census.claim("kim", "c") }, userLimit, 2},
		{"another user's", func() limitReached { return census.claim("lee", "d") }, withinLimits, 3},
		{"and one more", func() limitReached { return census.claim("lee", "e") }, overallLimit, 3},
		{"which fails", func() limitReached { census.release("lee", "d"); return 0 }, 0, 2},
		{"released twice", func() limitReached { census.release("lee", "d"); return 0 }, 0, 2},
		{"the first finishes", func() limitReached { census.observe(scan("a", v1alpha1.ScanSucceeded), false); return 0 }, 0, 1},
		{"and is deleted", func() limitReached { census.observe(scan("a", v1alpha1.ScanSucceeded), true); return 0 }, 0, 1},
		{"now there is room", func() limitReached { return census.claim("kim", "c") }, withinLimits, 2},
		{"but for one only", func() limitReached { return census.claim("kim", "f") }, userLimit, 2},
		{"claims that the watch lost expire", func() limitReached {
			c.SetTime(testStart.Add(claimTTL + time.Second))
			return census.claim("kim", "f")
		}, withinLimits, 1},
		{"seen finished only", func() limitReached { census.observe(scan("f", v1alpha1.ScanFailed), false); return 0 }, 0, 0},
	}
	for _, step := range steps {
		if got := step.do(); got != step.want {
			t.Errorf("%s: limit %d, want %d", step.name, got, step.want)
		}
		if got := census.backlog(); got != step.wantBacklog {
			t.Errorf("%s: backlog %d, want %d", step.name, got, step.wantBacklog)
		}
	}
	if len(census.byUser)+len(census.unfinished)+len(census.claims) != 0 {
		t.Errorf("an empty census keeps %v, %v, %v", census.byUser, census.unfinished, census.claims)
	}
}

func TestDrainTime(t *testing.T) {
	c := clocktesting.NewFakePassiveClock(testStart)
	census := newCensus(c, 0, 0)
	if _, ok := census.drainTime(1); ok {
		t.Error("a drain time is known before anything has finished")
	}
	scan := &v1alpha1.ScanRequest{}
	for i := range 120 { // two a second
		c.SetTime(testStart.Add(time.Duration(i) * time.Second / 2))
		scan.Name = strconv.Itoa(i)
		scan.Status.Phase = v1alpha1.ScanQueued
		census.observe(scan, false)
		scan.Status.Phase = v1alpha1.ScanSucceeded
		census.observe(scan, false)
	}
	if got, _ := census.drainTime(10); got != 5*time.Second {
		t.Errorf("10 scans drain in %s, want 5s", got)
	}
	c.SetTime(testStart.Add(89 * time.Second)) // 60 of 120 have left the window
	if got, _ := census.drainTime(10); got != 10*time.Second {
		t.Errorf("half a minute later 10 scans drain in %s, want 10s", got)
	}
	c.SetTime(testStart.Add(time.Hour))
	if _, ok := census.drainTime(10); ok {
		t.Error("a drain time is known although nothing finishes")
	}
}
