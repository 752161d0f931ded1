// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/budget"
)

// State is what a new leader reads from the API server.
type State struct {
	Pools   []*v1alpha1.WorkerPool
	Budgets []*v1alpha1.TokenBudget
	// Keys holds the state of each budget's key, in the order of Budgets.
	Keys    []KeyState
	Workers []Worker
	Scans   []*v1alpha1.ScanRequest
}

// Restore rebuilds the model from the objects: it adopts running calls and queues the other scans. Each ledger starts
// from the most conservative reading of the budget's status, the estimator from the costs in it. Call Restore once,
// before Run and before any event.
func (s *Scheduler) Restore(state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range state.Pools {
		s.setPool(p)
	}
	s.estimator.Restore(estimatesOf(state.Budgets))
	now := s.clk.Now()
	for i, b := range state.Budgets {
		tb := s.setBudget(b, state.Keys[i])
		reservations := reservationsOf(b, state.Scans)
		if b.Status.Bucket != nil || len(reservations) > 0 { // otherwise nothing was ever sent: the bucket is full
			tb.ledger.Restore(snapshotOf(&b.Status), reservations, now)
		}
	}
	s.regroup()
	for _, info := range state.Workers {
		w := &worker{Worker: info, index: -1}
		w.renewed(now, info.LeaseDuration) // from now: the age of the renewal by this clock is unknown
		s.workers[info.Name] = w
		s.reheap(w)
	}
	for _, obj := range state.Scans {
		s.scanChanged(obj)
	}
	running := 0
	for _, st := range s.scans {
		if st.run != nil {
			running++
		}
	}
	s.log.Info("scheduler restored", "pools", len(s.pools), "budgets", len(s.budgets), "workers", len(s.workers),
		"scans", len(s.scans), "running", running)
	close(s.restored)
	s.wake()
}

// AwaitRestore returns when Restore has ended, or with the error of ctx. Until then the scheduler's figures are wrong.
func (s *Scheduler) AwaitRestore(ctx context.Context) error {
	select {
	case <-s.restored:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the scheduler's state: %w", ctx.Err())
	}
}

// reservationsOf returns the running calls of a budget, and those it was charged for since the last leader wrote its
// status.
func reservationsOf(b *v1alpha1.TokenBudget, scans []*v1alpha1.ScanRequest) []budget.Reservation {
	var since time.Time
	if b.Status.Bucket != nil {
		since = b.Status.Bucket.At.Time
	}
	var found []budget.Reservation
	for _, scan := range scans {
		if scan.Namespace != b.Namespace {
			continue
		}
		a := scan.Status.Assignment
		if a != nil && a.Budget == b.Name && a.ReservedTokens > 0 {
			found = append(found, reservationOf(a))
		}
		for i := range scan.Status.Stages {
			st := &scan.Status.Stages[i]
			running := a != nil && a.Stage == st.Name
			if !running && st.Budget == b.Name && st.Tokens.Reserved > 0 && st.FinishedAt.After(since) {
				found = append(found, budget.Reservation{
					ID: string(scan.UID) + "/" + string(st.Name), Tokens: st.Tokens.Reserved, At: st.StartedAt.Time, Done: true,
					Usage: st.Tokens,
				})
			}
		}
	}
	return found
}

func reservationOf(a *v1alpha1.Assignment) budget.Reservation {
	return budget.Reservation{ID: a.ID, Tokens: a.ReservedTokens, At: a.AssignedAt.Time}
}

// estimatesOf reads the costs of calls that the last leader learned.
func estimatesOf(budgets []*v1alpha1.TokenBudget) []budget.Estimate {
	var found []budget.Estimate
	for _, b := range budgets {
		for _, e := range b.Status.Estimates {
			found = append(found, budget.Estimate{
				Stage: string(e.Stage), Model: e.Model, Ratio: int64(e.ReservedPercent) * 10, Proofs: int(e.ChargeSamples),
				Usual: budget.Expectation{
					Charge: float64(e.ChargeTokens), Input: float64(e.InputTokens), Output: float64(e.OutputTokens),
					Seconds: float64(e.DurationMilliseconds) / 1000, Samples: e.Calls,
				},
				At: e.LastCallAt.Time,
			})
		}
	}
	return found
}

// snapshotOf reads the ledger's figures that the last leader wrote.
func snapshotOf(s *v1alpha1.TokenBudgetStatus) budget.Snapshot {
	snapshot := budget.Snapshot{
		TokensPerMinute: s.Limits.TokensPerMinute, RequestsPerMinute: s.Limits.RequestsPerMinute,
		RequestsPerDay: s.Limits.RequestsPerDay, RatePercent: s.Limits.RatePercent,
		Totals: budget.Totals{
			Calls: s.Totals.Calls, InputTokens: s.Totals.InputTokens,
			CachedInputTokens: s.Totals.CachedInputTokens, OutputTokens: s.Totals.OutputTokens,
		},
	}
	if b := s.Bucket; b != nil {
		snapshot.At, snapshot.Tokens, snapshot.Requests = b.At.Time, b.Tokens, b.Requests
		snapshot.RequestWindow = time.Duration(b.RequestWindowSeconds) * time.Second
	}
	if q := s.Quota; q != nil {
		snapshot.QuotaUsed, snapshot.QuotaPeriodStart = q.UsedTokens, q.PeriodStart.Time
	}
	ready := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady)
	exhausted := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionQuotaExhausted)
	switch {
	case ready != nil && ready.Status == metav1.ConditionFalse && ready.Reason == v1alpha1.ReasonKeyRejected:
		snapshot.Hold = budget.HoldUnauthorized
	case exhausted != nil && exhausted.Status == metav1.ConditionTrue && exhausted.Reason == v1alpha1.ReasonProviderQuotaExhausted:
		snapshot.Hold = budget.HoldQuotaExhausted
	}
	ownQuota := exhausted != nil && exhausted.Status == metav1.ConditionTrue && snapshot.Hold == "" // resumeAt is the quota's end
	if s.ResumeAt != nil && !ownQuota {
		snapshot.ResumeAt = s.ResumeAt.Time
	}
	for _, t := range s.Throttles {
		switch t.Kind {
		case v1alpha1.FailureRateLimited:
			snapshot.Totals.RateLimitedTokens = t.Count
		case v1alpha1.FailureQuotaExhausted:
			snapshot.Totals.QuotaExhausted = t.Count
		case v1alpha1.FailureSlowDown:
			snapshot.Totals.SlowDown = t.Count
		}
	}
	return snapshot
}
