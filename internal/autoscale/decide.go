// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscale

import (
	"fmt"
	"math"
	"strconv"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// growthInterval is the minimum interval between two scale-ups of a pool that has workers. The scans of a burst arrive
// within about a second and cause one step.
const growthInterval = time.Second

// Input is the input of a decision.
type Input struct {
	Load
	// Current is the number of workers now.
	Current int32
	// Concurrency is the number of calls a worker runs at a time, at least 1.
	Concurrency int32
	// Min and Max bound the number of workers.
	Min, Max int32
	// Behavior bounds how fast it changes; nil for the default.
	Behavior *autoscalingv2.HorizontalPodAutoscalerBehavior
	// Manual is the number of workers while autoscaling is off; nil while it is on.
	Manual *int32
	// Now is the present time.
	Now time.Time
}

// Decision is the number of workers that a pool is to have, and the reason.
type Decision struct {
	// From is the present number, Replicas the new one.
	From, Replicas int32
	// Recommended is the number for load and bounds, before spec.behavior.
	Recommended int32
	// Needed is the number that would hold all calls, without any bound.
	Needed int32
	// LimitedBy is the term that decided Recommended.
	LimitedBy v1alpha1.PoolLimit
	// Limited is true if more workers are needed than the pool gets; Limit explains why.
	Limited bool
	Limit   string
	// Why is the arithmetic, for users: "412 calls to run, budgets allow 480, 100 per worker".
	Why string
	// Again is after which time the same load may lead to another decision; zero for never.
	Again time.Duration
}

// String formats the decision for an Event.
func (d Decision) String() string { return fmt.Sprintf("%d → %d: %s", d.From, d.Replicas, d.Why) }

// Decide decides how many workers a pool is to have: enough for the calls to run, or for those that the budgets can
// sustain, whichever is less, within the pool's bounds and its behavior. It does not change the History.
func Decide(in Input, past *History) Decision {
	d := Decision{From: in.Current}
	fill := d.assess(in)
	cause := d.LimitedBy
	if in.Manual != nil {
		if *in.Manual < d.Recommended {
			cause = v1alpha1.LimitedByManual
		}
		d.Replicas, d.Recommended, d.LimitedBy = *in.Manual, *in.Manual, v1alpha1.LimitedByManual
		d.Why = "autoscaling is off; " + d.Why
	} else {
		d.bound(in)
		d.behave(in, past, fill)
		cause = d.LimitedBy
	}
	if d.Limited = d.Needed > d.Replicas; d.Limited {
		d.explainLimit(in, cause)
	}
	return d
}

// assess computes the number for load and budgets. It returns how full the present workers are.
func (d *Decision) assess(in Input) (fill float64) {
	demand := in.demand()
	allowed, quota := in.sustainable()
	perWorker := float64(max(in.Concurrency, 1))
	d.Needed = workersFor(float64(demand), perWorker)
	d.Recommended = workersFor(min(float64(demand), allowed), perWorker)
	switch {
	case d.Recommended == d.Needed:
		d.LimitedBy = v1alpha1.LimitedByDemand
	case quota:
		d.LimitedBy = v1alpha1.LimitedByQuota
	default:
		d.LimitedBy = v1alpha1.LimitedByTokenBudget
	}
	d.Why = strconv.Itoa(demand) + " calls to run"
	if !in.Unmetered {
		d.Why += fmt.Sprintf(", budgets allow %.0f", allowed)
	}
	d.Why += fmt.Sprintf(", %d per worker", in.Concurrency)
	return min(float64(demand), allowed) / (perWorker * float64(max(in.Current, 1)))
}

// bound clamps the recommendation to the pool's bounds.
func (d *Decision) bound(in Input) {
	switch {
	case d.Recommended > in.Max:
		d.Recommended, d.LimitedBy = in.Max, v1alpha1.LimitedByMaxReplicas
		d.Why += fmt.Sprintf(", at most %d workers", in.Max)
	case d.Recommended < in.Min:
		d.Recommended, d.LimitedBy = in.Min, v1alpha1.LimitedByMinReplicas
		d.Why += fmt.Sprintf(", at least %d workers", in.Min)
	}
}

// workersFor is the number of workers that a number of calls needs.
func workersFor(calls, perWorker float64) int32 {
	const exact = 1e-9 // 300.0000000001 calls fit three workers of 100
	return int32(min(max(math.Ceil(calls/perWorker-exact), 0), math.MaxInt32))
}

// behave moves the number of workers towards the recommendation as far as spec.behavior allows: first the stabilization
// windows, then the policies. The pool's bounds apply at once.
func (d *Decision) behave(in Input, past *History, fill float64) {
	from := min(max(in.Current, in.Min), in.Max)
	growth, shrinkage := behaviorOf(in.Behavior, scaleUp), behaviorOf(in.Behavior, scaleDown)
	s := stabilization{next: d.Recommended, start: in.Current, window: growth.window(), now: in.Now}
	low, lowLeaves := past.lowest(s)
	s.window = shrinkage.window()
	high, highLeaves := past.highest(s)
	d.Replicas = from
	switch {
	case low > from && !growth.tolerates(fill):
		limit, again := past.bound(from, growth, in.Now)
		d.Replicas = min(low, limit, in.Max)
		if rest := growthInterval - in.Now.Sub(past.lastGrowth()); from > 0 && rest > 0 && d.Replicas > from {
			d.Replicas, again = from, in.Now.Add(rest)
		}
		if d.Replicas < d.Recommended {
			d.retryAt(in.Now, again, lowLeaves)
		}
	case high < from && !shrinkage.tolerates(fill):
		limit, again := past.bound(from, shrinkage, in.Now)
		d.Replicas = max(high, limit, in.Min)
		if d.Replicas > d.Recommended {
			d.retryAt(in.Now, again, highLeaves)
		}
	case d.Recommended > from:
		d.retryAt(in.Now, lowLeaves)
	case d.Recommended < from:
		d.retryAt(in.Now, highLeaves)
	}
	// An empty pool gets its first worker at once: behavior bounds how fast a pool grows, not whether it runs.
	if in.Current == 0 && d.Replicas == 0 && d.Recommended > 0 && growth.selectPolicy() != autoscalingv2.DisabledPolicySelect {
		d.Replicas = 1
	}
}

// retryAt sets when to decide again: at the earliest of the times that is in the future.
func (d *Decision) retryAt(now time.Time, at ...time.Time) {
	for _, t := range at {
		if rest := t.Sub(now); !t.IsZero() && rest > 0 && (d.Again == 0 || rest < d.Again) {
			d.Again = rest
		}
	}
}

// explainLimit explains why the pool gets fewer workers than its calls need, given the term that limits it.
func (d *Decision) explainLimit(in Input, cause v1alpha1.PoolLimit) {
	by := map[v1alpha1.PoolLimit]string{
		v1alpha1.LimitedByTokenBudget: "the token budgets allow no more; raise their limits or add a budget",
		v1alpha1.LimitedByQuota:       "the budgets' quotas are exhausted; raise them or wait for the next period",
		v1alpha1.LimitedByMaxReplicas: fmt.Sprintf("spec.maxReplicas is %d; raise it", in.Max),
		v1alpha1.LimitedByMinReplicas: "the token budgets allow no more than spec.minReplicas; raise their limits or add a budget",
		v1alpha1.LimitedByManual:      "the number is set manually; raise spec.replicas or enable autoscaling",
	}[cause]
	if by == "" || d.Replicas < d.Recommended {
		by = "spec.behavior limits how fast the pool grows"
	}
	d.Limit = fmt.Sprintf("%d workers needed, %d allowed (%s): %s", d.Needed, d.Replicas, d.Why, by)
}
