package scheduler

import (
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/budget"
)

// Key is the state of a budget's key, as its Secret shows it.
type Key struct {
	// Ready says that there is a key.
	Ready bool
	// Reason and Message say why not.
	Reason, Message string
	// Version changes when the key does.
	Version string
}

// account is a TokenBudget and its ledger.
type account struct {
	name   types.NamespacedName
	spec   v1alpha1.TokenBudgetSpec
	key    Key
	ledger *budget.Ledger
	models map[string]struct{}
	// word is what the provider said when it last refused the key or the quota.
	word string
	// held is set while the ledger holds everything back, so that the change is logged once.
	held bool
}

// BudgetChanged adds a budget or changes its limits and its key. One that is as it was costs nothing.
func (s *Scheduler) BudgetChanged(obj *v1alpha1.TokenBudget, key Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if acc := s.budgets[types.NamespacedName{Namespace: obj.Namespace, Name: obj.Name}]; acc != nil && acc.key == key && apiequality.Semantic.DeepEqual(acc.spec, obj.Spec) {
		return
	}
	s.setBudget(obj, key)
	s.requeueAll(obj.Namespace)
	s.poke()
}

// BudgetGone forgets a budget. Calls that run on it end unaccounted.
func (s *Scheduler) BudgetGone(name types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.budgets[name] != nil {
		delete(s.budgets, name)
		s.requeueAll(name.Namespace)
		s.poke()
	}
}

func (s *Scheduler) setBudget(obj *v1alpha1.TokenBudget, key Key) *account {
	name, now := types.NamespacedName{Namespace: obj.Namespace, Name: obj.Name}, s.clk.Now()
	limits := limitsOf(&obj.Spec)
	acc := s.budgets[name]
	if acc == nil {
		acc = &account{name: name, ledger: budget.New(limits, now)}
		s.budgets[name] = acc
	} else {
		acc.ledger.SetLimits(limits, now)
	}
	acc.ledger.SetKeyVersion(key.Version, now)
	acc.spec, acc.key = *obj.Spec.DeepCopy(), key
	acc.models = make(map[string]struct{}, len(obj.Spec.Models))
	for _, m := range obj.Spec.Models {
		acc.models[m] = struct{}{}
	}
	return acc
}

// noteHold logs when a budget begins or ceases to hold everything back.
func (s *Scheduler) noteHold(acc *account) {
	reason, until, held := acc.ledger.Held(s.clk.Now())
	if held == acc.held {
		return
	}
	acc.held = held
	if held {
		s.log.Info("budget holds all calls", "budget", acc.name.String(), "reason", reason, "until", until)
	} else {
		s.log.Info("budget sends again", "budget", acc.name.String())
	}
}

// limitsOf translates a budget's specification.
func limitsOf(spec *v1alpha1.TokenBudgetSpec) budget.Limits {
	l := budget.Limits{
		TokensPerMinute: spec.TokensPerMinute, RequestsPerMinute: spec.RequestsPerMinute,
		TargetUtilizationPercent: spec.TargetUtilizationPercent,
		FollowHeaders:            spec.FollowHeaders == nil || *spec.FollowHeaders,
	}
	if q := spec.Quota; q != nil {
		l.Quota = &budget.Quota{Tokens: q.Tokens, Period: q.Period}
	}
	return l
}
