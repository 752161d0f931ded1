// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

const (
	// ejectAfter is how many calls in a row must fail at one worker, while another worker's calls to the same budget
	// work, before the worker is ejected for that budget. A worker whose calls fail fast always has a free slot, so that
	// it would take nearly all calls.
	ejectAfter = 3
	// An ejected worker is given one call at a time: the first one after probeFirst, then after twice as long for each
	// that fails, up to probeLast. One that works ends the ejection.
	probeFirst = time.Second
	probeLast  = 30 * time.Second
	// keyMissingFor is how long a worker is not used for a budget whose key it has not mounted yet. The kubelet mounts a
	// new Secret within about a minute.
	keyMissingFor = 10 * time.Second
	// deferFor is how long a scan waits for a worker that suits it alone before it asks again.
	deferFor = 250 * time.Millisecond
)

// link is what the outcomes of a worker's calls to one budget's provider show.
type link struct {
	// failures counts the calls in a row that failed on their way; failingSince is when the first of them ended.
	failures     int
	failingSince time.Time
	// worked is when the latest call began that brought a response.
	worked time.Time
	// ejected means that only probe calls are sent, not before probeAt, one at a time. probe is the assignment of the
	// one under way.
	ejected  bool
	probeAt  time.Time
	interval time.Duration
	probe    string
}

// usable reports whether a call may be given to the worker, and if not, when that may change; zero if an event does.
func (l *link) usable(now time.Time) (ok bool, at time.Time) {
	switch {
	case l == nil || !l.ejected:
		return true, time.Time{}
	case l.probe != "":
		return false, time.Time{}
	default:
		return !now.Before(l.probeAt), l.probeAt
	}
}

// probeLater schedules the next probe call.
func (l *link) probeLater(now time.Time, interval time.Duration) {
	l.interval, l.probeAt = interval, now.Add(interval)
}

// usable reports whether the worker may be given a call that one of the pool's budgets pays for, and if not, when that
// may change.
func (w *worker) usable(p *pool, now time.Time) (ok bool, at time.Time) {
	for _, ref := range p.spec.Budgets {
		free, when := w.links[ref.Name].usable(now)
		if free {
			return true, time.Time{}
		}
		at = earliest(at, when)
	}
	return len(p.spec.Budgets) == 0, at
}

// observeCall updates the link of a run's worker and budget with the outcome of its call.
func (s *Scheduler) observeCall(r *run, class v1alpha1.FailureClass, now time.Time) {
	w := s.workers[r.worker]
	if w == nil || r.budget.Name == "" {
		return
	}
	l := w.links[r.budget.Name]
	if l == nil {
		l = &link{}
		if w.links == nil {
			w.links = map[string]*link{}
		}
		w.links[r.budget.Name] = l
	}
	wasProbe := l.probe == r.id
	if wasProbe {
		l.probe = ""
	}
	switch class {
	case v1alpha1.FailureWorkerLost, v1alpha1.FailureDrained:
	case v1alpha1.FailureKeyMissing:
		s.eject(w, r.budget.Name, l, "the key is not mounted yet")
		l.probeLater(now, keyMissingFor)
	case v1alpha1.FailureUnreachable, v1alpha1.FailureUnavailable, v1alpha1.FailureTimeout, v1alpha1.FailureInternal:
		if l.failures == 0 {
			l.failingSince = now
		}
		l.failures++
		switch {
		case wasProbe:
			l.probeLater(now, min(2*l.interval, probeLast))
		case !l.ejected && l.failures >= ejectAfter && s.worksElsewhere(w, r.budget.Name, l.failingSince):
			s.eject(w, r.budget.Name, l, "its calls fail, those of other workers work")
			l.probeLater(now, probeFirst)
		}
	default:
		if l.ejected {
			s.log.Info("worker restored", "worker", w.Name.Name, "pool", w.Pool, "budget", r.budget.Name)
		}
		*l = link{worked: r.since}
	}
}

// beginProbe notes a run that is the probe call of an ejected worker.
func (s *Scheduler) beginProbe(r *run) {
	if l := s.linkOf(r); l != nil && l.ejected {
		l.probe = r.id
	}
}

// endProbe notes the end of a run, whatever it was.
func (s *Scheduler) endProbe(r *run) {
	if l := s.linkOf(r); l != nil && l.probe == r.id {
		l.probe = ""
	}
}

// linkOf is the link of a run's worker and budget, or nil.
func (s *Scheduler) linkOf(r *run) *link {
	if w := s.workers[r.worker]; w != nil {
		return w.links[r.budget.Name]
	}
	return nil
}

func (s *Scheduler) eject(w *worker, budget string, l *link, why string) {
	if !l.ejected {
		l.ejected = true
		s.log.Info("worker ejected", "worker", w.Name.Name, "pool", w.Pool, "budget", budget, "reason", why, "failures", l.failures)
	}
}

// worksElsewhere reports whether another worker of the pool has had a response to a call that began after an instant. If
// none has, the provider may be the reason, and the budget's hold takes care of it.
func (s *Scheduler) worksElsewhere(w *worker, budget string, since time.Time) bool {
	p := s.poolOf(w)
	if p == nil {
		return false
	}
	for other := range p.workers.all() {
		if l := other.links[budget]; other != w && l != nil && l.worked.After(since) {
			return true
		}
	}
	return false
}

