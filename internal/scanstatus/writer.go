// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scanstatus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// Policy decides how long a Writer repeats a write that fails.
type Policy int

const (
	// NeverGiveUp repeats a write until it is stored or refused for good, or ctx ends. It is for results, which cost
	// tokens.
	NeverGiveUp Policy = iota
	// GiveUp returns the error once the write is known not to be stored and Options.GiveUpAfter has passed. It is for
	// decisions that are out of date by then, such as assignments.
	GiveUp
)

// Defaults of Options, and the conflicts that are repeated at once.
const (
	defaultRequestTimeout = 10 * time.Second
	defaultMinDelay       = 100 * time.Millisecond
	defaultMaxDelay       = 5 * time.Second
	defaultGiveUpAfter    = 20 * time.Second
	// delaySpread is the part of a delay that jitter adds or takes away, so that writers that failed together do not
	// come back together.
	delaySpread = 0.1
	// promptConflicts is how many conflicts of a write are repeated without delay. More of them mean that something
	// writes to the scan all the time, or that an admission webhook answers with a conflict.
	promptConflicts = 3
	// maxDoublings keeps a delay from overflowing before it is cut to MaxDelay.
	maxDoublings = 16
)

// Options configure a Writer. The zero value of a field means its default.
type Options struct {
	// Client sends the patches. Required.
	Client client.Client
	// APIReader reads from the API server itself: a cache would return the version that has just conflicted. Required.
	APIReader client.Reader
	// Clock is the source of time. Required.
	Clock clock.Clock
	// Log receives retries, at level 1.
	Log logr.Logger
	// Policy decides when to give up. Default NeverGiveUp.
	Policy Policy
	// GiveUpAfter is when a Writer with policy GiveUp gives up. Default 20 s.
	GiveUpAfter time.Duration
	// RequestTimeout bounds each request, so that a connection that hangs holds nothing for ever. Default 10 s.
	RequestTimeout time.Duration
	// MinDelay and MaxDelay bound the time between two tries, which doubles. Defaults 100 ms and 5 s.
	MinDelay, MaxDelay time.Duration
	// MaxConcurrent bounds the writes with a request under way at the same time. A write that waits for its next try
	// does not count. Default: unlimited.
	MaxConcurrent int
	// Jitter returns a number in [0, 1) that spreads retries. Default rand.Float64.
	Jitter func() float64
	// Retried is called before each further try, for metrics. Default: none.
	Retried func()
}

// Result says how a write ended.
type Result string

const (
	// Written means that the status carries the event.
	Written Result = "written"
	// Unchanged means that the status already says what the event says.
	Unchanged Result = "unchanged"
	// Fenced means that the event was dropped because its assignment is no longer current; the error is pipeline.ErrFenced.
	Fenced Result = "fenced"
	// Stale means that the event was dropped because the scan has moved on since it was decided; the error is pipeline.ErrStale.
	Stale Result = "stale"
	// Deleted means that the event was dropped because the scan no longer exists; the error is pipeline.ErrGone.
	Deleted Result = "deleted"
	// Rejected means that the event can never be stored; the error is a *RejectedError.
	Rejected Result = "rejected"
	// Abandoned means that ctx ended, or the policy gave up.
	Abandoned Result = "abandoned"
)

// Writer stores events in the statuses of scans. It is safe for concurrent use.
type Writer struct {
	opts  Options
	slots chan struct{} // nil where the number of writes is not limited
}

// New returns a Writer.
func New(o Options) *Writer {
	o.GiveUpAfter = cmp.Or(o.GiveUpAfter, defaultGiveUpAfter)
	o.RequestTimeout = cmp.Or(o.RequestTimeout, defaultRequestTimeout)
	o.MinDelay, o.MaxDelay = cmp.Or(o.MinDelay, defaultMinDelay), cmp.Or(o.MaxDelay, defaultMaxDelay)
	if o.Jitter == nil {
		o.Jitter = rand.Float64
	}
	w := &Writer{opts: o}
	if o.MaxConcurrent > 0 {
		w.slots = make(chan struct{}, o.MaxConcurrent)
	}
	return w
}

