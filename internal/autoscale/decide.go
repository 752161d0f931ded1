package autoscale

import (
	"fmt"
	"math"
	"strconv"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// settleTime is the least time between two growths of a pool that works already. The scans of a burst arrive within
// a second or so, and are answered by one step.
const settleTime = time.Second

// Input is what a decision is made from.
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
	// Now is the time.
	Now time.Time
}

// Decision is how many workers a pool is to have, and why.
type Decision struct {
	// From is the number before, Replicas the number from now on.
	From, Replicas int32
	// Recommended is the number that load and bounds call for, before spec.behavior.
	Recommended int32
	// Wanted is the number that would hold all calls, without any bound.
	Wanted int32
	// LimitedBy is the term that decided Recommended.
	LimitedBy v1alpha1.PoolLimit
	// Limited says that more workers are wanted than the pool is given, and Limit why.
	Limited bool
	Limit   string
	// Why is the arithmetic, for people: "412 calls wanted, tokens feed 480, 100 per worker".
	Why string
	// Again is when the same load may lead to another decision; zero for not by time alone.
	Again time.Duration
}

// String is the decision as an Event tells it.
func (d Decision) String() string { return fmt.Sprintf("%d → %d: %s", d.From, d.Replicas, d.Why) }

// Decide says how many workers a pool is to have: enough for the calls that want a place or that the budgets can keep
// busy, whichever is less, within the pool's bounds and its behavior. It changes nothing.
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
	if d.Limited = d.Wanted > d.Replicas; d.Limited {
		d.explainLimit(in, cause)
	}
	return d
}

// assess finds what load and budgets call for. It returns how full the present workers are.
func (d *Decision) assess(in Input) (fill float64) {
	demand := in.demand()
	fed, quota := in.fed()
	perWorker := float64(max(in.Concurrency, 1))
	d.Wanted = workersFor(float64(demand), perWorker)
	d.Recommended = workersFor(min(float64(demand), fed), perWorker)
	switch {
	case d.Recommended == d.Wanted:
		d.LimitedBy = v1alpha1.LimitedByDemand
	case quota:
		d.LimitedBy = v1alpha1.LimitedByQuota
	default:
		d.LimitedBy = v1alpha1.LimitedByTokenBudget
	}
	d.Why = strconv.Itoa(demand) + " calls wanted"
	if !in.Unmetered {
		d.Why += fmt.Sprintf(", tokens feed %.0f", fed)
	}
	d.Why += fmt.Sprintf(", %d per worker", in.Concurrency)
	return min(float64(demand), fed) / (perWorker * float64(max(in.Current, 1)))
}

// bound keeps the recommendation within the pool's bounds.
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

// workersFor is the number of workers that hold so many calls.
func workersFor(calls, perWorker float64) int32 {
	const exact = 1e-9 // 300.0000000001 calls fit into three workers of 100
	return int32(min(max(math.Ceil(calls/perWorker-exact), 0), math.MaxInt32))
}

// behave moves the number of workers towards the recommendation as far as spec.behavior allows: first the extremes of
// the stabilization windows, then the policies. The bounds themselves are kept at once.
func (d *Decision) behave(in Input, past *History, fill float64) {
	from := min(max(in.Current, in.Min), in.Max)
	up, down := rulesOf(in.Behavior, true), rulesOf(in.Behavior, false)
	low, lowLeaves := past.lowest(d.Recommended, in.Current, window(up, true), in.Now)
	high, highLeaves := past.highest(d.Recommended, in.Current, window(down, false), in.Now)
	d.Replicas = from
	switch {
	case low > from && !tolerated(up, fill):
		limit, again := past.bound(from, up, true, in.Now)
		d.Replicas = min(low, limit, in.Max)
		if rest := settleTime - in.Now.Sub(past.lastGrowth()); from > 0 && rest > 0 && d.Replicas > from {
			d.Replicas, again = from, in.Now.Add(rest)
		}
		if d.Replicas < d.Recommended {
			d.comeBack(in.Now, again, lowLeaves)
		}
	case high < from && !tolerated(down, fill):
		limit, again := past.bound(from, down, false, in.Now)
		d.Replicas = max(high, limit, in.Min)
		if d.Replicas > d.Recommended {
			d.comeBack(in.Now, again, highLeaves)
		}
	case d.Recommended > from:
		d.comeBack(in.Now, lowLeaves)
	case d.Recommended < from:
		d.comeBack(in.Now, highLeaves)
	}
	// An empty pool gets its first worker at once: behavior bounds how fast a pool grows, not whether it works.
	if in.Current == 0 && d.Replicas == 0 && d.Recommended > 0 && selectPolicy(up) != autoscalingv2.DisabledPolicySelect {
		d.Replicas = 1
	}
}

// comeBack sets when to decide again: at the first of the instants that lies ahead.
func (d *Decision) comeBack(now time.Time, at ...time.Time) {
	for _, t := range at {
		if rest := t.Sub(now); !t.IsZero() && rest > 0 && (d.Again == 0 || rest < d.Again) {
			d.Again = rest
		}
	}
}

// explainLimit says what keeps the pool from having the workers that its calls want, given the term that does.
func (d *Decision) explainLimit(in Input, cause v1alpha1.PoolLimit) {
	by := map[v1alpha1.PoolLimit]string{
		v1alpha1.LimitedByTokenBudget: "the token budgets feed no more; raise their limits or add a budget",
		v1alpha1.LimitedByQuota:       "the budgets' quotas are used up; raise them or wait for the next period",
		v1alpha1.LimitedByMaxReplicas: fmt.Sprintf("spec.maxReplicas is %d; raise it", in.Max),
		v1alpha1.LimitedByMinReplicas: "the token budgets feed no more than spec.minReplicas; raise their limits or add a budget",
		v1alpha1.LimitedByManual:      "set by hand; raise spec.replicas or turn autoscaling on",
	}[cause]
	if by == "" || d.Replicas < d.Recommended {
		by = "the pool grows as fast as spec.behavior allows"
	}
	d.Limit = fmt.Sprintf("%d workers wanted, %d given (%s): %s", d.Wanted, d.Replicas, d.Why, by)
}
