// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"iter"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// workerSet holds the workers of a pool: those with the pool's own settings and those with its canary settings.
type workerSet struct {
	stable, canary workerHeap
	// canaryCredit is what the canary workers are still due, in hundredths of an assignment.
	canaryCredit int32
}

// heapOf is the heap that a worker belongs to.
func (ws *workerSet) heapOf(w *worker) *workerHeap {
	if w.Canary {
		return &ws.canary
	}
	return &ws.stable
}

// all yields the workers, in no particular order.
func (ws *workerSet) all() iter.Seq[*worker] {
	return func(yield func(*worker) bool) {
		for _, h := range []workerHeap{ws.stable, ws.canary} {
			for _, w := range h {
				if !yield(w) {
					return
				}
			}
		}
	}
}

func (ws *workerSet) len() int { return len(ws.stable) + len(ws.canary) }

// next returns the worker for the next scan: the least loaded one of the group whose turn it is, or nil. A full canary
// group is passed over, so that no scan waits for it. A full stable group is not, so that the canary never exceeds its
// share, unless there are only canary workers.
func (ws *workerSet) next(c *v1alpha1.CanaryWorkers) *worker {
	canary, stable := ws.canary.first(), ws.stable.first()
	switch {
	case canaryWeight(c) == 0 && ws.stable.active():
		return stable
	case canary != nil && (ws.canaryCredit+canaryWeight(c) >= 100 || !ws.stable.active()):
		return canary
	default:
		return stable
	}
}

// assigned updates the canary's credit. The credit is bounded: a share that the canary could not take in time is not
// made up for later.
func (ws *workerSet) assigned(toCanary bool, c *v1alpha1.CanaryWorkers) {
	ws.canaryCredit += canaryWeight(c)
	if toCanary {
		ws.canaryCredit -= 100
	}
	ws.canaryCredit = min(max(ws.canaryCredit, -100), 100)
}

func canaryWeight(c *v1alpha1.CanaryWorkers) int32 {
	if c == nil || c.WeightPercent == nil {
		return 0
	}
	return *c.WeightPercent
}

// first is the least loaded worker that has a free slot, or nil.
func (h workerHeap) first() *worker {
	if len(h) == 0 || !h[0].free() {
		return nil
	}
	return h[0]
}

// active reports whether there is a worker that is not draining.
func (h workerHeap) active() bool {
	for _, w := range h {
		if !w.Draining {
			return true
		}
	}
	return false
}
