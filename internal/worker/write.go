package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

const (
	// maxConcurrentWrites bounds the status requests of one worker at a time. See scheduler.Options.MaxWrites for why
	// more would not be faster.
	maxConcurrentWrites = 16
	// minRetryDelay and maxRetryDelay bound the time between two tries of a write.
	minRetryDelay = 100 * time.Millisecond
	maxRetryDelay = 5 * time.Second
	// statusRequestTimeout bounds one request, so that a connection that hangs does not hold a result for ever.
	statusRequestTimeout = 10 * time.Second
)

// writeResult is what became of a report.
type writeResult string

const (
	// resultWritten: the status carries the event.
	resultWritten writeResult = "written"
	// resultUnchanged: the event changed nothing; no call was made.
	resultUnchanged writeResult = "unchanged"
	// resultFenced: the assignment was no longer current; the event was dropped.
	resultFenced writeResult = "fenced"
	// resultDeleted: the scan is gone; the event was dropped.
	resultDeleted writeResult = "deleted"
	// resultRejected: the API server refuses the status; the scan waits for its deadline.
	resultRejected writeResult = "rejected"
	// resultAbandoned: the process ended before the API server could be reached.
	resultAbandoned writeResult = "abandoned"
)

var writeResults = [...]writeResult{
	resultWritten, resultUnchanged, resultFenced, resultDeleted, resultRejected, resultAbandoned,
}

// writer writes events into the statuses of scans. A result was paid for: it is tried until it is written, until
// somebody else has the scan, or until the process ends.
type writer struct {
	client  client.Client // reads and writes go to the API server
	clock   clock.Clock
	log     logr.Logger
	metrics *metrics
	slots   chan struct{}
}

func newWriter(c client.Client, clk clock.Clock, log logr.Logger, m *metrics) *writer {
	return &writer{client: c, clock: clk, log: log, metrics: m, slots: make(chan struct{}, maxConcurrentWrites)}
}

// read returns the current state of a scan from the API server.
func (w *writer) read(ctx context.Context, key types.NamespacedName) (*v1alpha1.ScanRequest, error) {
	ctx, cancel := context.WithTimeout(ctx, statusRequestTimeout)
	defer cancel()
	scan := &v1alpha1.ScanRequest{}
	return scan, w.client.Get(ctx, key, scan)
}

// report writes one event, beginning with the newest known state of the scan, and counts what became of it.
func (w *writer) report(ctx context.Context, scan *v1alpha1.ScanRequest, event pipeline.Event) writeResult {
	result := w.write(ctx, &report{scan: scan, event: event, now: w.clock.Now()})
	w.metrics.writes.WithLabelValues(string(result)).Inc()
	return result
}

// report is an event on its way into a status.
type report struct {
	scan  *v1alpha1.ScanRequest // newest known state
	event pipeline.Event
	now   time.Time // when the event happened, however long it takes to write it
	stale bool      // scan must be read anew
	// sent is the status of a request whose answer was lost: it may have been carried out.
	sent     *v1alpha1.ScanRequestStatus
	rejected bool // the API server has refused a status before
}

func (w *writer) write(ctx context.Context, r *report) writeResult {
	for delay := minRetryDelay; ; delay = min(2*delay, maxRetryDelay) {
		result, err := w.try(ctx, r)
		switch {
		case err == nil:
			return result
		case ctx.Err() != nil:
			w.log.Error(err, "gave up writing a result: the worker ends", "scan", r.scan.Name)
			return resultAbandoned
		}
		w.metrics.writeRetries.Inc()
		w.log.V(1).Info("a write failed and is tried again", "scan", r.scan.Name, "err", err.Error())
		if apierrors.IsConflict(err) && delay == minRetryDelay {
			continue // somebody has changed the scan; nothing is wrong
		}
		if sleep(ctx, w.clock, jittered(delay)) != nil {
			return resultAbandoned
		}
	}
}

