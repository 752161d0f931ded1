// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/controllers/statusthrottle"
	"github.com/eco2-team/scan-operator/controllers/workerpool"
	"github.com/eco2-team/scan-operator/internal/autoscale"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

// LoadNotifier wakes the reconcilers of pools and budgets whose figures changed. Every statusthrottle.Interval it compares
// the scheduler's figures with the previous ones, in memory: figures change with every call, although no object does.
// It wakes a pool that needs more workers at once.
type LoadNotifier struct {
	Cache     client.Reader
	Scheduler *scheduler.Scheduler
	Clock     clock.WithTicker
	Namespace string

	pools       chan event.TypedGenericEvent[*v1alpha1.WorkerPool]
	budgets     chan event.TypedGenericEvent[*v1alpha1.TokenBudget]
	lastPools   map[types.NamespacedName]poolFigures
	scaleUp     *ScaleUpSignal
	lastBudgets map[types.NamespacedName]budgetFigures
}

// poolFigures are the figures of a pool that make a reconciliation worthwhile.
type poolFigures struct {
	queued, inFlight int
	// recommended is the number of workers for the load alone; limitedBy is the term that decided it.
	recommended int32
	limitedBy   v1alpha1.PoolLimit
	// tokens is what the pool's budgets were charged in the last minute; tokenLimit is what they may be.
	tokens, tokenLimit int64
}

// budgetFigures are the figures of a budget that make a write of its status worthwhile.
type budgetFigures struct {
	tokens, requests, reserved, calls, limit, throttles, quotaUsed int64
	rate                                                           int32
	throttled, quotaExhausted                                      bool
	hold                                                           string
}

var (
	_ manager.Runnable               = (*LoadNotifier)(nil)
	_ manager.LeaderElectionRunnable = (*LoadNotifier)(nil)
)

// NewLoadNotifier returns a notifier that has not compared anything yet.
func NewLoadNotifier(cache client.Reader, s *scheduler.Scheduler, w *ScaleUpSignal, c clock.WithTicker, namespace string) *LoadNotifier {
	return &LoadNotifier{
		Cache: cache, Scheduler: s, Clock: c, Namespace: namespace, scaleUp: w,
		pools:       make(chan event.TypedGenericEvent[*v1alpha1.WorkerPool]),
		budgets:     make(chan event.TypedGenericEvent[*v1alpha1.TokenBudget]),
		lastPools:   map[types.NamespacedName]poolFigures{},
		lastBudgets: map[types.NamespacedName]budgetFigures{},
	}
}

// Pools delivers the pools whose figures changed.
func (n *LoadNotifier) Pools() <-chan event.TypedGenericEvent[*v1alpha1.WorkerPool] { return n.pools }

// Budgets delivers the budgets whose figures changed.
func (n *LoadNotifier) Budgets() <-chan event.TypedGenericEvent[*v1alpha1.TokenBudget] {
	return n.budgets
}

// NeedLeaderElection makes the notifier run on the leader, beside the scheduler.
func (n *LoadNotifier) NeedLeaderElection() bool { return true }

// Start notifies until ctx ends.
func (n *LoadNotifier) Start(ctx context.Context) error {
	ticker := n.Clock.NewTicker(statusthrottle.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.scaleUp.raised:
			for _, name := range n.scaleUp.take() {
				pool := &v1alpha1.WorkerPool{}
				pool.Namespace, pool.Name = name.Namespace, name.Name
				if !send(ctx, n.pools, pool) {
					return nil
				}
			}
			continue
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
		figures, ok := n.figuresOf(&pools.Items[i])
		if last, seen := n.lastPools[name]; !ok || seen && last == figures {
			continue
		}
		n.lastPools[name] = figures
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
			quotaUsed: stats.QuotaUsed, quotaExhausted: stats.QuotaExhausted,
		}
		for _, t := range stats.Throttles {
			figures.throttles += t.Count
		}
		if n.lastBudgets[name] == figures {
			continue
		}
		n.lastBudgets[name] = figures
		if !send(ctx, n.budgets, &budgets.Items[i]) {
			return nil
		}
	}
	return nil
}

func (n *LoadNotifier) figuresOf(pool *v1alpha1.WorkerPool) (f poolFigures, ok bool) {
	name := client.ObjectKeyFromObject(pool)
	demand, ok := n.Scheduler.PoolDemand(name)
	if !ok {
		return poolFigures{}, false
	}
	in := workerpool.AutoscaleInput(pool, &demand, ptr.Deref(pool.Status.DesiredReplicas, 0), n.Clock.Now())
	d := autoscale.Decide(in, &autoscale.History{})
	f = poolFigures{queued: demand.Queued, inFlight: demand.InFlight, recommended: d.Recommended, limitedBy: d.LimitedBy}
	f.tokens, f.tokenLimit = workerpool.BudgetTokens(n.Scheduler, pool)
	return f, true
}

func send[T any](ctx context.Context, ch chan<- event.TypedGenericEvent[T], obj T) bool {
	select {
	case ch <- event.TypedGenericEvent[T]{Object: obj}:
		return true
	case <-ctx.Done():
		return false
	}
}
