// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/budget"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// QueuePosition is the place of a queued scan, its estimated wait and the reason for it.
type QueuePosition struct {
	// Ahead is the number of scans that go first, TokensAhead what they reserve.
	Ahead       int
	TokensAhead int64
	// Wait is the estimated time until the scan is assigned, if WaitKnown.
	Wait      time.Duration
	WaitKnown bool
	// Reason and Message explain why the scan waits.
	Reason, Message string
}

// QueuePosition returns the position of a queued scan; ok is false for a scan that is not queued.
func (s *Scheduler) QueuePosition(name types.NamespacedName) (position QueuePosition, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.scans[name]
	if st == nil || !s.waits(st) {
		return QueuePosition{}, false
	}
	return s.queuePosition(st, s.clk.Now()), true
}

// BudgetStats returns the figures of a budget's ledger; ok is false for an unknown budget.
func (s *Scheduler) BudgetStats(name types.NamespacedName) (stats budget.Stats, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tb := s.budgets[name]
	if tb == nil {
		return budget.Stats{}, false
	}
	return tb.ledger.Stats(s.clk.Now()), true
}

// BudgetEstimates returns the learned costs of calls with a budget's models, the latest first.
func (s *Scheduler) BudgetEstimates(name types.NamespacedName) []budget.Estimate {
	s.mu.Lock()
	defer s.mu.Unlock()
	tb := s.budgets[name]
	if tb == nil {
		return nil
	}
	return slices.DeleteFunc(s.estimator.Snapshot(), func(e budget.Estimate) bool { return !tb.serves(e.Model) })
}

// LastProviderError returns the provider's message of the last call that it rejected for a budget's key or quota.
func (s *Scheduler) LastProviderError(name types.NamespacedName) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if tb := s.budgets[name]; tb != nil {
		return tb.lastProviderError
	}
	return ""
}

// Budgets lists the names of the budgets.
func (s *Scheduler) Budgets() []types.NamespacedName {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]types.NamespacedName, 0, len(s.budgets))
	for name := range s.budgets {
		names = append(names, name)
	}
	return names
}

// Backlog sums up waiting scans.
type Backlog struct {
	Scans int
	// Oldest is the longest time that one of them has waited for its stage.
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
