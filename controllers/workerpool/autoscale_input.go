// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package workerpool

import (
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/autoscale"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

// AutoscaleInput converts the scheduler's demand of a pool to the input of a decision.
func AutoscaleInput(pool *v1alpha1.WorkerPool, demand *scheduler.PoolDemand, replicas int32, now time.Time) autoscale.Input {
	return autoscale.Input{
		Load:    loadOf(demand),
		Current: replicas, Concurrency: max(pool.Spec.ConcurrencyPerWorker, 1),
		Min: minReplicas(pool), Max: pool.Spec.MaxReplicas, Behavior: pool.Spec.Behavior, Now: now,
	}
}

func loadOf(d *scheduler.PoolDemand) autoscale.Load {
	load := autoscale.Load{Queued: d.QueuedShare, InFlight: d.InFlight - d.Draining, Unmetered: d.Unmetered}
	for i := range d.Supplies {
		s := &d.Supplies[i]
		load.Supplies = append(load.Supplies, autoscale.BudgetSupply{
			TokensPerMinute: s.TokensPerMinute, RequestsPerMinute: s.RequestsPerMinute,
			Available: s.Available, QuotaLeft: s.QuotaLeft, Hold: holdOf(s.Hold),
			Here: autoscale.Cost(s.Here), Everywhere: autoscale.Cost(s.Everywhere),
		})
	}
	return load
}

func holdOf(hold scheduler.SupplyHold) autoscale.Hold {
	switch hold {
	case scheduler.HeldByQuota:
		return autoscale.HeldByQuota
	case scheduler.HeldByKey:
		return autoscale.HeldByKey
	case scheduler.KeyProbed:
		return autoscale.KeyProbed
	default:
		return autoscale.NotHeld
	}
}
