// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package heap is a binary heap whose items store their own index, so that any of them can be moved or removed in
// O(log n).
package heap

import (
	"fmt"
	"iter"
)

// Heap is a binary heap. Make one with New. It is not safe for concurrent use.
type Heap[T any] struct {
	items []*T
	less  func(a, b *T) bool
	index func(*T) *int
}

// New returns an empty heap with the least item on top. index returns the address of the field in which an item stores
// its index. An item is in one heap at a time for each such field.
func New[T any](less func(a, b *T) bool, index func(*T) *int) Heap[T] {
	return Heap[T]{less: less, index: index}
}

// Len is the number of items.
func (h *Heap[T]) Len() int { return len(h.items) }

// Top returns the least item, nil if the heap is empty.
func (h *Heap[T]) Top() *T {
	if len(h.items) == 0 {
		return nil
	}
	return h.items[0]
}

// All yields the items, in no order.
func (h *Heap[T]) All() iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for _, x := range h.items {
			if !yield(x) {
				return
			}
		}
	}
}

// Contains says whether the item is in the heap.
func (h *Heap[T]) Contains(x *T) bool {
	i := *h.index(x)
	return i >= 0 && i < len(h.items) && h.items[i] == x
}

// Push adds an item.
func (h *Heap[T]) Push(x *T) {
	h.items = append(h.items, x)
	*h.index(x) = len(h.items) - 1
	h.up(len(h.items) - 1)
}

// Remove removes an item of the heap and sets its index to -1.
func (h *Heap[T]) Remove(x *T) {
	i, last := *h.index(x), len(h.items)-1
	h.swap(i, last)
	h.items[last] = nil
	h.items = h.items[:last]
	*h.index(x) = -1
	if i < last {
		h.move(i)
	}
}

// Clear removes all items. It leaves their indexes as they are.
func (h *Heap[T]) Clear() {
	clear(h.items)
	h.items = h.items[:0]
}

// Fix restores the order after the rank of an item of the heap has changed.
func (h *Heap[T]) Fix(x *T) { h.move(*h.index(x)) }

// Verify returns an error if an item is out of order or stores a wrong index, which is so if a caller changes the rank
// of an item without Fix. It is for tests.
func (h *Heap[T]) Verify() error {
	for i, x := range h.items {
		if *h.index(x) != i {
			return fmt.Errorf("item %d stores the index %d", i, *h.index(x))
		}
		if i > 0 && h.less(x, h.items[(i-1)/2]) {
			return fmt.Errorf("item %d is less than its parent", i)
		}
	}
	return nil
}

func (h *Heap[T]) move(i int) {
	if !h.down(i) {
		h.up(i)
	}
}

func (h *Heap[T]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.less(h.items[i], h.items[parent]) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h *Heap[T]) down(i int) (moved bool) {
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			return moved
		}
		if right := child + 1; right < len(h.items) && h.less(h.items[right], h.items[child]) {
			child = right
		}
		if !h.less(h.items[child], h.items[i]) {
			return moved
		}
		h.swap(i, child)
		i, moved = child, true
	}
}

func (h *Heap[T]) swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	*h.index(h.items[i]) = i
	*h.index(h.items[j]) = j
}