// try makes one attempt to write a report. An error means that another attempt is worth while.
func (w *writer) try(ctx context.Context, r *report) (writeResult, error) {
	select {
	case w.slots <- struct{}{}:
		defer func() { <-w.slots }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if r.stale {
		scan, err := w.read(ctx, types.NamespacedName{Namespace: r.scan.Namespace, Name: r.scan.Name})
		if apierrors.IsNotFound(err) {
			return resultDeleted, nil
		}
		if err != nil {
			return "", err
		}
		r.scan, r.stale = scan, false
	}
	next := r.scan.DeepCopy()
	changed, err := pipeline.Fold(contextOf(next, r.now), &next.Status, r.event)
	switch {
	case errors.Is(err, pipeline.ErrFenced):
		if r.arrived() {
			return resultWritten, nil
		}
		w.log.Info("a late result was fenced off", "scan", r.scan.Name)
		return resultFenced, nil
	case err != nil:
		return w.refuse(r, err)
	case !changed:
		return resultUnchanged, nil
	}
	return w.patch(ctx, r, next)
}

// patch sends the changed status.
func (w *writer) patch(ctx context.Context, r *report, next *v1alpha1.ScanRequest) (writeResult, error) {
	status := next.Status.DeepCopy() // the client puts the server's answer into next
	change := client.MergeFromWithOptions(r.scan, client.MergeFromWithOptimisticLock{})
	ctx, cancel := context.WithTimeout(ctx, statusRequestTimeout)
	defer cancel()
	err := w.client.Status().Patch(ctx, next, change)
	switch {
	case err == nil:
		return resultWritten, nil
	case apierrors.IsNotFound(err):
		return resultDeleted, nil
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsRequestEntityTooLargeError(err):
		return w.refuse(r, err)
	case apierrors.IsConflict(err):
		r.stale = true
	default:
		// The request may have been carried out. The next one will meet a conflict and then find out.
		r.sent = status
	}
	return "", err
}

// refuse deals with an event that cannot be written however often it is tried: once, it is replaced by the news
// that the attempt failed, so that the scan is tried again instead of being stuck until its deadline.
func (w *writer) refuse(r *report, err error) (writeResult, error) {
	why := withoutValues(err)
	completed, ok := r.event.(pipeline.Completed)
	if r.rejected || !ok || r.scan.Status.Assignment == nil {
		w.log.Error(why, "a result cannot be written; the scan waits for its deadline", "scan", r.scan.Name)
		return resultRejected, nil
	}
	w.log.Error(why, "a result was rejected; the attempt counts as failed", "scan", r.scan.Name)
	r.rejected = true
	r.event = pipeline.Completed{AssignmentID: completed.AssignmentID, Outcomes: []pipeline.Outcome{{
		Stage: r.scan.Status.Assignment.Stage, StartedAt: r.now, FinishedAt: r.now,
		Failure: &pipeline.Failure{
			Class: v1alpha1.FailureInternal, Message: "the result could not be written: " + why.Error(),
		},
	}}}
	return "", why
}

// withoutValues says why the API server refused a status without repeating what is in it, which may be a user's.
func withoutValues(err error) error {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil || len(status.Status().Details.Causes) == 0 {
		return err
	}
	problems := make([]string, 0, len(status.Status().Details.Causes))
	for _, cause := range status.Status().Details.Causes {
		problems = append(problems, cause.Field+": "+string(cause.Type))
	}
	return fmt.Errorf("%s: %s", status.Status().Reason, strings.Join(problems, ", "))
}

// arrived says whether the scan carries what a request whose answer was lost has sent: then the fence is closed by
// this very report.
func (r *report) arrived() bool {
	if r.sent == nil {
		return false
	}
	for i := range r.sent.Stages {
		ours := &r.sent.Stages[i]
		theirs := pipeline.Stage(&r.scan.Status, ours.Name)
		if theirs == nil || theirs.Worker != ours.Worker || !theirs.FinishedAt.Time.Equal(ours.FinishedAt.Time) {
			return false
		}
	}
	return true
}

// contextOf is what the pipeline needs to know to fold an event into a scan's status.
func contextOf(scan *v1alpha1.ScanRequest, now time.Time) pipeline.Context {
	return pipeline.Context{
		Spec: scan.Spec, CreatedAt: scan.CreationTimestamp.Time, Generation: scan.Generation, Now: now,
		Jitter: rand.Float64,
	}
}