// Write is Store for callers that need no Result. It implements scheduler.StatusWriter.
func (w *Writer) Write(ctx context.Context, scan *v1alpha1.ScanRequest, ev pipeline.Event) (*v1alpha1.ScanRequest, error) {
	scan, _, err := w.Store(ctx, scan, ev)
	return scan, err
}

// Store folds the event into the scan's status and patches it. scan is the newest state the caller has; the newest
// state the Writer has is returned, also next to an error. Unless ctx ends, Store returns only when it is known whether
// the event was stored. The error is nil for Written and Unchanged.
func (w *Writer) Store(ctx context.Context, scan *v1alpha1.ScanRequest, ev pipeline.Event) (*v1alpha1.ScanRequest, Result, error) {
	t := &task{scan: scan, event: ev, key: client.ObjectKeyFromObject(scan), began: w.opts.Clock.Now()}
	for {
		result, err := w.try(ctx, t)
		if result == "" && ctx.Err() != nil {
			result, err = Abandoned, fmt.Errorf("%w; last error: %w", ctx.Err(), err)
		}
		if result == "" {
			delay := w.delay(t, err)
			if !t.unsure && w.givesUp(t, delay) {
				result = Abandoned
			} else if interrupted := w.pause(ctx, t, delay, err); interrupted != nil {
				result, err = Abandoned, fmt.Errorf("%w; last error: %w", interrupted, err)
			}
		}
		switch {
		case result == "":
		case err == nil:
			return t.scan, result, nil
		default:
			return t.scan, result, fmt.Errorf("write status of scan %s: %w", t.key, err)
		}
	}
}

// Read returns the scan as the API server has it now.
func (w *Writer) Read(ctx context.Context, key types.NamespacedName) (*v1alpha1.ScanRequest, error) {
	ctx, cancel := context.WithTimeout(ctx, w.opts.RequestTimeout)
	defer cancel()
	scan := &v1alpha1.ScanRequest{}
	return scan, w.opts.APIReader.Get(ctx, key, scan)
}

// FoldContext is what pipeline.Fold has to know of a scan besides its status.
func FoldContext(scan *v1alpha1.ScanRequest, now time.Time, jitter func() float64) pipeline.Context {
	return pipeline.Context{
		Spec: scan.Spec, CreatedAt: scan.CreationTimestamp.Time, Generation: scan.Generation, Now: now, Jitter: jitter,
	}
}

// task is an event on its way into a status.
type task struct {
	key   types.NamespacedName
	scan  *v1alpha1.ScanRequest // the newest state
	event pipeline.Event
	began time.Time // also the instant of the event, however long it takes to store it
	stale bool      // scan must be read before the next patch
	// unsure says that the last patch may have been carried out.
	unsure bool
	// base and sent are what the last patch was folded from and what it sent.
	base, sent *v1alpha1.ScanRequestStatus
	lastErr    error // of the last patch

	failures  int // followed by a delay
	conflicts int // not followed by a delay
}

