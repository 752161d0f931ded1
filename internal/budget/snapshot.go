package budget

import "time"

// Snapshot is what a new leader needs to know of a ledger. Zero values mean that it is not known.
type Snapshot struct {
	// At is when the snapshot was made.
	At time.Time `json:"at,omitzero"`
	// Tokens and Requests are what could be reserved at that instant.
	Tokens   int64 `json:"tokens,omitempty"`
	Requests int64 `json:"requests,omitempty"`
	// RequestWindow is the window Requests speaks of: a minute, or a day where the provider limits by day.
	RequestWindow time.Duration `json:"requestWindow,omitempty"`
	// TokensPerMinute and RequestsPerMinute are the limits the provider's headers showed.
	TokensPerMinute   int64 `json:"tokensPerMinute,omitempty"`
	RequestsPerMinute int64 `json:"requestsPerMinute,omitempty"`
	// RatePercent is the part of the limits that was used, see Stats.
	RatePercent int32 `json:"ratePercent,omitempty"`
	// Hold is why the budget was held, ResumeAt until when.
	Hold     HoldReason `json:"hold,omitempty"`
	ResumeAt time.Time  `json:"resumeAt,omitzero"`
	// QuotaUsed is what was used of the own quota in the period that began at QuotaPeriodStart.
	QuotaUsed        int64     `json:"quotaUsed,omitempty"`
	QuotaPeriodStart time.Time `json:"quotaPeriodStart,omitzero"`
	// Totals are counters since the budget was created.
	Totals Totals `json:"totals,omitzero"`
}

// Reservation is a call that an earlier leader made, as the objects show it.
type Reservation struct {
	// ID is the assignment's id.
	ID string
	// Tokens is what was reserved.
	Tokens int64
	// At is when it was reserved.
	At time.Time
	// Done means that the call has ended: it is charged, but not in flight.
	Done bool
}

// Snapshot says what a new leader needs to know.
func (l *Ledger) Snapshot(now time.Time) Snapshot {
	return Snapshot{At: now}
}

// Restore makes a fresh ledger continue where an earlier leader's stood.
func (l *Ledger) Restore(_ Snapshot, reservations []Reservation, _ time.Time) {
	for _, r := range reservations {
		if !r.Done {
			l.calls[r.ID] = r.Tokens
		}
	}
}
