// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// Worker is a worker, as described by its Lease.
type Worker struct {
	// Name is the name of the worker's Lease: its namespace and identity.
	Name types.NamespacedName
	// Pool is the name of its WorkerPool.
	Pool string
	// Pod is the name of its pod.
	Pod string
	// PodUID identifies its pod; empty if the worker does not report it.
	PodUID types.UID
	// Canary is true for a worker with its pool's canary settings.
	Canary bool
	// Capacity is the number of scans it runs at a time.
	Capacity int
	// Draining is true for a worker that takes no more scans.
	Draining bool
	// RenewedAt is the Lease's renewal time, by the worker's clock. It is only compared with renewals of the same
	// pod.
	RenewedAt time.Time
	// LeaseDuration is how long the worker is presumed alive after a renewal.
	LeaseDuration time.Duration
}

// worker is a registered worker and its load.
type worker struct {
	Worker
	inFlight int
	// expires is when the worker is presumed dead, by the leader's clock: it counts from when the renewal was seen,
	// so the worker's clock does not matter.
	expires time.Time
	// nextLeaseCheck is when to read the Lease if no renewal is seen: leaseCheckAhead before it expires, and again
	// when it expires. checkingLease is true during a read, stale after a first read that found no renewal.
	nextLeaseCheck time.Time
	checkingLease  bool
	stale          bool
	index          int // in its pool's heap, -1 when not in it
	// links are what its calls to each budget show, by the budget's name.
	links map[string]*link
	// alone is the scan that the worker is reserved for, if any.
	alone types.NamespacedName
}

// leaseCheckAhead is how long before its expiry a Lease is first read. A worker that cannot reach the API server
// retries every second. So two reads this far apart without a renewal in between mean that the worker is gone, not
// that the API server was unavailable.
const leaseCheckAhead = 2 * time.Second

// renewed extends the worker's life by a Lease duration.
func (w *worker) renewed(now time.Time, lease time.Duration) {
	w.expires = now.Add(lease)
	w.nextLeaseCheck = w.expires.Add(-leaseCheckAhead)
	w.stale = false
}

// free reports whether the worker has a free slot for any scan.
func (w *worker) free() bool {
	return !w.Draining && w.inFlight < w.Capacity && w.alone == (types.NamespacedName{})
}

// pickedBefore orders the workers of a pool: those with a free slot first, least loaded first.
func pickedBefore(a, b *worker) bool {
	if af, bf := a.free(), b.free(); af != bf {
		return af
	}
	return lessLoaded(a, b)
}

// WorkerChanged registers a worker or processes its renewal.
func (s *Scheduler) WorkerChanged(info Worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.workers[info.Name]
	isNew := w == nil
	if isNew {
		w = &worker{index: -1}
		s.workers[info.Name] = w
		w.inFlight = s.runsOf(info.Name)
		s.log.Info("worker registered", "worker", info.Name.Name, "pool", info.Pool, "capacity", info.Capacity)
	} else if info.Draining != w.Draining {
		s.log.Info("worker changed", "worker", info.Name.Name, "pool", info.Pool, "draining", info.Draining)
	}
	if !info.RenewedAt.Equal(w.RenewedAt) || w.expires.IsZero() {
		w.renewed(s.clk.Now(), info.LeaseDuration)
	}
	if w.Pool != info.Pool || w.Canary != info.Canary {
		s.unheap(w)
	}
	w.Worker = info
	s.reheap(w)
	if isNew {
		s.dropPredecessors(w)
	}
	s.wake()
}

// dropPredecessors drops the earlier workers of the same pod. A pod runs one worker at a time, so a crashed one need not
// be waited for until its Lease expires.
func (s *Scheduler) dropPredecessors(w *worker) {
	if w.PodUID == "" {
		return
	}
	for _, other := range s.workers {
		if other != w && other.PodUID == w.PodUID && other.RenewedAt.Before(w.RenewedAt) {
			s.dropWorker(other, v1alpha1.FailureWorkerLost, "its pod has started another worker")
			s.expired = append(s.expired, other.Worker)
		}
	}
}

