// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// pool is a WorkerPool, its workers, and what each of its budgets was charged.
type pool struct {
	name    types.NamespacedName
	spec    v1alpha1.WorkerPoolSpec
	workers workerSet
	// signaledWorkers is the number of workers that its calls needed at the last cycle; see Options.ScaleUp.
	signaledWorkers int
	// charged counts the tokens that this pool reserved from each budget, divided by the budget's weight. The budget
	// with the lowest count is tried first.
	charged map[string]float64
}

// budget is the full name of a budget that the pool refers to.
func (p *pool) budget(ref v1alpha1.BudgetReference) types.NamespacedName {
	return types.NamespacedName{Namespace: p.name.Namespace, Name: ref.Name}
}

// budgetsByShare orders the pool's budgets by weighted charge, lowest first. A budget that is new to the pool starts
// at the lowest charge of the others.
func (p *pool) budgetsByShare() []v1alpha1.BudgetReference {
	refs := p.spec.Budgets
	if len(refs) < 2 {
		return refs
	}
	least, found := 0.0, false
	for _, charged := range p.charged {
		if !found || charged < least {
			least, found = charged, true
		}
	}
	for _, ref := range refs {
		if _, known := p.charged[ref.Name]; !known {
			p.charged[ref.Name] = least
		}
	}
	refs = slices.Clone(refs)
	slices.SortStableFunc(refs, func(a, b v1alpha1.BudgetReference) int {
		return cmp.Compare(p.charged[a.Name], p.charged[b.Name])
	})
	return refs
}

// charge counts a call on a budget. The unavailable budgets are raised to the same level; otherwise they would get
// all calls once they are back, until they had caught up. A budget that is only short of tokens does catch up.
func (p *pool) charge(ref v1alpha1.BudgetReference, tokens int64, unavailable []string) {
	for _, name := range unavailable {
		p.charged[name] = max(p.charged[name], p.charged[ref.Name])
	}
	p.charged[ref.Name] += float64(tokens) / float64(max(ref.Weight, 1))
}

// PoolChanged adds or replaces a pool.
func (s *Scheduler) PoolChanged(obj *v1alpha1.WorkerPool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setPool(obj)
	s.requeueAll(obj.Namespace) // the size of calls depends on the pool's settings
	s.wake()
}

// PoolGone removes a deleted pool. Its workers stay registered and finish what they have.
func (s *Scheduler) PoolGone(name types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pools[name]; p != nil {
		for w := range p.workers.all() {
			w.index = -1
		}
		delete(s.pools, name)
		s.indexPools()
		s.requeueAll(name.Namespace)
		s.wake()
	}
}

func (s *Scheduler) setPool(obj *v1alpha1.WorkerPool) {
	name := types.NamespacedName{Namespace: obj.Namespace, Name: obj.Name}
	p := s.pools[name]
	if p == nil {
		p = &pool{name: name, workers: newWorkerSet(), charged: map[string]float64{}}
		s.pools[name] = p
		for _, w := range s.workers { // workers may have been seen before their pool
			if w.Name.Namespace == name.Namespace && w.Pool == name.Name {
				s.reheap(w)
			}
		}
	}
	p.spec = *obj.Spec.DeepCopy()
	for b := range p.charged {
		if !slices.ContainsFunc(p.spec.Budgets, func(ref v1alpha1.BudgetReference) bool { return ref.Name == b }) {
			delete(p.charged, b)
		}
	}
	s.indexPools()
}

// indexPools rebuilds the index of pools by stage. Pools are ordered by name, so that decisions are reproducible.
func (s *Scheduler) indexPools() {
	clear(s.byStage)
	for _, p := range s.pools {
		for _, stage := range p.spec.Stages {
			k := stageKey{p.name.Namespace, stage}
			s.byStage[k] = append(s.byStage[k], p)
		}
	}
	for _, pools := range s.byStage {
		slices.SortFunc(pools, func(a, b *pool) int { return cmp.Compare(a.name.Name, b.name.Name) })
	}
}

// model is the model that a scan runs with in a pool: its own, otherwise the pool's default, otherwise the first
// model of the pool's first budget.
func (s *Scheduler) model(p *pool, spec *v1alpha1.ScanRequestSpec) string {
	if spec.Model != "" {
		return spec.Model
	}
	if p.spec.StageDefaults.Model != "" {
		return p.spec.StageDefaults.Model
	}
	for _, ref := range p.spec.Budgets {
		if tb := s.budgets[p.budget(ref)]; tb != nil {
			return tb.spec.Models[0]
		}
	}
	return ""
}
