// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/stages"
	"github.com/eco2-team/scan-operator/internal/scanstatus"
	"github.com/eco2-team/scan-operator/internal/tracing"
)

// Causes of canceling a run whose outcome is not reported.
var (
	errSuperseded = errors.New("the scan was assigned to another worker or deleted")
	errDeleted    = errors.New("the scan is being deleted")
)

// Runner runs the stages of an assignment. *pipeline.Runner implements it.
type Runner interface {
	// Run runs the assignment's stage and the stages after it that need no tokens. It returns at least one outcome,
	// and returns soon after ctx ends.
	Run(ctx context.Context, scan stages.Scan, stages []v1alpha1.StageName) []pipeline.Outcome
}

// membership reports whether the scheduler considers this worker alive.
type membership interface {
	// valid reports whether it does now, as far as this worker can know.
	valid() bool
	// awaitValid returns nil once it does, or the cause of ctx's end.
	awaitValid(ctx context.Context) error
}

// reporter writes events to scans.
type reporter interface {
	// report writes an event of one of this worker's assignments. scan is the newest known state. report returns when
	// the event is written or never will be.
	report(ctx context.Context, scan *v1alpha1.ScanRequest, event pipeline.Event) scanstatus.Result
	// read returns a scan as the API server has it now.
	read(ctx context.Context, key types.NamespacedName) (*v1alpha1.ScanRequest, error)
}

// run is an assignment that this worker is processing.
type run struct {
	id       string
	stage    v1alpha1.StageName
	deadline time.Time
	cancel   context.CancelCauseFunc
	latest   atomic.Pointer[v1alpha1.ScanRequest] // from the watch
	started  bool                                 // its call may have been sent; guarded by assignments.mu
}

// assignments runs what the scheduler assigns, each assignment once and at most capacity at a time. The watch feeds it.
// Its methods are safe for concurrent use unless they say that the caller holds mu.
type assignments struct {
	assignmentsOptions
	slots chan struct{}

	mu       sync.Mutex
	identity string
	draining bool
	// current has the run of each scan in the watch, ended runs included.
	current map[types.NamespacedName]*run
	// seen has the deadline of each assignment that was started. An entry stays until that deadline even if the scan
	// leaves the watch, and nothing starts after its deadline. So no late event starts a call a second time.
	seen    map[string]time.Time
	sweepAt int
	active  map[*run]struct{}
	ended   chan struct{} // closed and replaced when a run ends
}

// minSweep is the number of entries of seen below which a sweep is not worth its cost.
const minSweep = 1024

// assignmentsOptions configure assignments. All fields are required.
type assignmentsOptions struct {
	runner     Runner
	stages     []v1alpha1.StageName
	capacity   int
	reporter   reporter
	membership membership
	// clock is the source of time. leaderClock is the one that assignments correct; it may be the same.
	clock       clock.Clock
	leaderClock *LeaderClock
	log         logr.Logger
	metrics     *metrics
}

func newAssignments(o assignmentsOptions) *assignments {
	o.metrics.capacity.Set(float64(o.capacity))
	return &assignments{
		assignmentsOptions: o,

		slots:   make(chan struct{}, o.capacity),
		current: map[types.NamespacedName]*run{},
		seen:    map[string]time.Time{}, sweepAt: minSweep,
		active: map[*run]struct{}{}, ended: make(chan struct{}),
	}
}

// setIdentity sets the worker name whose assignments are run from now on.
func (a *assignments) setIdentity(identity string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.identity = identity
}

// cancelAll cancels all calls because this worker's scans belong to other workers now. Outcomes that exist already are
// still reported; the fence decides whether they count.
func (a *assignments) cancelAll(cause error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for r := range a.active {
		r.cancel(cause)
	}
	clear(a.current)
}

