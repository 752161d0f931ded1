// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"sort"
	"time"
)

const (
	// historyEntries bounds the memory of a history. Together with coalesceWithin it determines how far back it
	// reaches: 16 s at any call rate, minutes at usual ones. Older observations are useless: the bucket has turned over.
	historyEntries = 8192
	coalesceWithin = ledgerTime(2 * time.Millisecond)
)

// sums are cumulative reservations: tokens and calls.
type sums [units]int64

// historyEntry records that the sums were reached at a time, or at most coalesceWithin later.
type historyEntry struct {
	at   ledgerTime
	sums sums
}

// history records how much had been reserved at any recent time, so that an observation of the past can be compared
// with the reservations of that time.
type history struct {
	entries []historyEntry // a ring once it is full
	first   int            // index of the oldest entry
	total   sums
	// fromStart is true if nothing was reserved before the oldest entry, so the sums before it are zero.
	fromStart bool
}

// entry returns the i-th oldest entry.
func (h *history) entry(i int) *historyEntry {
	return &h.entries[(h.first+i)%len(h.entries)]
}

// add records a reservation. Times must not decrease.
func (h *history) add(at ledgerTime, cost sums) {
	for u := range h.total {
		h.total[u] += cost[u]
	}
	n := len(h.entries)
	if n > 0 {
		if last := h.entry(n - 1); at-last.at < coalesceWithin {
			last.sums = h.total
			return
		}
	}
	e := historyEntry{at: at, sums: h.total}
	if n < historyEntries {
		h.entries = append(h.entries, e)
		return
	}
	h.entries[h.first] = e
	h.first = (h.first + 1) % n
	h.fromStart = false
}

// remove removes a reservation of a time, as if it had never been made.
func (h *history) remove(at ledgerTime, cost sums) {
	for u := range h.total {
		h.total[u] -= cost[u]
	}
	for back := range h.entries {
		e := h.entry(len(h.entries) - 1 - back)
		if e.at+coalesceWithin <= at {
			return
		}
		for u := range e.sums {
			e.sums[u] -= cost[u]
		}
	}
}

// until returns what had been reserved by a time, perhaps including what followed within coalesceWithin. It returns
// false if the time is too long ago.
func (h *history) until(at ledgerTime) (sums, bool) {
	i := sort.Search(len(h.entries), func(i int) bool { return h.entry(i).at > at })
	if i == 0 {
		return sums{}, h.fromStart
	}
	return h.entry(i - 1).sums, true
}
