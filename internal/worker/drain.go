package worker

import (
	"context"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// What may follow the drain timeout. Together it is less than the five seconds that the WorkerPool controller puts
// between the drain timeout and the end of a pod's grace period.
const (
	// handBackTimeout is how long hand-back and the last writes may take.
	handBackTimeout = 2500 * time.Millisecond
	// releaseTimeout is how long the removal of the Lease may take.
	releaseTimeout = time.Second
	// stopTimeout is how long the runs may take to notice that all is over.
	stopTimeout = 500 * time.Millisecond
)

// drain ends the worker's work: nothing new is begun, what runs may finish until the drain timeout or a call of
// HandBack, and the rest is handed back. It returns when all is written, or when the time for that is over too.
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
	w.log.Info("handing back", "running", w.assignments.load())
	w.assignments.handBack()
	end := w.clock.NewTimer(handBackTimeout)
	defer end.Stop()
	select {
	case <-idle.Done():
		w.log.Info("drained")
	case <-end.C():
		w.log.Info("leaving with assignments that could not be written; their scans are assigned again",
			"assignments", w.assignments.load())
	}
}

// HandBack cuts a drain short: what runs is stopped and handed back at once. Before the drain it has no effect
// until the drain begins.
func (w *Worker) HandBack() { w.handBackOnce.Do(func() { close(w.handBack) }) }

// drain begins nothing new: what has not begun, and what arrives from now on, is handed back.
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

// handBack stops what runs, so that it ends as drained.
func (a *assignments) handBack() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for r := range a.active {
		r.cancel(a.drained())
	}
}

// drained is the cause with which a run is stopped to be handed back. It does not count as an attempt.
func (a *assignments) drained() error {
	return &pipeline.Failure{
		Class:   v1alpha1.FailureDrained,
		Message: "worker " + a.identity + " is shutting down; another one takes over",
	}
}

// awaitIdle returns when no assignment is on its way any more, or when ctx ends.
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
