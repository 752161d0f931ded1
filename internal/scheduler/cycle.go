// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/budget"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/stages"
	"github.com/eco2-team/scan-operator/internal/queue"
)

// defaultCallTimeout is used for stages that make no call.
const defaultCallTimeout = time.Minute

// work is what a cycle decided to do.
type work struct {
	writes []*write
	// leaseChecks are the workers whose Lease is to be read.
	leaseChecks []types.NamespacedName
	// expired are the workers whose Lease is to be removed.
	expired []Worker
	// next is when to run the next cycle if no event comes first; zero for never.
	next time.Time
}

// cycle decides what to do now. It does no I/O: Run carries out what it returns.
func (s *Scheduler) cycle() work {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clk.Now()

	// 1. Find the workers whose Lease has to be read, because no renewal was seen in time, and the namespaces whose
	// changed specs count by now.
	var todo work
	todo.leaseChecks, todo.next = s.dueLeaseChecks(now)
	todo.expired, s.expired = s.expired, nil
	todo.next = earliest(todo.next, s.settleSpecs(now))

	// 2. Take the writes that events have posted: releases and rejections.
	room := s.opts.MaxWrites - s.writes
	var nextPosted time.Time
	todo.writes, nextPosted = s.takeOutbox(now, room)
	todo.next = earliest(todo.next, nextPosted)
	room -= len(todo.writes)

	// 3. Assign scans in the queue's order, as long as there is room for their writes.
	if room > 0 {
		clear(s.blocked)
		clear(s.claimed)
		s.queue.Pick(now, func(item queue.Item) queue.Decision {
			if room == 0 {
				return queue.Stop
			}
			if st := s.scans[parseName(item.Key)]; !s.mayWrite(st) {
				st.deferUntil = now.Add(deferFor)
				s.requeue = append(s.requeue, st)
				return queue.Drop
			}
			wr, decision := s.place(item, now)
			if wr != nil {
				todo.writes = append(todo.writes, wr)
				s.sent(wr)
				room--
			}
			return decision
		})

		// 4. Record why the first scan of each lane waits, and requeue those that can never be assigned: enqueue
		// rejects them.
		s.recordWaitReasons(now)
		s.requeueDropped()
	}

	// 5. Report the pools that need more workers.
	s.signalScaleUp()

	// 6. Write the reasons for waiting that have held for long enough, with the room that is left.
	reasons, nextReason := s.dueReasons(now, room)
	todo.writes = append(todo.writes, reasons...)
	s.writes += len(todo.writes)

	// 7. Find the next time at which something changes without an event.
	todo.next = earliest(todo.next, nextReason)
	for _, b := range s.blocked {
		todo.next = earliest(todo.next, b.retryAt)
	}
	if due, ok := s.queue.NextDue(); ok {
		todo.next = earliest(todo.next, due)
	}
	return todo
}

// place tries to assign the item's stage to a worker. It returns the write to do, if any, and the decision for the
// queue.
func (s *Scheduler) place(item queue.Item, now time.Time) (*write, queue.Decision) {
	st := s.scans[parseName(item.Key)]
	stage := v1alpha1.StageName(item.Lane.Stage)
	pools := s.byStage[stageKey{item.Lane.Namespace, stage}]
	if len(pools) == 0 {
		s.blocked[item.Lane] = waitReason{reason: v1alpha1.ReasonWaitingForWorker, message: noPoolMessage(stage)}
		return nil, queue.SkipLane
	}
	var nearest denial
	for _, p := range pools {
		w, d := s.pickWorker(p, st, stage, now)
		if w == nil {
			nearest.keepNearest(d)
			continue
		}
		r, d := s.reserve(st, p, w, stage, now)
		if r == nil {
			nearest.keepNearest(d)
			continue
		}
		r.worker, r.canary = w.Name, w.Canary
		r.charge = charge{item.Lane, item.User, item.Tokens}
		return s.assign(st, p, r, now), queue.Take
	}
	if !nearest.deferUntil.IsZero() {
		st.deferUntil = nearest.deferUntil
		s.requeue = append(s.requeue, st)
		return nil, queue.Drop
	}
	if nearest.impossible {
		s.requeue = append(s.requeue, st)
		return nil, queue.Drop
	}
	nearest.retryAt = earliest(s.blocked[item.Lane].retryAt, nearest.retryAt)
	s.blocked[item.Lane] = nearest.waitReason
	if nearest.onlyThis {
		return nil, queue.Skip
	}
	return nil, queue.SkipLane
}

