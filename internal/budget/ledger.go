package budget

import "time"

// Ledger is the account of one budget. It is not safe for concurrent use: it is owned by the scheduler's lock.
type Ledger struct {
	limits Limits
	start  time.Time
	calls  map[string]int64
}

// New returns the ledger of a budget that nothing was spent of: its buckets are full.
func New(limits Limits, now time.Time) *Ledger {
	return &Ledger{limits: limits, start: now, calls: map[string]int64{}}
}

// SetLimits puts new limits in force.
func (l *Ledger) SetLimits(limits Limits, _ time.Time) { l.limits = limits }

// Reserve takes tokens and one request for a call, or nothing at all.
func (l *Ledger) Reserve(id string, tokens int64, now time.Time) Verdict {
	v := l.Check(tokens, now)
	if v.OK {
		l.calls[id] = tokens
	}
	return v
}

// Check says what Reserve would say, without taking anything.
func (l *Ledger) Check(tokens int64, _ time.Time) Verdict {
	if tokens > l.limits.TokensPerMinute {
		return Verdict{Dimension: TooLarge, Need: tokens, Limit: l.limits.TokensPerMinute}
	}
	return Verdict{OK: true}
}

// Cancel gives a reservation back that was never sent. It returns false where there is none of that id.
func (l *Ledger) Cancel(id string, _ time.Time) bool { return l.drop(id) }

// Settle ends a call whose outcome is known.
func (l *Ledger) Settle(id string, _ Result, _ time.Time) Settlement {
	tokens := l.calls[id]
	return Settlement{Known: l.drop(id), Reserved: tokens}
}

// Lost ends a call whose outcome will never be known. It returns false where there is none of that id.
func (l *Ledger) Lost(id string, _ time.Time) bool { return l.drop(id) }

func (l *Ledger) drop(id string) bool {
	_, ok := l.calls[id]
	delete(l.calls, id)
	return ok
}
