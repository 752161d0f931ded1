// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package heap

import (
	"math/rand/v2"
	"slices"
	"testing"
)

type item struct {
	rank  int
	index int
}

func newItems() Heap[item] {
	return New(func(a, b *item) bool { return a.rank < b.rank }, func(x *item) *int { return &x.index })
}

// Whatever is pushed, changed and removed, the heap has the same items as a list, the least on top.
func TestHeapIsAList(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	h, list := newItems(), []*item{}
	for range 5000 {
		switch n := r.IntN(10); {
		case n < 5 || len(list) == 0:
			x := &item{rank: r.IntN(100), index: -1}
			h.Push(x)
			list = append(list, x)
		case n < 7:
			x := list[r.IntN(len(list))]
			x.rank = r.IntN(100)
			h.Fix(x)
		default:
			i := r.IntN(len(list))
			x := list[i]
			h.Remove(x)
			list = slices.Delete(list, i, i+1)
			if x.index != -1 || h.Contains(x) {
				t.Fatalf("a removed item has the index %d and is in the heap: %v", x.index, h.Contains(x))
			}
		}
		if err := h.Verify(); err != nil {
			t.Fatal(err)
		}
		if h.Len() != len(list) || len(slices.Collect(h.All())) != len(list) {
			t.Fatalf("the heap has %d items and yields %d, want %d", h.Len(), len(slices.Collect(h.All())), len(list))
		}
		for _, x := range list {
			if !h.Contains(x) || x.rank < h.Top().rank {
				t.Fatalf("item %+v: in the heap: %v; the top is %+v", *x, h.Contains(x), *h.Top())
			}
		}
	}
	h.Clear()
	if h.Len() != 0 || h.Top() != nil {
		t.Errorf("a cleared heap has %d items, %v on top", h.Len(), h.Top())
	}
}

func TestVerifyFindsAChangeWithoutFix(t *testing.T) {
	h := newItems()
	x := &item{rank: 1}
	h.Push(x)
	h.Push(&item{rank: 2})
	x.rank = 3
	if h.Verify() == nil {
		t.Error("the least item has the highest rank, and Verify finds nothing")
	}
}