// try makes one attempt. A result is final. Without one, the error says why another attempt is needed.
func (w *Writer) try(ctx context.Context, t *task) (Result, error) {
	if w.slots != nil {
		select {
		case w.slots <- struct{}{}:
			defer func() { <-w.slots }()
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	if t.stale {
		if result, err := w.reread(ctx, t); result != "" || err != nil {
			return result, err
		}
	}
	next := t.scan.DeepCopy()
	changed, err := pipeline.Fold(FoldContext(next, t.began, w.opts.Jitter), &next.Status, t.event)
	switch {
	case errors.Is(err, pipeline.ErrFenced):
		return Fenced, err
	case errors.Is(err, pipeline.ErrStale):
		return Stale, err
	case err != nil:
		return Rejected, &RejectedError{cause: err}
	case !changed:
		return Unchanged, nil
	}
	return w.patch(ctx, t, next)
}

// reread replaces the task's scan by what the API server has, and finds out whether the last patch was stored.
func (w *Writer) reread(ctx context.Context, t *task) (Result, error) {
	stored, err := w.Read(ctx, t.key)
	if err != nil {
		if classify(err) == classGone {
			return Deleted, fmt.Errorf("%w: %w", pipeline.ErrGone, err)
		}
		return "", fmt.Errorf("read it again: %w", err)
	}
	if stored.UID != t.scan.UID {
		return Deleted, fmt.Errorf("another scan has its name now: %w", pipeline.ErrGone)
	}
	t.scan, t.stale, t.unsure = stored, false, false
	if arrived(t.base, t.sent, &stored.Status) {
		return Written, nil
	}
	// Other events may be folded as often as needed: they are fenced, or say the same again. An assignment is not. If
	// it arrived and its call has ended since, a second one with the same id would wait for a worker that is done.
	if _, ok := t.event.(pipeline.Assigned); ok && hasRun(t.base, &stored.Status) {
		return Stale, fmt.Errorf("assign it again: it has run since: %w", pipeline.ErrStale)
	}
	if w.givesUp(t, 0) {
		return Abandoned, fmt.Errorf("not stored in time: %w", t.lastErr)
	}
	return "", nil
}

// patch sends the changed status.
func (w *Writer) patch(ctx context.Context, t *task, next *v1alpha1.ScanRequest) (Result, error) {
	t.base, t.sent = &t.scan.Status, next.Status.DeepCopy() // the client puts the answer into next
	ctx, cancel := context.WithTimeout(ctx, w.opts.RequestTimeout)
	defer cancel()
	err := w.opts.Client.Status().Patch(ctx, next, client.MergeFromWithOptions(t.scan, client.MergeFromWithOptimisticLock{}))
	if err == nil {
		t.scan = next
		return Written, nil
	}
	t.lastErr = err
	// The next try begins with a read even where the patch was certainly not stored: the scan may no longer need it. An
	// API server that asks for fewer requests gets none for that.
	t.stale = !apierrors.IsTooManyRequests(err)
	switch classify(err) {
	case classGone:
		return Deleted, fmt.Errorf("%w: %w", pipeline.ErrGone, err)
	case classRejected:
		return Rejected, &RejectedError{cause: err}
	case classConflict, classUnknown:
		t.unsure = true
	case classRefused:
	}
	return "", err
}

// delay is how long to wait after a failed try.
func (w *Writer) delay(t *task, err error) time.Duration {
	if classify(err) == classConflict && t.conflicts < promptConflicts {
		t.conflicts++
		return 0
	}
	delay := min(w.opts.MinDelay<<min(t.failures, maxDoublings), w.opts.MaxDelay)
	t.failures++
	delay += time.Duration((2*w.opts.Jitter() - 1) * delaySpread * float64(delay))
	if asked := retryAfter(err); asked > 0 {
		return asked + delay // no earlier than asked, and not all at once
	}
	return delay
}

// givesUp says whether the policy ends a write that would be tried again after a delay.
func (w *Writer) givesUp(t *task, delay time.Duration) bool {
	return w.opts.Policy == GiveUp && w.opts.Clock.Since(t.began)+delay > w.opts.GiveUpAfter
}

// pause waits before the next try. The error is that of ctx.
func (w *Writer) pause(ctx context.Context, t *task, delay time.Duration, cause error) error {
	w.opts.Log.V(1).Info("status write failed; trying again", "scan", t.key.Name, "delay", delay.String(), "cause", cause.Error())
	if delay > 0 {
		timer := w.opts.Clock.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if w.opts.Retried != nil {
		w.opts.Retried()
	}
	return nil
}