// WorkerGone drops a worker whose Lease was deleted, and releases its scans.
func (s *Scheduler) WorkerGone(name types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.workers[name]; w != nil {
		s.dropWorker(w, v1alpha1.FailureDrained, "the worker's Lease was released")
		s.wake()
	}
}

// dueLeaseChecks returns the workers whose Lease is to be read now, and when the next one is due.
func (s *Scheduler) dueLeaseChecks(now time.Time) (overdue []types.NamespacedName, next time.Time) {
	for _, w := range s.workers {
		switch {
		case w.checkingLease:
		case now.Before(w.nextLeaseCheck):
			next = earliest(next, w.nextLeaseCheck)
		default:
			w.checkingLease = true
			overdue = append(overdue, w.Name)
		}
	}
	return overdue, next
}

// leaseChecked processes a read of a Lease for which no renewal was seen. The watch may lag, or the API server may have
// been unavailable, so a worker is dropped only after two reads without a renewal.
func (s *Scheduler) leaseChecked(name types.NamespacedName, info Worker, found bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wake()
	w, now := s.workers[name], s.clk.Now()
	if w == nil {
		return
	}
	w.checkingLease = false
	switch {
	case err != nil: // the API server is unavailable to workers too: count a whole Lease from now
		s.log.V(1).Info("read of a worker's Lease failed", "worker", name.Name, "err", err.Error())
		w.renewed(now, w.LeaseDuration)
	case !found:
		s.dropWorker(w, v1alpha1.FailureDrained, "the worker's Lease was released")
	case !info.RenewedAt.Equal(w.RenewedAt):
		w.Worker = info
		w.renewed(now, info.LeaseDuration)
		s.reheap(w)
	case w.stale && !now.Before(w.expires):
		s.dropWorker(w, v1alpha1.FailureWorkerLost, "the worker's Lease expired")
		s.expired = append(s.expired, w.Worker)
	default:
		w.stale = true
		w.nextLeaseCheck = w.expires
		if !now.Before(w.expires) { // this read came too late: allow the time between two reads
			w.expires = now.Add(leaseCheckAhead)
			w.nextLeaseCheck = w.expires
		}
	}
}

// dropWorker removes a worker and releases its scans.
func (s *Scheduler) dropWorker(w *worker, class v1alpha1.FailureClass, why string) {
	s.unheap(w)
	delete(s.workers, w.Name)
	s.log.Info("worker gone", "worker", w.Name.Name, "pool", w.Pool, "reason", why, "inFlight", w.inFlight)
	for _, st := range s.scans {
		if st.run != nil && st.run.worker == w.Name {
			s.release(st, class, why)
		}
	}
}

// runsOf counts the known runs of a worker.
func (s *Scheduler) runsOf(name types.NamespacedName) int {
	n := 0
	for _, st := range s.scans {
		if st.run != nil && st.run.worker == name {
			n++
		}
	}
	return n
}

// addInFlight changes the number of scans at a worker.
func (s *Scheduler) addInFlight(name types.NamespacedName, delta int) {
	if w := s.workers[name]; w != nil {
		w.inFlight += delta
		s.reheap(w)
	}
}

// reheap restores a worker's place in its pool's heap.
func (s *Scheduler) reheap(w *worker) {
	p := s.pools[types.NamespacedName{Namespace: w.Name.Namespace, Name: w.Pool}]
	switch {
	case p == nil:
	case w.index < 0:
		p.workers.heapOf(w).Push(w)
	default:
		p.workers.heapOf(w).Fix(w)
	}
}

func (s *Scheduler) unheap(w *worker) {
	if p := s.pools[types.NamespacedName{Namespace: w.Name.Namespace, Name: w.Pool}]; p != nil && w.index >= 0 {
		p.workers.heapOf(w).Remove(w)
	}
	w.index = -1
}

// earliest is the earlier of two times, of which zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
