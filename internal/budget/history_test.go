// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestHistory compares with a plain list.
func TestHistory(t *testing.T) {
	t.Parallel()
	type made struct {
		at   ledgerTime
		cost sums
	}
	rng := rand.New(rand.NewPCG(1, 3))
	h := history{fromStart: true}
	all := make([]made, 0, 3*historyEntries)
	var at ledgerTime
	for range 3 * historyEntries {
		at += ledgerTime(rng.Int64N(int64(10 * time.Millisecond)))
		m := made{at, sums{rng.Int64N(5000), 1}}
		h.add(m.at, m.cost)
		all = append(all, m)
		if rng.IntN(20) == 0 {
			i := len(all) - 1 - rng.IntN(min(len(all), 50))
			h.remove(all[i].at, all[i].cost)
			all[i].cost = sums{}
		}
	}
	oldest := h.entry(0).at
	if got := at - oldest; got < ledgerTime(16*time.Second) {
		t.Errorf("reaches back %v, want 16 s at least", time.Duration(got))
	}
	for range 2000 {
		when := oldest + ledgerTime(rng.Int64N(int64(at-oldest)))
		var low, high sums // everything until then, and with what may have been coalesced
		for _, m := range all {
			for u := range m.cost {
				if m.at <= when {
					low[u] += m.cost[u]
				}
				if m.at < when+coalesceWithin {
					high[u] += m.cost[u]
				}
			}
		}
		got, ok := h.until(when)
		if !ok || got[0] < low[0] || got[0] > high[0] || got[1] < low[1] || got[1] > high[1] {
			t.Fatalf("until %v: %v %v, want %v to %v", time.Duration(when), got, ok, low, high)
		}
	}
	if _, ok := h.until(oldest - 1); ok {
		t.Error("a time before the oldest entry is known")
	}
}

func TestHistoryBeforeTheFirst(t *testing.T) {
	t.Parallel()
	h := history{fromStart: true}
	h.add(100, sums{5, 1})
	if got, ok := h.until(99); !ok || got != (sums{}) {
		t.Errorf("before the first reservation: %v %v, want zero, known", got, ok)
	}
	h = history{}
	h.add(100, sums{5, 1})
	if _, ok := h.until(99); ok {
		t.Error("a time before the restored history is known")
	}
}
