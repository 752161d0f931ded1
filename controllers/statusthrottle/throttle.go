// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package statusthrottle spaces the writes of an object's status.
package statusthrottle

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

// Interval is the least time between two writes of a pool's or a budget's status.
const Interval = 5 * time.Second

// Throttle spaces the writes of each object's status by Interval. It is safe for concurrent use.
type Throttle struct {
	clock clock.PassiveClock

	mu   sync.Mutex
	last map[types.NamespacedName]time.Time
}

// New returns a throttle of objects that were not written yet.
func New(c clock.PassiveClock) *Throttle {
	return &Throttle{clock: c, last: map[types.NamespacedName]time.Time{}}
}

// Wait returns zero and takes the turn where the object may be written now, else the time until it may.
func (t *Throttle) Wait(name types.NamespacedName) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock.Now()
	if last, ok := t.last[name]; ok {
		if wait := last.Add(Interval).Sub(now); wait > 0 {
			return wait
		}
	}
	t.last[name] = now
	return 0
}

// Forget drops a deleted object.
func (t *Throttle) Forget(name types.NamespacedName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.last, name)
}
