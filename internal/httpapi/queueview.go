// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"sync"
	"time"
)

// QueueView returns what the scheduler has in memory, without blocking. It may be approximate and a few seconds old.
type QueueView interface {
	// Position returns the number of scans ahead of a waiting scan and the estimated time until its next stage
	// begins, nil where that is not known; ok is false where nothing is known of the scan.
	Position(namespace, name string) (position int, estimatedWait *time.Duration, ok bool)
	// EstimatedWait returns the time that a scan submitted at asOf would have waited; ok is false where that is
	// not known.
	EstimatedWait(namespace string) (wait time.Duration, asOf time.Time, ok bool)
}

// noQueueView never knows a position or a wait.
type noQueueView struct{}

func (noQueueView) Position(string, string) (int, *time.Duration, bool) { return 0, nil, false }

func (noQueueView) EstimatedWait(string) (time.Duration, time.Time, bool) {
	return 0, time.Time{}, false
}

// admittedSinceEstimate counts the scans that were admitted by one estimate, which does not include them.
type admittedSinceEstimate struct {
	mu    sync.Mutex
	asOf  time.Time
	count int
}

// since returns the number of scans that were admitted since the estimate as of that time was first used.
func (a *admittedSinceEstimate) since(asOf time.Time) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.asOf.Equal(asOf) {
		a.asOf, a.count = asOf, 0
	}
	return a.count
}

// add counts a scan that was admitted.
func (a *admittedSinceEstimate) add() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count++
}