// observe handles an added or changed scan of the watch. A run that it starts may last until ctx ends.
func (a *assignments) observe(ctx context.Context, scan *v1alpha1.ScanRequest) {
	key := types.NamespacedName{Namespace: scan.Namespace, Name: scan.Name}
	assignment := scan.Status.Assignment
	if !scan.DeletionTimestamp.IsZero() {
		a.removed(key, errDeleted)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if assignment == nil || assignment.Worker != a.identity {
		a.drop(key, errSuperseded)
		return
	}
	if known := a.current[key]; known != nil {
		if known.id == assignment.ID {
			known.latest.Store(scan)
			return
		}
		a.drop(key, errSuperseded)
	}
	if _, known := a.seen[assignment.ID]; known {
		return
	}
	if offset, changed := a.leaderClock.observe(assignment.AssignedAt.Time); changed {
		a.log.Info("clock differs from the leader's", "offset", offset.String())
	}
	a.remember(assignment.ID, assignment.Deadline.Time)

	runCtx, cancel := context.WithCancelCause(ctx)
	r := &run{id: assignment.ID, stage: assignment.Stage, deadline: assignment.Deadline.Time, cancel: cancel}
	r.latest.Store(scan)
	a.current[key] = r
	a.active[r] = struct{}{}
	a.metrics.assignments.Set(float64(len(a.active)))
	if a.draining {
		cancel(a.drained())
	}
	go a.process(ctx, runCtx, r, a.log.WithValues("scan", scan.Name, "assignment", r.id, "stage", r.stage, "worker", a.identity))
}

// removed handles a scan that left the watch because it was assigned to another worker, finished or was deleted.
func (a *assignments) removed(key types.NamespacedName, cause error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop(key, cause)
}

// drop cancels the run of a scan. The caller holds mu.
func (a *assignments) drop(key types.NamespacedName, cause error) {
	if r := a.current[key]; r != nil {
		r.cancel(cause)
		delete(a.current, key)
	}
}

// replaceAll handles a new list of the watch: it drops all scans that are not in keep.
func (a *assignments) replaceAll(keep map[types.NamespacedName]struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key := range a.current {
		if _, ok := keep[key]; !ok {
			a.drop(key, errSuperseded)
		}
	}
}

// remember adds an assignment to seen. From time to time it removes the entries that are no longer needed. The caller
// holds mu.
func (a *assignments) remember(id string, deadline time.Time) {
	a.seen[id] = deadline
	if len(a.seen) < a.sweepAt {
		return
	}
	present := make(map[string]struct{}, len(a.current))
	for _, r := range a.current {
		present[r.id] = struct{}{}
	}
	now := a.clock.Now()
	for id, deadline := range a.seen {
		if _, ok := present[id]; !ok && deadline.Before(now) {
			delete(a.seen, id)
		}
	}
	a.sweepAt = max(minSweep, 2*len(a.seen))
}

// process handles one assignment from the watch event to the end of the report. life outlives runCtx: an outcome is
// written even if the run has been canceled.
func (a *assignments) process(life, runCtx context.Context, r *run, log logr.Logger) {
	defer a.finish(r)
	outcomes, err := a.attempt(runCtx, r, log)
	event := a.eventOf(r, outcomes, err)
	if event == nil {
		log.Info("assignment dropped", "cause", err.Error())
		return
	}
	result := a.reporter.report(life, r.latest.Load(), event)
	log = log.WithValues("result", result, "duration", elapsed(outcomes).String())
	switch failure := failureIn(outcomes); {
	case len(outcomes) == 0:
		log.Info("assignment released")
	case failure != nil:
		log.Info("assignment failed", "class", failure.Class, "code", failure.Code)
	default:
		log.Info("assignment finished")
	}
}

// eventOf returns the event to report for a run: its outcomes or, if there are none, what follows from err. It is nil
// if the outcome is no longer needed.
func (a *assignments) eventOf(r *run, outcomes []pipeline.Outcome, err error) pipeline.Event {
	if err == nil {
		return pipeline.Completed{AssignmentID: r.id, Outcomes: outcomes}
	}
	if failure, ok := errors.AsType[*pipeline.Failure](err); ok {
		return pipeline.Released{AssignmentID: r.id, Class: failure.Class, Message: failure.Message}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		now := a.clock.Now()
		return pipeline.Completed{AssignmentID: r.id, Outcomes: []pipeline.Outcome{{
			Stage: r.stage, StartedAt: now, FinishedAt: now, Failure: &pipeline.Failure{
				Class:   v1alpha1.FailureTimeout,
				Message: "the stage's deadline passed before the worker could start it",
			},
		}}}
	}
	return nil
}

// attempt waits until the assignment may start and runs it. An error is the reason why the run did not complete.
func (a *assignments) attempt(ctx context.Context, r *run, log logr.Logger) ([]pipeline.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, r.deadline.Sub(a.clock.Now()))
	defer cancel()
	// The scheduler respects the capacity, but a new leader may not have seen all running assignments yet. What
	// exceeds the capacity waits here.
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if err := a.confirm(ctx, r); err != nil {
		return nil, err
	}
	if !a.start(ctx, r) {
		return nil, context.Cause(ctx)
	}
	scan := r.latest.Load()
	log.Info("assignment started", "attempt", scan.Status.Assignment.Attempt, "budget", scan.Status.Assignment.Budget,
		"model", scan.Status.Assignment.Model)
	a.metrics.inFlight.Inc()
	defer a.metrics.inFlight.Dec()
	outcomes := a.runStages(ctx, scan, log)
	if cause := context.Cause(ctx); failureIn(outcomes) != nil && isRevoked(cause) {
		// It failed because it was canceled.
		outcomes[len(outcomes)-1].Failure = &pipeline.Failure{Class: v1alpha1.FailureWorkerLost, Message: cause.Error()}
		a.metrics.observe(scan.Status.Assignment, outcomes)
		return nil, cause
	}
	a.metrics.observe(scan.Status.Assignment, outcomes)
	return outcomes, nil
}

