// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"slices"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/budget"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// KeyState is the state of a budget's key in its Secret.
type KeyState struct {
	// Ready is true if there is a key.
	Ready bool
	// Reason and Message explain why there is none.
	Reason, Message string
	// Version changes with the key.
	Version string
}

// budgetState is a TokenBudget and its ledger.
type budgetState struct {
	name   types.NamespacedName
	spec   v1alpha1.TokenBudgetSpec
	key    KeyState
	ledger *budget.Ledger
	models map[string]struct{}
	// lastProviderError is the provider's message of the last call that it rejected for the key or the quota.
	lastProviderError string
	// held is true while the ledger is held, so that each change is logged once.
	held bool
	// blocked are the models whose calls are blocked.
	blocked budget.BlockedModels
	// changedAt is when the limits or the models of the spec were last changed; zero if never.
	changedAt time.Time
}

const (
	// probePrecedence is how long other scans are preferred to those whose own calls were the reason of a hold.
	probePrecedence = 2 * time.Second
	// specSettle is how long a changed spec must have stood before a scan that it excludes is rejected: a mistake that is
	// corrected within a minute must not end what waits.
	specSettle = time.Minute
)

// justChanged reports whether the spec was changed too recently to reject a scan for what it says.
func (tb *budgetState) justChanged(now time.Time) bool {
	return !tb.changedAt.IsZero() && now.Sub(tb.changedAt) < specSettle
}

// settleSpecs requeues the scans of namespaces whose changed specs have stood for long enough to reject scans, and returns
// when the next ones will have.
func (s *Scheduler) settleSpecs(now time.Time) (next time.Time) {
	for namespace, at := range s.specsSettle {
		if now.Before(at) {
			next = earliest(next, at)
			continue
		}
		delete(s.specsSettle, namespace)
		s.requeueAll(namespace)
	}
	return next
}

// probeTurn returns when a scan may be the probe call of a held budget or a blocked model. A scan whose own call was a
// reason of the hold gives the others precedence, for the failure may be its own.
func (tb *budgetState) probeTurn(st *scanState, stage v1alpha1.StageName, model string, now time.Time) time.Time {
	record := pipeline.Stage(&st.obj.Status, stage)
	if record == nil || record.Failure == nil || !explainsHold(record.Failure.Class) {
		return time.Time{}
	}
	_, opened, _ := tb.ledger.Held(now)
	if _, _, at := tb.blocked.Gate(model, now); at.After(opened) {
		opened = at
	}
	return opened.Add(probePrecedence)
}

// BudgetChanged adds a budget, or updates its limits and its key. It does nothing if neither has changed.
func (s *Scheduler) BudgetChanged(obj *v1alpha1.TokenBudget, key KeyState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if tb := s.budgets[types.NamespacedName{Namespace: obj.Namespace, Name: obj.Name}]; tb != nil && tb.key == key && apiequality.Semantic.DeepEqual(tb.spec, obj.Spec) {
		return
	}
	s.setBudget(obj, key)
	s.requeueAll(obj.Namespace)
	s.wake()
}

// BudgetGone removes a deleted budget. Its running calls are no longer accounted for.
func (s *Scheduler) BudgetGone(name types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.budgets[name] != nil {
		delete(s.budgets, name)
		s.requeueAll(name.Namespace)
		s.wake()
	}
}

func (s *Scheduler) setBudget(obj *v1alpha1.TokenBudget, key KeyState) *budgetState {
	name, now := types.NamespacedName{Namespace: obj.Namespace, Name: obj.Name}, s.clk.Now()
	limits := limitsOf(&obj.Spec)
	tb := s.budgets[name]
	known := tb != nil
	if !known {
		tb = &budgetState{name: name, ledger: budget.New(limits, now)}
		s.budgets[name] = tb
	} else {
		tb.ledger.SetLimits(limits, now)
	}
	tb.ledger.SetKeyVersion(key.Version, now)
	if known && (!apiequality.Semantic.DeepEqual(limits, limitsOf(&tb.spec)) || !slices.Equal(tb.spec.Models, obj.Spec.Models)) {
		tb.changedAt = now
		s.specsSettle[name.Namespace] = now.Add(specSettle)
	}
	tb.spec, tb.key = *obj.Spec.DeepCopy(), key
	tb.models = make(map[string]struct{}, len(obj.Spec.Models))
	for _, m := range obj.Spec.Models {
		tb.models[m] = struct{}{}
	}
	tb.blocked.Only(tb.models)
	return tb
}

// logHold logs when a budget's hold begins or ends.
func (s *Scheduler) logHold(tb *budgetState) {
	reason, until, held := tb.ledger.Held(s.clk.Now())
	if held == tb.held {
		return
	}
	tb.held = held
	if held {
		s.log.Info("budget held", "budget", tb.name.String(), "reason", reason, "until", until)
	} else {
		s.log.Info("budget released", "budget", tb.name.String())
		s.probeEjected(tb.name)
	}
}

// limitsOf returns the ledger's limits for a budget's spec.
func limitsOf(spec *v1alpha1.TokenBudgetSpec) budget.Limits {
	l := budget.Limits{
		TokensPerMinute: spec.TokensPerMinute, RequestsPerMinute: spec.RequestsPerMinute,
		TargetUtilizationPercent: spec.TargetUtilizationPercent,
		FollowHeaders:            spec.RateLimitHeaders != v1alpha1.RateLimitHeadersIgnore,
	}
	if q := spec.Quota; q != nil {
		l.Quota = &budget.Quota{Tokens: q.Tokens, Period: q.Period}
	}
	return l
}
