// Package budget is the token ledger: it decides when a call may be sent, so that the provider never has to
// turn one away, and no sooner or later than that.
package budget
