// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"sync"
	"time"

	"k8s.io/utils/clock"
)

const (
	// clockSamples is how many assignments the estimate of the clocks' difference reaches back over, so that a clock
	// that is set right is noticed.
	clockSamples = 32
	// clockTolerance is the difference below which two clocks count as equal: it cannot be distinguished from the time that a
	// watch event takes.
	clockTolerance = time.Second
)

// LeaderClock is this process's clock, corrected by its difference to the leader's. Assignments carry instants of the
// leader's clock: their deadlines count by it, and outcomes are stamped with it. Without the correction a worker whose
// clock is a minute ahead would start no assignment at all, and one that is behind would run into the manager's timers.
//
// Each assignment has the leader's time in it and arrives a little later, so that the largest difference seen is nearest
// to the true one. All methods are safe for concurrent use.
type LeaderClock struct {
	clock.Clock

	mu      sync.Mutex
	samples [clockSamples]time.Duration
	seen    int
	offset  time.Duration
}

// NewLeaderClock returns a clock that agrees with base until an assignment shows a difference.
func NewLeaderClock(base clock.Clock) *LeaderClock { return &LeaderClock{Clock: base} }

// Now returns the leader's time, as far as it is known.
func (c *LeaderClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Clock.Now().Add(c.offset)
}

// Since returns the time since an instant of the leader's clock.
func (c *LeaderClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// observe takes the leader's time from an assignment that has just arrived. It reports the offset when it changes.
func (c *LeaderClock) observe(assignedAt time.Time) (offset time.Duration, changed bool) {
	if assignedAt.IsZero() {
		return 0, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.samples[c.seen%clockSamples] = assignedAt.Sub(c.Clock.Now())
	c.seen++
	offset = c.samples[0]
	for _, sample := range c.samples[:min(c.seen, clockSamples)] {
		offset = max(offset, sample)
	}
	if offset.Abs() < clockTolerance {
		offset = 0
	}
	before := c.offset
	// Assignments travel for different times: a small change of an offset is no news.
	if changed = (offset-before).Abs() >= clockTolerance || offset == 0 && before != 0; changed {
		c.offset = offset
	}
	return c.offset, changed
}
