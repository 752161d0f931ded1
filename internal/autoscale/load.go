// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscale

import "math"

// Load is the work of a pool and what its budgets admit.
type Load struct {
	// Queued is the number of scans ready for a stage of the pool: not backing off and not suspended.
	Queued int
	// InFlight is the number of scans at workers that are not draining. Scans at draining workers need no slot.
	InFlight int
	// Unmetered is true if no stage of the pool needs tokens, so that no budget bounds it.
	Unmetered bool
	// Supplies has one element for each of the pool's budgets that exists.
	Supplies []BudgetSupply
}

// Hold is the reason why a budget admits nothing.
type Hold int

// The holds of a budget.
const (
	// NotHeld: the budget admits calls.
	NotHeld Hold = iota
	// HeldByQuota: the provider's quota is exhausted. Probe calls test it, and a probe needs a worker.
	HeldByQuota
	// HeldByKey: there is no key, or the provider rejects it.
	HeldByKey
	// KeyProbed: the provider rejected the key, and a probe call will test it again.
	KeyProbed
)

// Cost is what one scan costs.
type Cost struct {
	// Tokens is the charge at admission, Calls the number of calls, Seconds the sum of their durations.
	Tokens, Calls, Seconds float64
}

// BudgetSupply is what one budget admits.
type BudgetSupply struct {
	// TokensPerMinute and RequestsPerMinute are the rates the budget admits. Zero requests means no request limit.
	TokensPerMinute, RequestsPerMinute float64
	// Available is the bucket's present level, in tokens: calls that can start at once.
	Available float64
	// QuotaLeft is the rest of spec.quota, in tokens; negative for a budget without a quota.
	QuotaLeft float64
	// Hold is the reason why the budget admits nothing, if it is held.
	Hold Hold
	// Here is what one scan costs this budget in the pool, Everywhere what it costs in all pools that share it. The
	// pool's share of the budget is their ratio.
	Here, Everywhere Cost
}

// sustained is the number of calls that a budget can sustain.
type sustained struct {
	// steady is the number of calls that run if calls start as fast as tokens refill, burst the number that can start
	// now, from the bucket's level.
	steady, burst float64
	// quota is true if a quota bounds the number.
	quota bool
}

// sustained is the number of the pool's calls that the budget can sustain, by Little's law: calls per second times the
// seconds of a call.
func (b BudgetSupply) sustained() sustained {
	switch {
	case b.Hold == HeldByQuota:
		return sustained{steady: 1, quota: true} // the probe
	case b.Hold == KeyProbed:
		return sustained{steady: 1}
	case b.Hold == HeldByKey || b.Everywhere.Tokens <= 0 || b.Everywhere.Calls <= 0:
		return sustained{}
	}
	perSecond := b.TokensPerMinute / 60 / b.Everywhere.Tokens // scans per second, in all pools
	if b.RequestsPerMinute > 0 {
		perSecond = min(perSecond, b.RequestsPerMinute/60/b.Everywhere.Calls)
	}
	share := b.Here.Calls / b.Everywhere.Tokens // calls of this pool per token of the budget
	c := sustained{steady: perSecond * b.Here.Seconds, burst: max(b.Available, 0) * share}
	if b.QuotaLeft >= 0 {
		if left := b.QuotaLeft * share; left < max(c.steady, c.burst) {
			c = sustained{steady: min(c.steady, left), burst: min(c.burst, left), quota: true}
		}
	}
	return c
}

// demand is the number of calls to run.
func (l *Load) demand() int { return l.Queued + l.InFlight }

// sustainable is the number of calls that the budgets can sustain. Tokens accumulated in a bucket count as well as the
// refill, so a burst gets as many workers as can start its calls. quota is true if only quotas bound the number.
func (l *Load) sustainable() (n float64, quota bool) {
	if l.Unmetered {
		return math.Inf(1), false
	}
	var sum, unbound float64
	burst := float64(l.InFlight) // charged already
	for _, b := range l.Supplies {
		c := b.sustained()
		sum += c.steady
		burst += c.burst
		if c.quota {
			quota = true
		} else {
			unbound += c.steady + c.burst
		}
	}
	return max(sum, burst), quota && unbound == 0
}
