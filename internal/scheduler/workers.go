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
	// Capacity is the number of scans it runs at a time.
	Capacity int
	// Draining says that it takes no more work.
	Draining bool
	// RenewedAt is the Lease's renewal time, by the worker's clock. It is only compared with itself.
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
	index   int // in its pool's heap, -1 when not in it
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
	if w == nil {
		w = &worker{index: -1}
		s.workers[info.Name] = w
		w.inFlight = s.runsOf(info.Name)
		s.log.Info("worker registered", "worker", info.Name.Name, "pool", info.Pool, "capacity", info.Capacity)
	} else if !info.Draining && w.Draining != info.Draining || info.Draining && !w.Draining {
		s.log.Info("worker changed", "worker", info.Name.Name, "pool", info.Pool, "draining", info.Draining)
	}
	if !info.RenewedAt.Equal(w.RenewedAt) || w.expires.IsZero() {
		w.expires = s.clk.Now().Add(info.LeaseDuration)
	}
	if w.Pool != info.Pool {
		s.unheap(w)
	}
	w.Worker = info
	s.reheap(w)
	s.poke()
}

// WorkerGone forgets a worker whose Lease was deleted, and takes its scans back.
func (s *Scheduler) WorkerGone(name types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.workers[name]; w != nil {
		s.dropWorker(w, v1alpha1.FailureDrained, "the worker's Lease was released")
		s.poke()
	}
}

// expireWorkers takes back the scans of workers whose Lease has ended, and returns when the next one ends.
func (s *Scheduler) expireWorkers(now time.Time) time.Time {
	var next time.Time
	for _, w := range s.workers {
		if !now.Before(w.expires) {
			s.dropWorker(w, v1alpha1.FailureWorkerLost, "the worker's Lease expired")
			continue
		}
		next = earliest(next, w.expires)
	}
	return next
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

// load changes the number of scans a worker has.
func (s *Scheduler) load(name types.NamespacedName, delta int) {
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
		heap.Push(&p.workers, w)
	default:
		heap.Fix(&p.workers, w.index)
	}
}

func (s *Scheduler) unheap(w *worker) {
	if p := s.pools[types.NamespacedName{Namespace: w.Name.Namespace, Name: w.Pool}]; p != nil && w.index >= 0 {
		heap.Remove(&p.workers, w.index)
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
