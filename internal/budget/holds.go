package budget

import "time"

// HoldReason says why a budget is held.
type HoldReason string

// The reasons of a hold.
const (
	// HoldQuotaExhausted: the provider's quota or credit is used up. Probe calls find out when it works again.
	HoldQuotaExhausted HoldReason = "QuotaExhausted"
	// HoldUnauthorized: the provider does not accept the key. Ends when the key changes.
	HoldUnauthorized HoldReason = "Unauthorized"
)

// Held says whether the budget is held, why, and until when: the instant of the next probe call, or zero where
// only another key helps.
func (l *Ledger) Held(_ time.Time) (reason HoldReason, until time.Time, held bool) {
	return "", time.Time{}, false
}

// SetKeyVersion tells the ledger which version of the key is in use. Another version than before ends the hold
// HoldUnauthorized. The first one only sets the mark.
func (l *Ledger) SetKeyVersion(_ string, _ time.Time) {}
