package scheduler

import (
	"iter"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// workerSet are the workers of a pool: those with the pool's own settings and those with its canary's.
type workerSet struct {
	stable, canary workerHeap
	// canaryCredit is what the canary is still to be given, in hundredths of an assignment.
	canaryCredit int32
}

// heapOf is the heap that a worker belongs to.
func (f *workerSet) heapOf(w *worker) *workerHeap {
	if w.Canary {
		return &f.canary
	}
	return &f.stable
}

// all yields the workers, in no order.
func (f *workerSet) all() iter.Seq[*worker] {
	return func(yield func(*worker) bool) {
		for _, h := range []workerHeap{f.stable, f.canary} {
			for _, w := range h {
				if !yield(w) {
					return
				}
			}
		}
	}
}

func (f *workerSet) len() int { return len(f.stable) + len(f.canary) }

// next is the worker that takes the next scan, or nil: the least loaded one of the group whose turn it is. A canary
// that has no room is passed over, so that nothing waits for it; the other workers are not, so that a canary is never
// given more than its share, unless there is none but it.
func (f *workerSet) next(c *v1alpha1.CanaryWorkers) *worker {
	canary, stable := f.canary.first(), f.stable.first()
	switch {
	case weight(c) == 0 && f.stable.live():
		return stable
	case canary != nil && (f.canaryCredit+weight(c) >= 100 || !f.stable.live()):
		return canary
	default:
		return stable
	}
}

// assigned notes which group was given a scan. What the canary could not be given in time is not made up for later.
func (f *workerSet) assigned(toCanary bool, c *v1alpha1.CanaryWorkers) {
	f.canaryCredit += weight(c)
	if toCanary {
		f.canaryCredit -= 100
	}
	f.canaryCredit = min(max(f.canaryCredit, -100), 100)
}

func weight(c *v1alpha1.CanaryWorkers) int32 {
	if c == nil || c.WeightPercent == nil {
		return 0
	}
	return *c.WeightPercent
}

// first is the least loaded worker that takes another scan, or nil.
func (h workerHeap) first() *worker {
	if len(h) == 0 || !h[0].free() {
		return nil
	}
	return h[0]
}

// live says whether a worker is there that is not draining.
func (h workerHeap) live() bool {
	for _, w := range h {
		if !w.Draining {
			return true
		}
	}
	return false
}
