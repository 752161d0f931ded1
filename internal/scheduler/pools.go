package scheduler

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// pool is a WorkerPool, its workers, and what each of its budgets was given.
type pool struct {
	name    types.NamespacedName
	spec    v1alpha1.WorkerPoolSpec
	workers workerSet
	// signaledWorkers is the number of workers its calls were last said to want; see Options.Wanted.
	signaledWorkers int
	// charged counts the tokens each budget was given by this pool, divided by the budget's weight: the budget
	// with the least is asked first.
	charged map[string]float64
}

// budgetsByShare orders the pool's budgets by what they were given for their weight, least first. One that is new to the
// pool starts level with the one that was given least.
func (p *pool) budgetsByShare() []v1alpha1.BudgetReference {
	refs := p.spec.Budgets
	if len(refs) < 2 {
		return refs
	}
	least, some := 0.0, false
	for _, given := range p.charged {
		if !some || given < least {
			least, some = given, true
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

// charge notes that a budget was given a call. Those that pay for nothing at all meanwhile stay level with it, or they
// would be given everything when they are back, until they had caught up. One that is only full catches up.
func (p *pool) charge(ref v1alpha1.BudgetReference, tokens int64, away []string) {
	for _, name := range away {
		p.charged[name] = max(p.charged[name], p.charged[ref.Name])
	}
	p.charged[ref.Name] += float64(tokens) / float64(max(ref.Weight, 1))
}

// PoolChanged adds or replaces a pool.
func (s *Scheduler) PoolChanged(obj *v1alpha1.WorkerPool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setPool(obj)
	s.requeueAll(obj.Namespace) // the pool's settings decide how large its calls are
	s.wake()
}

// PoolGone forgets a pool. Its workers stay registered and finish what they have.
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
		p = &pool{name: name, charged: map[string]float64{}}
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

// indexPools rebuilds the index of pools by stage, in the order of their names so that decisions are
// repeatable.
func (s *Scheduler) indexPools() {
	clear(s.byStage)
	for _, p := range s.pools {
		for _, stage := range p.spec.Stages {
			k := stageKey{p.name.Namespace, stage}
			s.byStage[k] = append(s.byStage[k], p)
		}
	}
	for _, pools := range s.byStage {
		slices.SortFunc(pools, func(a, b *pool) int {
			if a.name.Name < b.name.Name {
				return -1
			}
			return 1
		})
	}
}

// model is the model a scan is run with in this pool: its own, or the pool's.
func (s *Scheduler) model(p *pool, spec *v1alpha1.ScanRequestSpec) string {
	if spec.Model != "" {
		return spec.Model
	}
	if p.spec.StageDefaults.Model != "" {
		return p.spec.StageDefaults.Model
	}
	for _, ref := range p.spec.Budgets {
		if a := s.budgets[types.NamespacedName{Namespace: p.name.Namespace, Name: ref.Name}]; a != nil {
			return a.spec.Models[0]
		}
	}
	return ""
}