// probeEjected lets all workers that are ejected for a budget be probed at once, when the budget's hold has ended: they
// may have been ejected for the provider's failures.
func (s *Scheduler) probeEjected(budget types.NamespacedName) {
	now := s.clk.Now()
	for _, w := range s.workers {
		if l := w.links[budget.Name]; w.Name.Namespace == budget.Namespace && l != nil && l.ejected {
			l.probeLater(now, probeFirst)
			l.probeAt = now
		}
	}
}

func (s *Scheduler) poolOf(w *worker) *pool {
	return s.pools[types.NamespacedName{Namespace: w.Name.Namespace, Name: w.Pool}]
}

// pickWorker returns the worker of a pool for the next stage of a scan, or why there is none.
func (s *Scheduler) pickWorker(p *pool, st *scanState, stage v1alpha1.StageName, now time.Time) (*worker, denial) {
	record := pipeline.Stage(&st.obj.Status, stage)
	if record != nil && record.Losses >= pipeline.MaxLosses {
		return s.pickAlone(p, st, record, now)
	}
	w := p.workers.next(p.spec.Canary)
	if w == nil {
		return nil, denied(v1alpha1.ReasonWaitingForWorker, busyMessage(p))
	}
	calls := pipeline.NeedsTokens(stage)
	usable := func(w *worker) (bool, time.Time) {
		if !calls {
			return true, time.Time{}
		}
		return w.usable(p, now)
	}
	if ok, _ := usable(w); ok && !failedAt(record, w) {
		return w, denial{}
	}
	var best, fallback *worker // fallback is where the stage failed last
	busy := false              // another worker will do, once it has a free slot
	var retryAt time.Time
	for other := range p.workers.all() {
		ok, at := usable(other)
		switch failed := failedAt(record, other); {
		case other.Draining:
		case !ok:
			retryAt = earliest(retryAt, at)
		case other.free() && failed:
			fallback = other
		case other.free():
			if best == nil || lessLoaded(other, best) {
				best = other
			}
		case !failed:
			busy = true
		}
	}
	switch {
	case best != nil:
		return best, denial{}
	case busy:
		d := denied(v1alpha1.ReasonWaitingForWorker, busyMessage(p))
		d.deferUntil = now.Add(deferFor)
		return nil, d
	case fallback != nil:
		return fallback, denial{}
	default: // every worker with a free slot is ejected
		d := denied(v1alpha1.ReasonWaitingForWorker, ejectedMessage(p))
		d.retryAt = retryAt
		return nil, d
	}
}

// failedAt reports whether the stage's latest run failed at this worker in a way that another one may not.
func failedAt(record *v1alpha1.StageStatus, w *worker) bool {
	if record == nil || record.Failure == nil || record.Worker != w.Name.Name {
		return false
	}
	switch record.Failure.Class {
	case v1alpha1.FailureUnreachable, v1alpha1.FailureUnavailable, v1alpha1.FailureTimeout, v1alpha1.FailureInternal,
		v1alpha1.FailureKeyMissing:
		return true
	default:
		return false
	}
}

// pickAlone returns a worker that runs nothing else. It takes the least loaded one out of use until that has finished its
// runs: a scan that kills its workers must not take others with it.
func (s *Scheduler) pickAlone(p *pool, st *scanState, record *v1alpha1.StageStatus, now time.Time) (*worker, denial) {
	calls := pipeline.NeedsTokens(record.Name)
	var best *worker
	for w := range p.workers.all() {
		if w.alone == st.name {
			best = w
			break
		}
		ok, _ := w.usable(p, now)
		if w.Draining || w.alone != (types.NamespacedName{}) || calls && !ok {
			continue
		}
		if best == nil || lessLoaded(w, best) {
			best = w
		}
	}
	if best == nil {
		d := denied(v1alpha1.ReasonWaitingForWorker, busyMessage(p))
		d.deferUntil = now.Add(deferFor)
		return nil, d
	}
	if best.alone != st.name {
		s.releaseAlone(st)
		best.alone, st.aloneOn = st.name, best.Name
		s.reheap(best)
		s.log.Info("worker reserved for one scan", "worker", best.Name.Name, "pool", best.Pool, "scan", st.name.String(), "losses", record.Losses)
	}
	if best.inFlight > 0 {
		d := denied(v1alpha1.ReasonWaitingForWorker, "its workers were lost; it waits for worker "+best.Name.Name+" to finish its runs, to run alone there")
		d.deferUntil = now.Add(deferFor)
		return nil, d
	}
	return best, denial{}
}

// releaseAlone gives a worker that was reserved for one scan back to all.
func (s *Scheduler) releaseAlone(st *scanState) {
	if w := s.workers[st.aloneOn]; w != nil && w.alone == st.name {
		w.alone = types.NamespacedName{}
		s.reheap(w)
	}
	st.aloneOn = types.NamespacedName{}
}

// lessLoaded reports whether a has the smaller share of its slots in use than b.
func lessLoaded(a, b *worker) bool {
	// a.inFlight/a.Capacity < b.inFlight/b.Capacity, without division.
	if l, r := a.inFlight*b.Capacity, b.inFlight*a.Capacity; l != r {
		return l < r
	}
	return a.Name.Name < b.Name.Name
}
