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

// Why a run is stopped although nobody wants to hear how it ended.
var (
	errSuperseded = errors.New("the scan was taken from this worker, or deleted")
	errDeleted    = errors.New("the scan is being deleted")
)

// Runner runs the stages of an assignment. *pipeline.Runner implements it.
type Runner interface {
	// Run runs the assignment's stage and those that follow without tokens. It returns at least one outcome, and
	// returns soon after ctx ends.
	Run(ctx context.Context, scan stages.Scan, stages []v1alpha1.StageName) []pipeline.Outcome
}

// membership tells whether the scheduler takes this worker for alive.
type membership interface {
	// valid says whether it does now, as far as known.
	valid() bool
	// awaitValid returns when it does, or with the cause of ctx's end.
	awaitValid(ctx context.Context) error
}

// reporter writes events to scans.
type reporter interface {
	// report writes one event of one of this worker's assignments, given the newest known state of the scan. It
	// returns when the event is written or never will be.
	report(ctx context.Context, scan *v1alpha1.ScanRequest, event pipeline.Event) scanstatus.Result
	// read returns the current state of a scan from the API server.
	read(ctx context.Context, key types.NamespacedName) (*v1alpha1.ScanRequest, error)
}

// run is one assignment on its way through this worker.
type run struct {
	id       string
	stage    v1alpha1.StageName
	deadline time.Time
	cancel   context.CancelCauseFunc
	latest   atomic.Pointer[v1alpha1.ScanRequest] // as the watch last showed it
	started  bool                                 // its call may have been sent; guarded by assignments.mu
}

// assignments runs what the scheduler assigns, every assignment once, at most capacity at a time. It is fed by
// the watch; its methods are safe for concurrent use.
type assignments struct {
	runner     Runner
	stages     []v1alpha1.StageName
	reporter   reporter
	membership membership
	clock      clock.Clock
	log        logr.Logger
	metrics    *metrics
	slots      chan struct{}

	mu       sync.Mutex
	identity string
	draining bool
	// current has the run of every scan in the watch whose assignment was seen, finished ones included.
	current map[types.NamespacedName]*run
	// seen has the deadlines of the assignments that were begun. An entry outlives the scan's stay in the watch
	// until its deadline, after which nothing is begun anyway: no event, however late, starts a call twice.
	seen    map[string]time.Time
	sweepAt int
	active  map[*run]struct{}
	ended   chan struct{} // closed and replaced when a run ends
}

// minSweep is how many remembered assignments are not worth a sweep.
const minSweep = 1024

func newAssignments(runner Runner, stages []v1alpha1.StageName, capacity int, rep reporter, mem membership, clk clock.Clock, log logr.Logger, m *metrics) *assignments {
	m.capacity.Set(float64(capacity))
	return &assignments{
		runner: runner, stages: stages, reporter: rep, membership: mem, clock: clk, log: log, metrics: m,
		slots:   make(chan struct{}, capacity),
		current: map[types.NamespacedName]*run{},
		seen:    map[string]time.Time{}, sweepAt: minSweep,
		active: map[*run]struct{}{}, ended: make(chan struct{}),
	}
}

// adopt makes the worker listen to a new identity.
func (a *assignments) adopt(identity string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.identity = identity
}

// abandon stops all calls because somebody else has this worker's scans now. Results that are already there are
// still offered: the fence knows whether they count.
func (a *assignments) abandon(cause error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for r := range a.active {
		r.cancel(cause)
	}
	clear(a.current)
}

