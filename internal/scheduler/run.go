// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/budget"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// A scan whose status write failed is written again after writeHoldFirst, and after twice as long for each failure in a
// row, up to writeHoldLast: writes that the API server refuses for one object must not crowd out those of others.
const (
	writeHoldFirst = time.Second
	writeHoldLast  = time.Minute
)

// writeHold is the time to the next write after the nth failure in a row, n from 1.
func writeHold(n int) time.Duration { return min(writeHoldFirst<<min(n-1, 10), writeHoldLast) }

type writeKind int

const (
	writeAssign writeKind = iota
	writeRelease
	writeReject
	writeReason
)

// String is a bounded metric label.
func (k writeKind) String() string { return [...]string{"assign", "release", "reject", "reason"}[k] }

// write is a status write to do.
type write struct {
	kind    writeKind
	scan    *scanState
	obj     *v1alpha1.ScanRequest
	event   pipeline.Event
	decided time.Time
	// notBefore is when it may be sent. retry means that the scan's previous write failed.
	notBefore time.Time
	retry     bool
}

// maxRetries bounds the writes under way of scans whose previous write failed.
func (s *Scheduler) maxRetries() int { return max(s.opts.MaxWrites/2, 1) }

// mayWrite reports whether another write of a scan may be sent now.
func (s *Scheduler) mayWrite(st *scanState) bool {
	return st.failedWrites == 0 || s.retries < s.maxRetries()
}

// takeOutbox takes up to room posted writes that are due, and returns when the next one will be.
func (s *Scheduler) takeOutbox(now time.Time, room int) (due []*write, next time.Time) {
	kept := s.outbox[:0]
	for _, wr := range s.outbox {
		switch {
		case now.Before(wr.notBefore):
			next = earliest(next, wr.notBefore)
			kept = append(kept, wr)
		case len(due) == room || !s.mayWrite(wr.scan):
			kept = append(kept, wr)
		default:
			due = append(due, wr)
			s.sent(wr)
		}
	}
	clear(s.outbox[len(kept):])
	s.outbox = kept
	return due, next
}

// sent counts a write that is under way.
func (s *Scheduler) sent(wr *write) {
	if wr.retry = wr.scan.failedWrites > 0; wr.retry {
		s.retries++
	}
}

// Run schedules until ctx ends, and returns when all writes and reads have ended.
func (s *Scheduler) Run(ctx context.Context, w StatusWriter, registry LeaseStore) {
	var calls sync.WaitGroup
	defer calls.Wait()
	timer := s.clk.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wakeup:
		case <-timer.C():
		}
		todo := s.cycle()
		for _, wr := range todo.writes {
			calls.Go(func() {
				obj, err := w.Write(ctx, wr.obj, wr.event)
				s.written(wr, obj, err)
			})
		}
		for _, name := range todo.leaseChecks {
			calls.Go(func() {
				info, found, err := registry.Read(ctx, name)
				s.leaseChecked(name, info, found, err)
			})
		}
		for _, info := range todo.expired {
			calls.Go(func() { registry.Remove(ctx, info) })
		}
		timer.Stop()
		select { // drop a tick that came meanwhile: a cycle has just run
		case <-timer.C():
		default:
		}
		if !todo.next.IsZero() {
			timer.Reset(max(todo.next.Sub(s.clk.Now()), 0))
		}
	}
}

// post queues a write. The scan is out of the queue until the write has ended.
func (s *Scheduler) post(st *scanState, wr *write) {
	s.prepare(st, wr)
	s.outbox = append(s.outbox, wr)
}

func (s *Scheduler) prepare(st *scanState, wr *write) {
	wr.scan, wr.obj, wr.decided, wr.notBefore = st, st.obj, s.clk.Now(), st.holdUntil
	if wr.kind == writeReason {
		st.writingReason = true
		return
	}
	st.pending = wr
}

// written processes the end of a write.
func (s *Scheduler) written(wr *write, obj *v1alpha1.ScanRequest, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wake()
	s.writes--
	if wr.retry {
		s.retries--
	}
	if wr.kind == writeReason {
		s.reasonWritten(wr.scan, obj, err)
		return
	}
	st, now := wr.scan, s.clk.Now()
	st.pending = nil
	if s.scans[st.name] != st { // deleted or replaced meanwhile; its run is settled
		return
	}
	if obj != nil && newer(obj, st.obj) {
		st.obj = obj
	}
	switch {
	case err == nil:
		st.failedWrites = 0
		if wr.kind == writeAssign {
			took := now.Sub(wr.decided)
			if s.storing == 0 {
				s.storing = took
			}
			s.storing += (took - s.storing) / storesAveraged
			s.opts.Observer.Dispatched(took)
		}
	case errors.Is(err, pipeline.ErrGone):
		s.cancelRun(st, wr, now)
		s.forget(st)
		return
	default:
		s.cancelRun(st, wr, now)
		if !errors.Is(err, pipeline.ErrStale) && !errors.Is(err, pipeline.ErrFenced) && !errors.Is(err, context.Canceled) {
			st.failedWrites++
			st.holdUntil = now.Add(writeHold(st.failedWrites)) // otherwise the write would be retried at once, and fail again
			s.opts.Observer.WriteFailed(wr.kind.String())
			s.log.Error(err, "status write failed", "scan", st.name.String(), "kind", wr.kind.String(), "failures", st.failedWrites)
		}
	}
	s.settleAndQueue(st)
}

// reasonWritten processes the end of a write of a reason. A failed one is retried at the next check. If the scan was
// assigned meanwhile, the end of that write decides.
func (s *Scheduler) reasonWritten(st *scanState, obj *v1alpha1.ScanRequest, err error) {
	st.writingReason = false
	if s.scans[st.name] != st {
		return
	}
	if obj != nil && newer(obj, st.obj) {
		st.obj = obj
	}
	switch {
	case st.pending != nil:
	case errors.Is(err, pipeline.ErrGone):
		s.forget(st)
	default:
		s.settleAndQueue(st)
	}
	if err != nil && !errors.Is(err, pipeline.ErrStale) && !errors.Is(err, pipeline.ErrGone) && !errors.Is(err, context.Canceled) {
		s.opts.Observer.WriteFailed(writeReason.String())
		s.log.Error(err, "write of the reason for waiting failed", "scan", st.name.String())
	}
}

// storesAveraged is the number of stores that their average duration covers.
const storesAveraged = 64

// storesPerSecond is how many assignments can be stored per second with MaxWrites at a time, from the duration of the
// latest stores; zero before the first.
func (s *Scheduler) storesPerSecond() float64 {
	if s.storing <= 0 {
		return 0
	}
	return float64(s.opts.MaxWrites) / s.storing.Seconds()
}

// cancelRun releases what an assignment that was not stored had reserved.
func (s *Scheduler) cancelRun(st *scanState, wr *write, now time.Time) {
	if wr.kind != writeAssign {
		return
	}
	r := st.run
	since := st.waitingSince
	s.endRun(st, func(l *budget.Ledger, id string) { l.Cancel(id, now) })
	st.waitingSince = since
	if r != nil && s.budgets[r.budget] != nil {
		s.budgets[r.budget].blocked.Canceled(r.model, r.id)
	}
	if r != nil {
		s.refund(r)
	}
}
