package scheduler

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/budget"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// QueuePosition is where a waiting scan stands.
type QueuePosition struct {
	// Ahead is the number of scans that go first, TokensAhead what they reserve.
	Ahead       int
	TokensAhead int64
	// Wait is the estimated time until the scan is assigned, if WaitKnown.
	Wait      time.Duration
	WaitKnown bool
	// Reason and Message say why the scan waits.
	Reason, Message string
}

// QueuePosition says where a waiting scan stands; ok is false for a scan that does not wait.
func (s *Scheduler) QueuePosition(name types.NamespacedName) (standing QueuePosition, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.scans[name]
	if st == nil || !s.waits(st) {
		return QueuePosition{}, false
	}
	return s.queuePosition(st, s.clk.Now()), true
}

// PoolLoad is the work of a pool.
type PoolLoad struct {
	// Queued is the number of scans ready for a stage of the pool, without those that back off or are suspended.
	Queued int
	// InFlight is the number of scans the pool's workers have.
	InFlight int
	// Active is the number of live workers that take work.
	Active int
}

// PoolLoad returns the work of a pool; ok is false for a pool that is not known.
func (s *Scheduler) PoolLoad(name types.NamespacedName) (load PoolLoad, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pools[name]
	if p == nil {
		return PoolLoad{}, false
	}
	for w := range p.workers.all() {
		load.InFlight += w.inFlight
		if !w.Draining {
			load.Active++
		}
	}
	for _, stage := range p.spec.Stages {
		load.Queued += s.queue.Ready(name.Namespace, string(stage))
	}
	return load, true
}

// BudgetStats returns the figures of a budget's ledger; ok is false for a budget that is not known.
func (s *Scheduler) BudgetStats(name types.NamespacedName) (stats budget.Stats, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tb := s.budgets[name]
	if tb == nil {
		return budget.Stats{}, false
	}
	return tb.ledger.Stats(s.clk.Now()), true
}

// BudgetEstimates returns what is known of the calls of a budget's models, the latest first.
func (s *Scheduler) BudgetEstimates(name types.NamespacedName) []budget.Estimate {
	s.mu.Lock()
	defer s.mu.Unlock()
	tb := s.budgets[name]
	if tb == nil {
		return nil
	}
	return slices.DeleteFunc(s.estimator.Snapshot(), func(e budget.Estimate) bool { return !tb.serves(e.Model) })
}

// LastProviderError returns what the provider said when it last refused a budget's key or quota.
func (s *Scheduler) LastProviderError(name types.NamespacedName) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if tb := s.budgets[name]; tb != nil {
		return tb.lastProviderError
	}
	return ""
}

// Budgets lists the known budgets.
func (s *Scheduler) Budgets() []types.NamespacedName {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]types.NamespacedName, 0, len(s.budgets))
	for name := range s.budgets {
		names = append(names, name)
	}
	return names
}

// Backlog is a number of scans that wait.
type Backlog struct {
	Scans int
	// Oldest is how long the one that has waited longest for its stage has.
	Oldest time.Duration
}

// Waiting sums up the waiting scans by stage and reason, for metrics.
func (s *Scheduler) Waiting() map[v1alpha1.StageName]map[string]Backlog {
	s.mu.Lock()
	defer s.mu.Unlock()
	sums := map[v1alpha1.StageName]map[string]Backlog{}
	now := s.clk.Now()
	for _, st := range s.scans {
		if !s.waits(st) {
			continue
		}
		stage, reason := pipeline.NextStage(&st.obj.Status), s.reasonOf(st, now)
		if sums[stage] == nil {
			sums[stage] = map[string]Backlog{}
		}
		b := sums[stage][reason]
		b.Scans++
		b.Oldest = max(b.Oldest, now.Sub(st.waitingSince))
		sums[stage][reason] = b
	}
	return sums
}