// requeueDropped requeues the scans that the queue dropped in this cycle. Enqueue rejects those that can never be
// assigned, and delays those that are deferred.
func (s *Scheduler) requeueDropped() {
	for _, st := range s.requeue {
		s.enqueue(st)
	}
	s.requeue = s.requeue[:0]
}

// reserve reserves the tokens for a stage from one of the pool's budgets: of those that serve the model and have
// enough tokens, the one with the lowest weighted charge.
func (s *Scheduler) reserve(st *scanState, p *pool, w *worker, stage v1alpha1.StageName, now time.Time) (*run, denial) {
	r := &run{id: s.assignmentID(), stage: stage, since: now}
	if record := pipeline.Stage(&st.obj.Status, stage); record != nil {
		r.before = record.Tokens
	}
	if !pipeline.NeedsTokens(stage) {
		return r, denial{}
	}
	r.model = s.model(p, &st.obj.Spec)
	r.formula = s.formula(st, p, stage, r.model)
	r.reserved = s.estimator.Charge(string(stage), r.model, r.formula)

	var nearest denial
	var unavailable []string // budgets that admit nothing at all now
	for _, ref := range p.budgetsByShare() {
		tb := s.budgets[p.budget(ref)]
		switch {
		case tb == nil:
			nearest.keepNearest(denied(v1alpha1.ReasonWaitingForBudget, fmt.Sprintf("TokenBudget %q of WorkerPool %q does not exist; create it", ref.Name, p.name.Name)))
			unavailable = append(unavailable, ref.Name)
			continue
		case !tb.serves(r.model):
			if tb.justChanged(now) {
				nearest.keepNearest(unservedDenial(tb, r.model))
			}
			continue
		case !tb.key.Ready:
			nearest.keepNearest(denied(v1alpha1.ReasonWaitingForBudget, fmt.Sprintf("TokenBudget %q is not ready: %s", ref.Name, tb.key.Message)))
			unavailable = append(unavailable, ref.Name)
			continue
		}
		if ok, at := w.links[ref.Name].usable(now); !ok {
			d := denied(v1alpha1.ReasonWaitingForWorker, ejectedMessage(p))
			d.retryAt = at
			nearest.keepNearest(d)
			continue
		}
		free, probe, until := tb.blocked.Gate(r.model, now)
		if !free {
			nearest.keepNearest(blockedDenial(tb, r.model, until))
			unavailable = append(unavailable, ref.Name)
			continue
		}
		if until, claimed := s.claimed[tb.name]; claimed {
			nearest.keepNearest(claimedDenial(tb, until))
			continue
		}
		turn := tb.probeTurn(st, stage, r.model, now)
		v := tb.ledger.Reserve(r.id, r.reserved, now)
		if v.OK && (v.Probe || probe) && now.Before(turn) {
			tb.ledger.Cancel(r.id, now)
			nearest.keepNearest(otherProbeFirst(tb, turn))
			continue
		}
		if v.OK {
			tb.blocked.Sent(r.model, r.id)
			r.budget = tb.name
			p.charge(ref, r.reserved, unavailable)
			return r, denial{}
		}
		if v.Dimension == budget.Held || v.Dimension == budget.QuotaTokens {
			unavailable = append(unavailable, ref.Name)
		}
		d := budgetDenial(tb, v, r.reserved, now)
		if !d.onlyThis && (v.Dimension == budget.Tokens || v.Dimension == budget.Requests) {
			s.claimed[tb.name] = v.RetryAt
		}
		nearest.keepNearest(d)
	}
	return nil, nearest
}

// serves reports whether the budget is for a model.
func (tb *budgetState) serves(model string) bool {
	_, ok := tb.models[model]
	return ok
}

// assign assumes the assignment: from now on the worker and the budget count it as running.
func (s *Scheduler) assign(st *scanState, p *pool, r *run, now time.Time) *write {
	st.run = r
	p.workers.assigned(r.canary, p.spec.Canary)
	s.beginProbe(r)
	s.addInFlight(r.worker, +1)
	s.running[stageKey{st.name.Namespace, r.stage}]++
	timeout := defaultCallTimeout
	if t := p.spec.StageDefaults.TimeoutSeconds; t > 0 {
		timeout = time.Duration(t) * time.Second
	}
	deadline := now.Add(timeout)
	if end := pipeline.Deadline(st.obj.Spec, st.obj.CreationTimestamp.Time); end.Before(deadline) {
		deadline = end
	}
	a := v1alpha1.Assignment{
		ID: r.id, Stage: r.stage, Worker: r.worker.Name, Pool: p.name.Name, Budget: r.budget.Name, Model: r.model,
		Attempt: 1, ReservedTokens: r.reserved, MaxAttempts: max(p.spec.StageDefaults.MaxAttempts, 1),
	}
	a.Deadline.Time = deadline
	if record := pipeline.Stage(&st.obj.Status, r.stage); record != nil {
		a.Attempt = record.Attempts + 1
	}
	if pipeline.NeedsTokens(r.stage) {
		a.MaxOutputTokens = p.spec.StageDefaults.MaxOutputTokens
	}
	if r.stage == v1alpha1.StageVision {
		a.ImageDetail = p.spec.StageDefaults.ImageDetail
	}
	s.opts.Observer.Assigned(p.name.Name, r.stage, now.Sub(st.waitingSince))
	wr := &write{kind: writeAssign, event: pipeline.Assigned{Assignment: a, AcceptedAt: st.seenAt}}
	s.prepare(st, wr)
	return wr
}

