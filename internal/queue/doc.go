// Package queue holds the scans that wait for a call to the provider and says
// which of them goes next.
//
// # Order
//
// Items are offered by, in this order:
//
//  1. priority, highest first;
//  2. stage, later ones first: finishing what is started keeps the number of
//     half-done scans small;
//  3. tokens served to the user, least first. This is the virtual token counter
//     of "Fairness in Serving Large Language Models" (OSDI'24, arXiv
//     2401.00588): a user is charged when its item is taken, and a user that
//     becomes active starts no lower than the least served active one, so that
//     nobody saves up service by staying away;
//  4. arrival, then key. Of users served equally, the one whose first item
//     arrived first goes first.
//
// The queue is work-conserving: Pick offers ready items until the caller has
// nothing left to give. Priorities are strict: a lasting flood of a higher
// priority, or of a later stage, holds back everything below it.
//
// # Lanes and domains
//
// A [Lane] is what competes for the same workers and budgets. Lanes that draw
// on the same budget form a domain, by default all stages of one model in one
// namespace (see [WithDomain]). Counters, aging and positions are per domain:
// tokens served from one budget say nothing about the turn at another.
//
// # Large items
//
// An item that does not fit into what is left may be passed by smaller ones, so
// that a large call never stops the queue; how often is bounded by time, by
// tokens and by the lead in tokens served that it gives to others (see
// [WithAging]). Past the bound nothing of lower rank in its domain goes before
// it. Budgets accumulate meanwhile, so holding the others back costs no tokens.
//
// A Queue does no locking, reads no clock and starts no goroutine.
package queue
