package autoscale

import "math"

// Load is the work of a pool and what its budgets can pay for.
type Load struct {
	// Queued is the number of scans ready for a stage of the pool: not backing off and not suspended.
	Queued int
	// InFlight is the number of scans at workers that take more. What draining workers finish needs no place.
	InFlight int
	// Unmetered says that no stage of the pool needs tokens, so that no budget bounds it.
	Unmetered bool
	// Feeds are the pool's budgets, those that exist.
	Feeds []Feed
}

// Hold says why a budget pays for nothing.
type Hold int

// The holds of a budget.
const (
	// NotHeld: the budget pays.
	NotHeld Hold = iota
	// HeldByQuota: the provider's quota is used up. A probe call now and then finds out when it is not, and needs a
	// worker.
	HeldByQuota
	// HeldByKey: there is no key, or the provider does not accept it.
	HeldByKey
	// KeyProbed: the provider did not accept a key that was changed since; a probe call finds out.
	KeyProbed
)

// Cost is what one scan takes.
type Cost struct {
	// Tokens is what is charged at admission, Calls the number of calls, Seconds how long they run together.
	Tokens, Calls, Seconds float64
}

// Feed is what one budget can pay for.
type Feed struct {
	// TokensPerMinute and RequestsPerMinute are what the budget admits; requests are not limited where they are zero.
	TokensPerMinute, RequestsPerMinute float64
	// Available is what the bucket holds now, in tokens: calls that can begin at once.
	Available float64
	// QuotaLeft is what is left of the budget's own quota, in tokens; negative for a budget without one.
	QuotaLeft float64
	// Hold is why the budget pays for nothing, if so.
	Hold Hold
	// Here is what one scan takes from this budget in the pool, Everywhere what it takes in all pools that share
	// it: each pool's part of the budget is in proportion.
	Here, Everywhere Cost
}

// calls is what budgets can keep busy, in calls.
type calls struct {
	// steady run when calls begin as fast as the tokens flow in; burst can begin now, from what the bucket holds.
	steady, burst float64
	// quota says that a quota is what bounds it.
	quota bool
}

// calls is the number of the pool's calls that the budget can keep busy, by Little's law: calls a second times the
// seconds of a call.
func (f Feed) calls() calls {
	switch {
	case f.Hold == HeldByQuota:
		return calls{steady: 1, quota: true} // the probe
	case f.Hold == KeyProbed:
		return calls{steady: 1}
	case f.Hold == HeldByKey || f.Everywhere.Tokens <= 0 || f.Everywhere.Calls <= 0:
		return calls{}
	}
	perSecond := f.TokensPerMinute / 60 / f.Everywhere.Tokens // scans a second, in all pools
	if f.RequestsPerMinute > 0 {
		perSecond = min(perSecond, f.RequestsPerMinute/60/f.Everywhere.Calls)
	}
	share := f.Here.Calls / f.Everywhere.Tokens // calls of this pool per token of the budget
	c := calls{steady: perSecond * f.Here.Seconds, burst: max(f.Available, 0) * share}
	if f.QuotaLeft >= 0 {
		if left := f.QuotaLeft * share; left < max(c.steady, c.burst) {
			c = calls{steady: min(c.steady, left), burst: min(c.burst, left), quota: true}
		}
	}
	return c
}

// demand is the number of calls that want a place.
func (l *Load) demand() int { return l.Queued + l.InFlight }

// fed is the number of calls that the budgets can keep busy. Tokens saved up in a bucket count as well as those that
// flow in, so that a burst is answered by as many workers as can begin it. quota says that only a quota bounds it.
func (l *Load) fed() (fed float64, quota bool) {
	if l.Unmetered {
		return math.Inf(1), false
	}
	var sum, unbound float64
	burst := float64(l.InFlight) // paid for already
	for _, f := range l.Feeds {
		c := f.calls()
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