// observe takes note of a scan in the watch. Runs that it begins live until ctx ends.
func (a *assignments) observe(ctx context.Context, scan *v1alpha1.ScanRequest) {
	key := types.NamespacedName{Namespace: scan.Namespace, Name: scan.Name}
	assignment := scan.Status.Assignment
	if !scan.DeletionTimestamp.IsZero() {
		a.gone(key, errDeleted)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if assignment == nil || assignment.Worker != a.identity {
		a.dropLocked(key, errSuperseded)
		return
	}
	if known := a.current[key]; known != nil {
		if known.id == assignment.ID {
			known.latest.Store(scan)
			return
		}
		a.dropLocked(key, errSuperseded)
	}
	if _, known := a.seen[assignment.ID]; known {
		return
	}
	a.rememberLocked(assignment.ID, assignment.Deadline.Time)

	runCtx, cancel := context.WithCancelCause(ctx)
	r := &run{id: assignment.ID, stage: assignment.Stage, deadline: assignment.Deadline.Time, cancel: cancel}
	r.latest.Store(scan)
	a.current[key] = r
	a.active[r] = struct{}{}
	a.metrics.assignments.Set(float64(len(a.active)))
	if a.draining {
		cancel(a.drained())
	}
	go a.carryOut(ctx, runCtx, r, a.log.WithValues("scan", scan.Name, "assignment", r.id, "stage", r.stage, "worker", a.identity))
}

// gone takes note of a scan that left the watch: it was assigned to somebody else, finished or deleted.
func (a *assignments) gone(key types.NamespacedName, cause error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dropLocked(key, cause)
}

func (a *assignments) dropLocked(key types.NamespacedName, cause error) {
	if r := a.current[key]; r != nil {
		r.cancel(cause)
		delete(a.current, key)
	}
}

// retain forgets all scans but those named: the watch has begun anew.
func (a *assignments) retain(keep map[types.NamespacedName]struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key := range a.current {
		if _, ok := keep[key]; !ok {
			a.dropLocked(key, errSuperseded)
		}
	}
}

// rememberLocked remembers an assignment and, now and then, forgets those that can do no harm any more.
func (a *assignments) rememberLocked(id string, deadline time.Time) {
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

// carryOut takes one assignment from the watch event to the end of the report. life outlives runCtx: a result is
// written even if the run was stopped meanwhile.
func (a *assignments) carryOut(life, runCtx context.Context, r *run, log logr.Logger) {
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
		log.Info("assignment handed back")
	case failure != nil:
		log.Info("assignment failed", "class", failure.Class, "code", failure.Code)
	default:
		log.Info("assignment finished")
	}
}

// eventOf is what is to be reported of a run: its outcomes or, where err says why there are none, what follows
// from that. It is nil where nobody waits for the run any more.
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
				Message: "the stage's deadline passed before the worker could begin",
			},
		}}}
	}
	return nil
}

// attempt waits until the assignment may begin and runs it. An error means that nothing was run to its end, and is
// the cause of that.
func (a *assignments) attempt(ctx context.Context, r *run, log logr.Logger) ([]pipeline.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, r.deadline.Sub(a.clock.Now()))
	defer cancel()
	// The scheduler knows the capacity, but a new one may not know of all running assignments yet. What is too
	// much waits here.
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
	log.Info("assignment taken", "attempt", scan.Status.Assignment.Attempt, "budget", scan.Status.Assignment.Budget,
		"model", scan.Status.Assignment.Model)
	a.metrics.inFlight.Inc()
	defer a.metrics.inFlight.Dec()
	outcomes := a.runStages(ctx, scan, log)
	if cause := context.Cause(ctx); failureIn(outcomes) != nil && isAbandoned(cause) {
		// It failed because it was stopped.
		outcomes[len(outcomes)-1].Failure = &pipeline.Failure{Class: v1alpha1.FailureWorkerLost, Message: cause.Error()}
		a.metrics.observe(scan.Status.Assignment, outcomes)
		return nil, cause
	}
	a.metrics.observe(scan.Status.Assignment, outcomes)
	return outcomes, nil
}

// confirm makes sure that the assignment is current before it is paid for. While the Lease is valid, nobody takes
// the scan away unheard. If it is not, this process may have been frozen and the event be old: the Lease is
// renewed first, and then the API server asked.
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
			r.latest.CompareAndSwap(known, scan) // an event that came meanwhile is newer or the same
			return nil
		}
		if err := sleep(ctx, a.clock, jittered(delay)); err != nil {
			return err
		}
	}
}

// start marks the run as begun, unless it has been stopped: from here on a drain lets it finish.
func (a *assignments) start(ctx context.Context, r *run) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	r.started = true
	return true
}

// runStages calls the runner. A panic there costs the scan an attempt instead of costing all scans their worker.
func (a *assignments) runStages(ctx context.Context, scan *v1alpha1.ScanRequest, log logr.Logger) (outcomes []pipeline.Outcome) {
	started := a.clock.Now()
	defer func() {
		if cause := recover(); cause != nil {
			log.Error(fmt.Errorf("panic: %v", cause), "a stage panicked", "stack", string(debug.Stack()))
			outcomes = []pipeline.Outcome{{
				Stage: scan.Status.Assignment.Stage, StartedAt: started, FinishedAt: a.clock.Now(),
				Failure: &pipeline.Failure{
					Class: v1alpha1.FailureInternal, Message: "a fault in the worker's program; its log has the details",
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

// finish ends the bookkeeping of a run. The scan stays in current until it leaves the watch.
func (a *assignments) finish(r *run) {
	r.cancel(nil)
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.active, r)
	a.metrics.assignments.Set(float64(len(a.active)))
	close(a.ended)
	a.ended = make(chan struct{})
}

// load is how many assignments are on their way.
func (a *assignments) load() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.active)
}

// isAbandoned says whether a run was stopped because its outcome is nobody's business any more.
func isAbandoned(cause error) bool {
	return errors.Is(cause, errSuperseded) || errors.Is(cause, errDeleted) || errors.Is(cause, errLeaseLost)
}

// failureIn returns the failure that the outcomes end with, if any.
func failureIn(outcomes []pipeline.Outcome) *pipeline.Failure {
	if len(outcomes) == 0 {
		return nil
	}
	return outcomes[len(outcomes)-1].Failure
}
