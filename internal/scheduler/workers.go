package scheduler

import (
	"container/heap"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// Worker is a worker as its Lease describes it.
type Worker struct {
	// Name is the worker's namespace and identity, which is its Lease's name.
	Name types.NamespacedName
	// Pool is the name of its WorkerPool.
	Pool string
	// Pod is the name of its pod.
	Pod string
	// PodUID tells its pod from all others, where the worker knows it.
	PodUID types.UID
	// Canary says that it runs with its pool's canary settings.
	Canary bool
	// Capacity is the number of scans it runs at a time.
	Capacity int
	// Draining says that it takes no more work.
	Draining bool
	// RenewedAt is the Lease's renewal time, by the worker's clock. It is only compared with itself and within a
	// pod.
	RenewedAt time.Time
	// LeaseDuration is how long after a renewal the worker is believed to live.
	LeaseDuration time.Duration
}

// worker is a registered worker and its load.
type worker struct {
	Worker
	inFlight int
	// expires is when the worker is presumed dead, by our clock: counted from when we saw the renewal, so that
	// the worker's clock does not matter.
	expires time.Time
	// nextLeaseCheck is when the Lease is to be read again because no renewal was seen: lookAhead before it expires, and
	// when it does. looking is set while it is being read, stale when the first look found no renewal.
	nextLeaseCheck time.Time
	checkingLease  bool
	stale          bool
	index          int // in its pool's heap, -1 when not in it
}

// lookAhead is how long before a Lease expires it is first looked at. A worker that could not reach the API
// server tries again every second, so that two looks this far apart with no renewal in between mean that it is
// gone, and not that the API server was away.
const leaseCheckAhead = 2 * time.Second

// renewed notes a sign of life.
func (w *worker) renewed(now time.Time, lease time.Duration) {
	w.expires = now.Add(lease)
	w.nextLeaseCheck = w.expires.Add(-leaseCheckAhead)
	w.stale = false
}

// free says whether the worker takes another scan.
func (w *worker) free() bool { return !w.Draining && w.inFlight < w.Capacity }

// workerHeap orders the active workers of a pool, least loaded first.
type workerHeap []*worker

func (h workerHeap) Len() int { return len(h) }
func (h workerHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	if af, bf := a.free(), b.free(); af != bf {
		return af
	}
	// a.inFlight/a.Capacity < b.inFlight/b.Capacity, without division.
	if l, r := a.inFlight*b.Capacity, b.inFlight*a.Capacity; l != r {
		return l < r
	}
	return a.Name.Name < b.Name.Name
}

func (h workerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *workerHeap) Push(x any) {
	w := x.(*worker) //nolint:forcetypeassert // only workers are pushed
	w.index = len(*h)
	*h = append(*h, w)
}

func (h *workerHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	w.index = -1
	return w
}

// WorkerChanged registers a worker or notes its renewal.
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
	} else if !info.Draining && w.Draining != info.Draining || info.Draining && !w.Draining {
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

// dropPredecessors ends the workers that were in the same pod before. A pod runs one worker at a time, so that a
// crashed one need not be waited for until its Lease expires, and is given nothing more.
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

// WorkerGone forgets a worker whose Lease was deleted, and takes its scans back.
func (s *Scheduler) WorkerGone(name types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.workers[name]; w != nil {
		s.dropWorker(w, v1alpha1.FailureDrained, "the worker's Lease was released")
		s.wake()
	}
}

// dueLeaseChecks returns the workers whose Lease is to be read again, and when the next one will be.
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

// leaseChecked takes note of what the API server says of a worker that was not seen to renew. The watch may be behind
// or the API server may have been away: only its own word that nothing was renewed, twice, ends a worker.
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
	case err != nil: // nobody can renew now; each has a whole Lease from here
		s.log.V(1).Info("could not look after a worker", "worker", name.Name, "err", err.Error())
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
		if !now.Before(w.expires) { // it was looked at too late: give it the time between two looks
			w.expires = now.Add(leaseCheckAhead)
			w.nextLeaseCheck = w.expires
		}
	}
}

// dropWorker forgets a worker and releases what it had.
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

// runsOf counts the runs that a worker has, as far as they are known.
func (s *Scheduler) runsOf(name types.NamespacedName) int {
	n := 0
	for _, st := range s.scans {
		if st.run != nil && st.run.worker == name {
			n++
		}
	}
	return n
}

// addInFlight changes the number of scans a worker has.
func (s *Scheduler) addInFlight(name types.NamespacedName, delta int) {
	if w := s.workers[name]; w != nil {
		w.inFlight += delta
		s.reheap(w)
	}
}

// reheap puts a worker where it belongs in its pool's heap.
func (s *Scheduler) reheap(w *worker) {
	p := s.pools[types.NamespacedName{Namespace: w.Name.Namespace, Name: w.Pool}]
	switch {
	case p == nil:
	case w.index < 0:
		heap.Push(p.workers.heapOf(w), w)
	default:
		heap.Fix(p.workers.heapOf(w), w.index)
	}
}

func (s *Scheduler) unheap(w *worker) {
	if p := s.pools[types.NamespacedName{Namespace: w.Name.Namespace, Name: w.Pool}]; p != nil && w.index >= 0 {
		heap.Remove(p.workers.heapOf(w), w.index)
	}
	w.index = -1
}

// earliest is the earlier of two instants, of which zero means none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
