// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package queue holds the scans that wait for a call to the provider and orders
// them.
//
// # Order
//
// Items are offered by, in this order:
//
//  1. priority, highest first;
//  2. stage, later ones first: finishing started scans keeps the number of
//     half-done ones small;
//  3. tokens served to the user, least first. This is the virtual token counter
//     of "Fairness in Serving Large Language Models" (OSDI'24, arXiv
//     2401.00588): a user is charged when its item is taken, and a user that
//     becomes active starts no lower than the least served active one, so idle
//     users save up no service;
//  4. arrival, then key. Among users served equally, the one whose first item
//     arrived earlier goes first.
//
// The queue is work-conserving: Pick offers ready items until the caller has no
// capacity left. Priorities are strict: a continuous load of a higher priority,
// or of a later stage, starves everything below it.
//
// # Lanes and domains
//
// Items of a [Lane] compete for the same workers and budgets. Lanes that draw
// on the same budget form a domain, by default all stages of one model in one
// namespace (see [WithDomain]). Counters, aging and positions are per domain:
// tokens served from one budget do not count at another.
//
// # Large items
//
// An item that does not fit the capacity left may be passed by smaller ones, so
// a large call never stops the queue. Passing is bounded by time, by tokens and
// by the lead in tokens served that other users gain (see [WithAging]). Beyond
// the bound no item of lower rank in its domain goes first. Budgets accumulate
// meanwhile, so no tokens are lost by holding the others back.
//
// A Queue does no locking, reads no clock and starts no goroutine.
package queue
