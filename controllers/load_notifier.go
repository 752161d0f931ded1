package controllers

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

// LoadNotifier compares the scheduler's figures with those of the last time, every statusInterval and in memory
// only, and wakes the controllers of the pools and budgets whose figures have changed. Figures change with every
// call; their objects need not.
type LoadNotifier struct {
	Cache     client.Reader
	Scheduler *scheduler.Scheduler
	Clock     clock.WithTicker
	Namespace string

	pools   chan event.TypedGenericEvent[*v1alpha1.WorkerPool]
	budgets chan event.TypedGenericEvent[*v1alpha1.TokenBudget]
	loads   map[types.NamespacedName]scheduler.PoolLoad
	figures map[types.NamespacedName]budgetFigures
}

// budgetFigures are the parts of a budget's figures that make its status worth writing.
type budgetFigures struct {
	tokens, requests, reserved, calls, limit, throttles int64
	rate                                                int32
	throttled                                           bool
	hold                                                string
}

var (
	_ manager.Runnable               = (*LoadNotifier)(nil)
	_ manager.LeaderElectionRunnable = (*LoadNotifier)(nil)
)

// NewLoadNotifier returns a notifier with its channels.
func NewLoadNotifier(cache client.Reader, s *scheduler.Scheduler, c clock.WithTicker, namespace string) *LoadNotifier {
	return &LoadNotifier{
		Cache: cache, Scheduler: s, Clock: c, Namespace: namespace,
		pools:   make(chan event.TypedGenericEvent[*v1alpha1.WorkerPool]),
		budgets: make(chan event.TypedGenericEvent[*v1alpha1.TokenBudget]),
		loads:   map[types.NamespacedName]scheduler.PoolLoad{},
		figures: map[types.NamespacedName]budgetFigures{},
	}
}

// Pools tells which pools' load has changed.
func (n *LoadNotifier) Pools() <-chan event.TypedGenericEvent[*v1alpha1.WorkerPool] { return n.pools }

// Budgets tells which budgets' figures have changed.
func (n *LoadNotifier) Budgets() <-chan event.TypedGenericEvent[*v1alpha1.TokenBudget] {
	return n.budgets
}

// NeedLeaderElection makes the notifier run where the scheduler runs.
func (n *LoadNotifier) NeedLeaderElection() bool { return true }

// Start notifies until ctx ends.
func (n *LoadNotifier) Start(ctx context.Context) error {
	ticker := n.Clock.NewTicker(statusInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
		if err := n.notify(ctx); err != nil {
			return err
		}
	}
}

func (n *LoadNotifier) notify(ctx context.Context) error {
	var pools v1alpha1.WorkerPoolList
	if err := n.Cache.List(ctx, &pools, client.InNamespace(n.Namespace)); err != nil {
		return fmt.Errorf("list pools: %w", err)
	}
	for i := range pools.Items {
		name := client.ObjectKeyFromObject(&pools.Items[i])
		load, ok := n.Scheduler.PoolLoad(name)
		if !ok || n.loads[name] == load {
			continue
		}
		n.loads[name] = load
		if !send(ctx, n.pools, &pools.Items[i]) {
			return nil
		}
	}
	var budgets v1alpha1.TokenBudgetList
	if err := n.Cache.List(ctx, &budgets, client.InNamespace(n.Namespace)); err != nil {
		return fmt.Errorf("list budgets: %w", err)
	}
	for i := range budgets.Items {
		name := client.ObjectKeyFromObject(&budgets.Items[i])
		stats, ok := n.Scheduler.BudgetStats(name)
		if !ok {
			continue
		}
		figures := budgetFigures{
			tokens: stats.TokensLastMinute, requests: stats.RequestsLastMinute, reserved: stats.ReservedTokens,
			calls: stats.Totals.Calls, limit: stats.TokensPerMinute, rate: stats.RatePercent,
			throttled: stats.Throttled, hold: string(stats.Hold),
		}
		for _, t := range stats.Throttles {
			figures.throttles += t.Count
		}
		if n.figures[name] == figures {
			continue
		}
		n.figures[name] = figures
		if !send(ctx, n.budgets, &budgets.Items[i]) {
			return nil
		}
	}
	return nil
}

func send[T any](ctx context.Context, ch chan<- event.TypedGenericEvent[T], obj T) bool {
	select {
	case ch <- event.TypedGenericEvent[T]{Object: obj}:
		return true
	case <-ctx.Done():
		return false
	}
}
