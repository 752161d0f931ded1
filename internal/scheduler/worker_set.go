// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"iter"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/heap"
)

// workerSet holds the workers of a pool: those with the pool's own settings and those with its canary settings.
type workerSet struct {
	stable, canary heap.Heap[worker]
	// canaryCredit is what the canary workers are still due, in hundredths of an assignment.
	canaryCredit int32
}

func newWorkerSet() workerSet {
	index := func(w *worker) *int { return &w.index }
	return workerSet{stable: heap.New(pickedBefore, index), canary: heap.New(pickedBefore, index)}
}

// heapOf is the heap that a worker belongs to.
func (ws *workerSet) heapOf(w *worker) *heap.Heap[worker] {
	if w.Canary {
		return &ws.canary
	}
	return &ws.stable
}

// all yields the workers, in no particular order.
func (ws *workerSet) all() iter.Seq[*worker] {
	return func(yield func(*worker) bool) {
		for _, h := range []*heap.Heap[worker]{&ws.stable, &ws.canary} {
			for w := range h.All() {
				if !yield(w) {
					return
				}
			}
		}
	}
}

func (ws *workerSet) len() int { return ws.stable.Len() + ws.canary.Len() }

// next returns the worker for the next scan: the least loaded one of the group whose turn it is, or nil. A full canary
// group is passed over, so that no scan waits for it. A full stable group is not, so that the canary never exceeds its
// share, unless there are only canary workers.
func (ws *workerSet) next(c *v1alpha1.CanaryWorkers) *worker {
	canary, stable := firstFree(&ws.canary), firstFree(&ws.stable)
	switch {
	case canaryWeight(c) == 0 && anyActive(&ws.stable):
		return stable
	case canary != nil && (ws.canaryCredit+canaryWeight(c) >= 100 || !anyActive(&ws.stable)):
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

// firstFree is the least loaded worker that has a free slot, or nil.
func firstFree(h *heap.Heap[worker]) *worker {
	if w := h.Top(); w != nil && w.free() {
		return w
	}
	return nil
}

// anyActive reports whether there is a worker that is not draining.
func anyActive(h *heap.Heap[worker]) bool {
	for w := range h.All() {
		if !w.Draining {
			return true
		}
	}
	return false
}