// confirm checks that the assignment is current before any tokens are spent on it. While the Lease is valid, the
// scheduler does not assign the scan to another worker. If the Lease is not valid, this process may have been suspended
// and the watch event may be old: confirm waits until the Lease is renewed and then reads the scan from the API server.
func (a *assignments) confirm(ctx context.Context, r *run) error {
	if a.membership.valid() {
		return nil
	}
	for delay := minRetryDelay; ; delay = min(2*delay, maxRetryDelay) {
		if err := a.membership.awaitValid(ctx); err != nil {
			return err
		}
		known := r.latest.Load()
		scan, err := a.reporter.read(ctx, types.NamespacedName{Namespace: known.Namespace, Name: known.Name})
		switch {
		case apierrors.IsNotFound(err):
			return errDeleted
		case err == nil && (scan.Status.Assignment == nil || scan.Status.Assignment.ID != r.id):
			return errSuperseded
		case err == nil && a.membership.valid():
			r.latest.CompareAndSwap(known, scan) // an event that arrived since is as new or newer
			return nil
		}
		if err := sleep(ctx, a.clock, jittered(delay)); err != nil {
			return err
		}
	}
}

// start marks the run as started unless it has been canceled. From then on a drain lets it finish.
func (a *assignments) start(ctx context.Context, r *run) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	r.started = true
	return true
}

// runStages calls the runner. A panic in it counts as a failed attempt of this scan, so that the worker's other scans
// go on.
func (a *assignments) runStages(ctx context.Context, scan *v1alpha1.ScanRequest, log logr.Logger) (outcomes []pipeline.Outcome) {
	started := a.clock.Now()
	defer func() {
		if cause := recover(); cause != nil {
			log.Error(fmt.Errorf("panic: %v", cause), "stage panicked", "stack", string(debug.Stack()))
			outcomes = []pipeline.Outcome{{
				Stage: scan.Status.Assignment.Stage, StartedAt: started, FinishedAt: a.clock.Now(),
				Failure: &pipeline.Failure{
					Class: v1alpha1.FailureInternal, Message: "the worker's program failed; its log has the details",
				},
			}}
		}
	}()
	input := stages.Scan{ID: string(scan.UID), Spec: *scan.Spec.DeepCopy(), Assignment: *scan.Status.Assignment.DeepCopy()}
	if scan.Status.Result != nil {
		input.Result = *scan.Status.Result.DeepCopy()
	}
	return a.runner.Run(tracing.WithScan(ctx, scan), input, a.stages)
}

// finish removes a run from the active ones. The scan stays in current until it leaves the watch.
func (a *assignments) finish(r *run) {
	r.cancel(nil)
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.active, r)
	a.metrics.assignments.Set(float64(len(a.active)))
	close(a.ended)
	a.ended = make(chan struct{})
}

// load returns the number of assignments that are being processed.
func (a *assignments) load() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.active)
}

// isRevoked reports whether a run was canceled because its outcome no longer matters.
func isRevoked(cause error) bool {
	return errors.Is(cause, errSuperseded) || errors.Is(cause, errDeleted) || errors.Is(cause, errLeaseLost)
}

// failureIn returns the failure of the last outcome, or nil.
func failureIn(outcomes []pipeline.Outcome) *pipeline.Failure {
	if len(outcomes) == 0 {
		return nil
	}
	return outcomes[len(outcomes)-1].Failure
}
