package budget

import (
	"sort"
	"time"
)

const (
	// historyEntries bounds the memory of a history, and with coalesceWithin how far it reaches back: 16 s at any
	// call rate, minutes at usual ones. Words about older instants are worth nothing: the bucket has turned over.
	historyEntries = 8192
	coalesceWithin = ledgerTime(2 * time.Millisecond)
)

// sums are cumulative reservations: tokens and calls.
type sums [units]int64

// historyEntry says that the sums were reached at an instant, or at most coalesceWithin later.
type historyEntry struct {
	at   ledgerTime
	sums sums
}

// history remembers how much had been reserved at any recent instant, so that what the provider said of the past
// can be compared with what was known then.
type history struct {
	entries []historyEntry // a ring once it is full
	first   int            // index of the oldest entry
	total   sums
	// fromStart means that nothing was reserved before the oldest entry, so that the sums there are zero.
	fromStart bool
}

// entry returns the i-th oldest entry.
func (h *history) entry(i int) *historyEntry {
	return &h.entries[(h.first+i)%len(h.entries)]
}

// add records a reservation. Instants must not decrease.
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

// remove takes a reservation of an instant back, as if it had never been made.
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

// until returns what had been reserved at an instant: everything up to it, and perhaps what followed within
// coalesceWithin. It returns false where the instant is too long ago.
func (h *history) until(at ledgerTime) (sums, bool) {
	i := sort.Search(len(h.entries), func(i int) bool { return h.entry(i).at > at })
	if i == 0 {
		return sums{}, h.fromStart
	}
	return h.entry(i - 1).sums, true
}
