// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"math/rand/v2"
	"testing"
)

// TestInflightRing compares with a map.
func TestInflightRing(t *testing.T) {
	t.Parallel()
	var p inflightRing
	rng := rand.New(rand.NewPCG(2, 3))
	live := map[int]int64{}
	for i := range 20_000 {
		if rng.IntN(3) > 0 {
			cost := rng.Int64N(100)
			live[p.push(dispatch{at: ledgerTime(i), cost: sums{cost, 1}})] = cost
		}
		for seq := range live {
			if rng.IntN(4) == 0 {
				if !p.markLanded(seq) || p.markLanded(seq) {
					t.Fatalf("%d did not land exactly once", seq)
				}
				delete(live, seq)
			}
			break
		}
		for d := p.oldest(); d != nil && d.landed; d = p.oldest() {
			p.pop()
		}
		want := sums{0, int64(len(live))}
		for _, cost := range live {
			want[0] += cost
		}
		if p.pending != want {
			t.Fatalf("step %d: pending %v, want %v", i, p.pending, want)
		}
	}
	if p.markLanded(p.next) || p.get(p.next) != nil {
		t.Error("a dispatch that was never pushed was found")
	}
}
