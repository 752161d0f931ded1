// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/utils/ptr"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/budget"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/queue"
)

// scanState is the scheduler's state of an unfinished scan.
type scanState struct {
	name types.NamespacedName
	// obj is the newest version seen. It is shared with the cache and never changed.
	obj *v1alpha1.ScanRequest
	// seenAt is when the scan was first seen.
	seenAt time.Time
	// run is the current assignment: stored, or assumed while pending is set.
	run *run
	// pending is the write under way that decides what happens to the scan next. Until it ends, the scan is not
	// queued.
	pending *write
	// writingReason is true while the reason for waiting is being written. The scan keeps its place and its claims in
	// the queue and may be assigned meanwhile: the second write is folded into the result of the first, and Fold
	// drops a reason if there is an assignment.
	writingReason bool
	// holdUntil keeps the scan out of the queue after a failed write.
	holdUntil time.Time
	// waitingSince is when the scan last became ready to be assigned.
	waitingSince time.Time
	// size is the estimate of the next call.
	size size
	// failedWrites counts the status writes in a row that failed.
	failedWrites int
	// retry is the latest retry that was seen, and retrySeen when.
	retry     v1alpha1.RetryStatus
	retrySeen time.Time
	// deferUntil keeps the scan out of the queue while an obstacle of its own is in the way.
	deferUntil time.Time
	// aloneOn is the worker that is reserved for the scan, if any.
	aloneOn types.NamespacedName
	// checking is true while the scan is in reasonChecks.
	checking bool
}

// run is one assignment.
type run struct {
	id     string
	stage  v1alpha1.StageName
	worker types.NamespacedName
	canary bool                 // of the worker
	budget types.NamespacedName // zero if the stage needs no tokens
	model  string
	// formula is the estimate before calibration; zero for a run that an earlier leader began, which teaches nothing.
	formula  int64
	reserved int64
	// charge is what the queue charged the user; zero for a run that an earlier leader began.
	charge charge
	// before is what earlier runs of the stage had used.
	before v1alpha1.TokenUsage
	since  time.Time
}

// charge is what the queue charged for taking a scan.
type charge struct {
	lane   queue.Lane
	user   string
	tokens int64
}

// ScanChanged updates a scan from a watch event. It ignores versions older than the newest known one.
func (s *Scheduler) ScanChanged(obj *v1alpha1.ScanRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scanChanged(obj)
	s.wake()
}

func (s *Scheduler) scanChanged(obj *v1alpha1.ScanRequest) {
	name := types.NamespacedName{Namespace: obj.Namespace, Name: obj.Name}
	st := s.scans[name]
	switch {
	case st == nil && pipeline.IsFinished(&obj.Status):
		return
	case st == nil:
		st = &scanState{name: name, seenAt: s.clk.Now()}
		s.scans[name] = st
	case st.obj.UID != obj.UID:
		s.forget(st)
		st = &scanState{name: name, seenAt: s.clk.Now()}
		s.scans[name] = st
	case !newer(obj, st.obj):
		if obj.ResourceVersion == st.obj.ResourceVersion {
			st.obj = obj // the cache's copy: ours, of the initial state or of a write, can go
		}
		return
	}
	st.obj = obj
	if st.pending == nil { // otherwise the end of the write decides
		st.holdUntil = time.Time{}
		s.settleAndQueue(st)
	}
}

// ScanGone removes a deleted scan. What its call reserved stays charged, because the provider may have charged it.
func (s *Scheduler) ScanGone(name types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.scans[name]; st != nil {
		s.forget(st)
		s.wake()
	}
}

func (s *Scheduler) forget(st *scanState) {
	s.releaseAlone(st)
	s.endRun(st, func(l *budget.Ledger, id string) { l.Lost(id, s.clk.Now()) })
	s.queue.Remove(st.name.String())
	delete(s.scans, st.name)
}

// settleAndQueue brings the model in line with the newest version of a scan: it settles a run that has ended, adopts
// one that is new to this leader, and queues or dequeues the scan.
func (s *Scheduler) settleAndQueue(st *scanState) {
	a := st.obj.Status.Assignment
	if st.run != nil && (a == nil || a.ID != st.run.id) {
		s.settle(st)
	}
	if st.run == nil && a != nil {
		s.adopt(st, a)
	}
	switch {
	case pipeline.IsFinished(&st.obj.Status):
		s.releaseAlone(st)
		s.queue.Remove(st.name.String())
		delete(s.scans, st.name)
	case st.run != nil:
		s.queue.Remove(st.name.String())
		if _, live := s.workers[st.run.worker]; !live {
			s.release(st, v1alpha1.FailureWorkerLost, "the worker has no Lease")
		}
	default:
		s.enqueue(st)
	}
}

