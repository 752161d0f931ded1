// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// Timeouts after the drain timeout. Their sum is less than the five seconds that the WorkerPool controller adds to the
// drain timeout for a pod's grace period.
const (
	// handBackTimeout bounds hand-back and the last writes.
	handBackTimeout = 2500 * time.Millisecond
	// releaseTimeout bounds the deletion of the Lease.
	releaseTimeout = time.Second
	// stopTimeout bounds the wait for canceled runs.
	stopTimeout = 500 * time.Millisecond
)

// drain ends the worker's work. It starts nothing new, lets calls finish until the drain timeout or HandBack, and hands
// the rest back. It returns when everything is written or handBackTimeout has passed.
func (w *Worker) drain(ctx context.Context) {
	w.log.Info("draining", "running", w.assignments.load(), "timeout", w.options.DrainTimeout.String())
	w.lease.drain()
	w.assignments.drain()

	timeout := w.clock.NewTimer(w.options.DrainTimeout)
	defer timeout.Stop()
	idle, stop := context.WithCancel(ctx)
	go func() {
		defer stop()
		w.assignments.awaitIdle(ctx)
	}()
	select {
	case <-idle.Done():
		w.log.Info("drained")
		return
	case <-timeout.C():
	case <-w.handBack:
	}
	w.log.Info("handing assignments back", "running", w.assignments.load())
	w.assignments.handBack()
	end := w.clock.NewTimer(handBackTimeout)
	defer end.Stop()
	select {
	case <-idle.Done():
		w.log.Info("drained")
	case <-end.C():
		w.log.Info("shutting down with unwritten assignments; their scans will be assigned again",
			"assignments", w.assignments.load())
	}
}

// HandBack cuts a drain short: running calls are canceled and handed back at once. If no drain has started, it takes
// effect when one does.
func (w *Worker) HandBack() { w.handBackOnce.Do(func() { close(w.handBack) }) }

// drain hands back the assignments that have not started, and those that arrive from now on.
func (a *assignments) drain() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.draining = true
	for r := range a.active {
		if !r.started {
			r.cancel(a.drained())
		}
	}
}

// handBack cancels all runs, so that they end as drained.
func (a *assignments) handBack() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for r := range a.active {
		r.cancel(a.drained())
	}
}

// drained is the cause of canceling a run to hand it back. It does not count as an attempt.
func (a *assignments) drained() error {
	return &pipeline.Failure{
		Class:   v1alpha1.FailureDrained,
		Message: "worker " + a.identity + " is shutting down; the scan waits for another worker",
	}
}

// awaitIdle returns when no assignment is being processed, or when ctx ends.
func (a *assignments) awaitIdle(ctx context.Context) {
	for {
		a.mu.Lock()
		idle, ended := len(a.active) == 0, a.ended
		a.mu.Unlock()
		if idle {
			return
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return
		}
	}
}