// unschedulableReason returns why a scan can never be assigned with the present pools and budgets, or nil.
func (s *Scheduler) unschedulableReason(st *scanState, pools []*pool, stage v1alpha1.StageName, now time.Time) *pipeline.Rejected {
	if len(pools) == 0 || !pipeline.NeedsTokens(stage) {
		return nil
	}
	var models, tooLarges []string
	for _, p := range pools {
		model := s.model(p, &st.obj.Spec)
		need := s.estimator.Charge(string(stage), model, s.formula(st, p, stage, model))
		for _, ref := range p.spec.Budgets {
			tb := s.budgets[p.budget(ref)]
			if tb == nil {
				return nil // it may be created later
			}
			models = append(models, tb.spec.Models...)
			if !tb.serves(model) {
				if tb.justChanged(now) {
					return nil
				}
				continue
			}
			v := tb.ledger.Check(need, now)
			if v.Dimension != budget.TooLarge || !tb.final(v, now) {
				return nil
			}
			tooLarges = append(tooLarges, tooLarge(tb, v))
		}
	}
	if len(tooLarges) > 0 {
		return &pipeline.Rejected{Reason: v1alpha1.ReasonRequestTooLarge, Message: fmt.Sprintf("stage %s cannot run: %s"+
			"; raise that limit or lower the pool's stageDefaults.maxOutputTokens, then create the scan again", stage, strings.Join(tooLarges, "; "))}
	}
	slices.Sort(models)
	return &pipeline.Rejected{Reason: v1alpha1.ReasonUnsupportedModel, Message: fmt.Sprintf(
		"no TokenBudget of the pools for stage %s serves model %q; supported: %s",
		stage, s.model(pools[0], &st.obj.Spec), strings.Join(slices.Compact(models), ", "))}
}

// size is a call's estimate before calibration, and what it was estimated for.
type size struct {
	stage     v1alpha1.StageName
	model     string
	maxOutput int32
	detail    v1alpha1.ImageDetail
	tokens    int64
}

// formula is the estimate of a call before calibration, in tokens. The scan caches it: building the call to size it is
// the most expensive step of a decision.
func (s *Scheduler) formula(st *scanState, p *pool, stage v1alpha1.StageName, model string) int64 {
	d := &p.spec.StageDefaults
	want := size{stage: stage, model: model, maxOutput: d.MaxOutputTokens, detail: d.ImageDetail, tokens: st.size.tokens}
	if st.size != want {
		scan := stages.Scan{Spec: st.obj.Spec, Assignment: v1alpha1.Assignment{
			Stage: stage, Model: model, MaxOutputTokens: d.MaxOutputTokens, ImageDetail: d.ImageDetail,
		}}
		if st.obj.Status.Result != nil {
			scan.Result = *st.obj.Status.Result
		}
		want.tokens = stages.EstimateStage(s.opts.Pack, scan)
		st.size = want
	}
	return st.size.tokens
}

// estimateFor is what a stage would reserve in the first pool that runs it; zero for a stage that needs no tokens.
func (s *Scheduler) estimateFor(st *scanState, stage v1alpha1.StageName) int64 {
	pools := s.byStage[stageKey{st.name.Namespace, stage}]
	if len(pools) == 0 || !pipeline.NeedsTokens(stage) {
		return 0
	}
	model := s.model(pools[0], &st.obj.Spec)
	return s.estimator.Charge(string(stage), model, s.formula(st, pools[0], stage, model))
}

// parseName is the inverse of NamespacedName.String.
func parseName(key string) types.NamespacedName {
	namespace, name, _ := strings.Cut(key, "/")
	return types.NamespacedName{Namespace: namespace, Name: name}
}