// settle settles a run that the scan no longer shows.
func (s *Scheduler) settle(st *scanState) {
	r, now := st.run, s.clk.Now()
	record := pipeline.Stage(&st.obj.Status, r.stage)
	if record == nil { // the status was rewritten by other means: the outcome is unknown
		s.endRun(st, func(l *budget.Ledger, id string) { l.Lost(id, now) })
		return
	}
	var class v1alpha1.FailureClass
	var code string
	var retryAfter time.Duration
	if f := record.Failure; f != nil && record.State != v1alpha1.StageSucceeded {
		class, code = f.Class, f.Code
		retryAfter = time.Duration(f.RetryAfterMilliseconds) * time.Millisecond
	}
	usage := v1alpha1.TokenUsage{
		Input:       record.Tokens.Input - r.before.Input,
		CachedInput: record.Tokens.CachedInput - r.before.CachedInput,
		Output:      record.Tokens.Output - r.before.Output,
	}
	took := record.FinishedAt.Sub(record.StartedAt.Time)
	switch {
	case r.charge == charge{}:
	case class != "" && !pipeline.CountsAsAttempt(class):
		s.refund(r)
	default:
		s.queue.Adjust(r.charge.lane, r.charge.user, r.reserved-r.charge.tokens)
	}
	s.observeCall(r, class, now)
	result := budget.Result{
		Usage: usage, Observation: record.RateLimit, Class: class, Code: code, RetryAfter: retryAfter,
		Scan: st.name.String(), Worker: r.worker.Name, OnlyWorker: s.onlyWorker(r.worker),
	}
	var charged int64
	s.endRun(st, func(l *budget.Ledger, id string) {
		switch class {
		case v1alpha1.FailureWorkerLost, v1alpha1.FailureDrained:
			l.Lost(id, now)
			return
		}
		settled := l.Settle(id, result, now)
		charged = settled.Charged
		if class == "" {
			s.estimator.Observe(string(r.stage), r.model, budget.Sample{
				Formula: r.formula, Charged: settled.Charged, Input: usage.Input, Output: usage.Output, Seconds: took.Seconds(), At: now,
			})
		}
	})
	if tb := s.budgets[r.budget]; tb != nil {
		tb.blocked.Settled(r.model, r.id, result, now)
		if explainsHold(class) {
			tb.lastProviderError = record.Message
		}
	}
	s.opts.Observer.Settled(StageRun{
		Budget: r.budget.Name, Model: r.model, Stage: r.stage, Class: class,
		Canary: r.canary, Reserved: r.reserved, Charged: charged, Usage: usage, Took: took,
	})
}

// explainsHold reports whether a failure of this class may hold a budget, so that its message says why.
func explainsHold(class v1alpha1.FailureClass) bool {
	switch class {
	case v1alpha1.FailureUnauthorized, v1alpha1.FailureQuotaExhausted, v1alpha1.FailureUnreachable,
		v1alpha1.FailureUnavailable, v1alpha1.FailureTimeout, v1alpha1.FailureBlocked:
		return true
	default:
		return false
	}
}

// onlyWorker reports whether a worker's pool has no other live worker.
func (s *Scheduler) onlyWorker(name types.NamespacedName) bool {
	w := s.workers[name]
	if w == nil {
		return false
	}
	p := s.pools[types.NamespacedName{Namespace: name.Namespace, Name: w.Pool}]
	if p == nil {
		return false
	}
	for other := range p.workers.all() {
		if other != w && !other.Draining {
			return false
		}
	}
	return true
}

// refund undoes the queue's charge for a run that does not count as an attempt: the scan returns to its old place.
func (s *Scheduler) refund(r *run) { s.queue.Refund(r.charge.lane, r.charge.user, r.charge.tokens) }

// endRun removes a run from its worker and its budget.
func (s *Scheduler) endRun(st *scanState, end func(*budget.Ledger, string)) {
	r := st.run
	if r == nil {
		return
	}
	st.run = nil
	st.waitingSince = s.clk.Now()
	s.releaseAlone(st)
	s.endProbe(r)
	s.addInFlight(r.worker, -1)
	s.running[stageKey{st.name.Namespace, r.stage}]--
	if tb := s.budgets[r.budget]; tb != nil {
		end(tb.ledger, r.id)
		s.logHold(tb)
	}
}

// adopt adds an assignment of an earlier leader to the model.
func (s *Scheduler) adopt(st *scanState, a *v1alpha1.Assignment) {
	st.run = s.runOf(st, a)
	s.addInFlight(st.run.worker, +1)
	s.running[stageKey{st.name.Namespace, a.Stage}]++
	if tb := s.budgets[st.run.budget]; tb != nil && a.ReservedTokens > 0 {
		tb.ledger.Reserve(a.ID, a.ReservedTokens, s.clk.Now())
	}
}

func (s *Scheduler) runOf(st *scanState, a *v1alpha1.Assignment) *run {
	r := &run{
		id: a.ID, stage: a.Stage, model: a.Model, reserved: a.ReservedTokens,
		worker: types.NamespacedName{Namespace: st.name.Namespace, Name: a.Worker},
		since:  a.AssignedAt.Time,
	}
	if w := s.workers[r.worker]; w != nil {
		r.canary = w.Canary
	}
	if a.Budget != "" {
		r.budget = types.NamespacedName{Namespace: st.name.Namespace, Name: a.Budget}
	}
	if record := pipeline.Stage(&st.obj.Status, a.Stage); record != nil {
		r.before = record.Tokens
	}
	return r
}

