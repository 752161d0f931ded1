// Package scanstatus stores what happened to a scan.
package scanstatus

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

// backoffCap is the longest time between two reads of a scan while the API server does not answer.
const backoffCap = 5 * time.Second

// Writer stores what happened to a scan. It implements scheduler.StatusWriter.
type Writer struct {
	// Client writes.
	Client client.Client
	// Live reads past the cache, where a write was refused or its answer was lost.
	APIReader client.Reader
	// Clock tells the time.
	Clock clock.Clock
}

var _ scheduler.StatusWriter = (*Writer)(nil)

// Write folds the event into the scan's status and patches it, under the optimistic lock of the version it
// folded into. See scheduler.StatusWriter for what it returns.
func (w *Writer) Write(ctx context.Context, scan *v1alpha1.ScanRequest, ev pipeline.Event) (*v1alpha1.ScanRequest, error) {
	backoff := wait.Backoff{Duration: 20 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 9, Cap: backoffCap}
	for {
		next := scan.DeepCopy()
		changed, err := pipeline.Fold(w.foldContext(next), &next.Status, ev)
		if err != nil || !changed {
			return scan, err
		}
		patch := client.MergeFromWithOptions(scan, client.MergeFromWithOptimisticLock{})
		err = w.Client.Status().Patch(ctx, next, patch)
		switch {
		case err == nil:
			return next, nil
		case apierrors.IsNotFound(err):
			return scan, fmt.Errorf("%w: %w", scheduler.ErrGone, err)
		case apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsBadRequest(err):
			return scan, fmt.Errorf("patch status of scan %s: %w", client.ObjectKeyFromObject(scan), err)
		}
		// Others changed the scan, or the answer was lost and the write may have taken place.
		if scan, err = w.readAgain(ctx, scan, &backoff); err != nil {
			return scan, err
		}
		if a, ok := ev.(pipeline.Assigned); ok && scan.Status.Assignment != nil && scan.Status.Assignment.ID == a.Assignment.ID {
			return scan, nil
		}
	}
}

// readAgain reads the scan from the API server, for as long as it takes to get an answer.
func (w *Writer) readAgain(ctx context.Context, scan *v1alpha1.ScanRequest, backoff *wait.Backoff) (*v1alpha1.ScanRequest, error) {
	for {
		timer := w.Clock.NewTimer(backoff.Step())
		select {
		case <-ctx.Done():
			timer.Stop()
			return scan, fmt.Errorf("read scan %s again: %w", client.ObjectKeyFromObject(scan), ctx.Err())
		case <-timer.C():
		}
		live := &v1alpha1.ScanRequest{}
		err := w.APIReader.Get(ctx, client.ObjectKeyFromObject(scan), live)
		switch {
		case err == nil && live.UID == scan.UID:
			return live, nil
		case err == nil, apierrors.IsNotFound(err):
			return scan, scheduler.ErrGone
		}
	}
}

func (w *Writer) foldContext(scan *v1alpha1.ScanRequest) pipeline.Context {
	return pipeline.Context{
		Spec: scan.Spec, CreatedAt: scan.CreationTimestamp.Time, Generation: scan.Generation,
		Now: w.Clock.Now(), Jitter: rand.Float64,
	}
}