// release posts the release of a scan from a worker that is gone.
func (s *Scheduler) release(st *scanState, class v1alpha1.FailureClass, why string) {
	if st.pending != nil {
		return // when the write has ended, settleAndQueue sees that the worker is gone
	}
	s.post(st, &write{kind: writeRelease, event: pipeline.Released{AssignmentID: st.run.id, Class: class, Message: why}})
}

// enqueue adds a scan to the queue, at the place of its arrival, or rejects it if it can never be assigned.
func (s *Scheduler) enqueue(st *scanState) {
	if st.pending != nil {
		return
	}
	spec, status := &st.obj.Spec, &st.obj.Status
	stage := pipeline.NextStage(status)
	if terminal := s.unschedulableReason(st, s.byStage[stageKey{st.name.Namespace, stage}], stage, s.clk.Now()); terminal != nil {
		s.queue.Remove(st.name.String())
		s.post(st, &write{kind: writeReject, event: *terminal})
		return
	}
	if st.waitingSince.IsZero() {
		st.waitingSince = arrival(st)
	}
	item := queue.Item{
		Key:        st.name.String(),
		Lane:       s.lane(st, stage),
		StageIndex: pipeline.StageIndex(stage),
		Priority:   ptr.Deref(spec.Priority, 0),
		User:       st.name.Namespace + "/" + spec.UserID,
		Arrival:    arrival(st),
		Tokens:     roundUpTokens(s.estimateFor(st, stage)),
		NotBefore:  st.holdUntil,
		Suspended:  spec.Suspend,
	}
	now := s.clk.Now()
	if st.deferUntil.After(item.NotBefore) {
		item.NotBefore = st.deferUntil
	}
	if r := status.Retry; r != nil && r.Stage == stage {
		if at := st.retryAt(r, now); at.After(item.NotBefore) {
			item.NotBefore = at
		}
	}
	s.queue.Upsert(item, now)
	s.checkLater(st, now)
}

// retryAt is when a retry is due by this process's clock. The failure was recorded by a worker, whose clock may differ:
// what counts is the delay, from when the failure was seen here.
func (st *scanState) retryAt(r *v1alpha1.RetryStatus, now time.Time) time.Time {
	if st.retry != *r {
		st.retry, st.retrySeen = *r, now
	}
	at := st.retrySeen.Add(time.Duration(r.DelayMilliseconds) * time.Millisecond)
	if r.DelayMilliseconds == 0 || st.seenAt.Equal(st.retrySeen) && r.After.Time.Before(at) { // it failed before this leader's time
		return r.After.Time
	}
	return at
}

// roundUpTokens rounds up to 5 significant bits (≤ 6 % more). Estimates are learned and change slightly all the time;
// equal scans that were queued at different times must have equal sizes.
func roundUpTokens(tokens int64) int64 {
	unit := int64(1)
	for tokens/unit >= 32 {
		unit *= 2
	}
	return (tokens + unit - 1) / unit * unit
}

// lane is the queue's lane for a stage of a scan. Scans without spec.model share the lane of the default model.
func (s *Scheduler) lane(st *scanState, stage v1alpha1.StageName) queue.Lane {
	lane := queue.Lane{Namespace: st.name.Namespace, Stage: string(stage), Model: st.obj.Spec.Model}
	if pools := s.byStage[stageKey{st.name.Namespace, stage}]; lane.Model == "" && len(pools) > 0 {
		lane.Model = s.model(pools[0], &st.obj.Spec)
	}
	return lane
}

// arrival is when the scan was accepted. It does not change, so the scan keeps its place for all stages and attempts.
func arrival(st *scanState) time.Time {
	if at := st.obj.Status.AcceptedAt; !at.IsZero() {
		return at.Time
	}
	return pipeline.AcceptedAt(st.obj.CreationTimestamp.Time, st.seenAt)
}

// requeueAll requeues a namespace's waiting scans after its pools or budgets have changed. If the groups of budgets
// have changed, it empties the queue first, because only an empty lane can change its domain.
func (s *Scheduler) requeueAll(namespace string) {
	if s.regroup() {
		for _, st := range s.scans {
			if st.name.Namespace == namespace {
				s.queue.Remove(st.name.String())
			}
		}
	}
	for _, st := range s.scans {
		if st.name.Namespace == namespace && st.run == nil {
			s.enqueue(st)
		}
	}
}

// newer reports whether a is a later version of the object than b. Versions that cannot be compared count as newer.
func newer(a, b *v1alpha1.ScanRequest) bool {
	if a.ResourceVersion == b.ResourceVersion {
		return false
	}
	c, err := resourceversion.CompareResourceVersion(a.ResourceVersion, b.ResourceVersion)
	return err != nil || c > 0
}
