// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queue

// heap is a binary heap whose items store their index, so that any of them can
// be moved or removed in O(log n).
type heap[T any] struct {
	items []*T
	less  func(a, b *T) bool
	// place is where an item keeps its index.
	place func(*T) *int
}

func (h *heap[T]) len() int { return len(h.items) }

// top returns the least item, nil if the heap is empty.
func (h *heap[T]) top() *T {
	if len(h.items) == 0 {
		return nil
	}
	return h.items[0]
}

func (h *heap[T]) push(x *T) {
	h.items = append(h.items, x)
	*h.place(x) = len(h.items) - 1
	h.up(len(h.items) - 1)
}

func (h *heap[T]) remove(x *T) {
	i, last := *h.place(x), len(h.items)-1
	h.swap(i, last)
	h.items[last] = nil
	h.items = h.items[:last]
	if i < last {
		h.move(i)
	}
}

// clear removes all items.
func (h *heap[T]) clear() {
	clear(h.items)
	h.items = h.items[:0]
}

// fix restores the order after the rank of x changed.
func (h *heap[T]) fix(x *T) { h.move(*h.place(x)) }

func (h *heap[T]) move(i int) {
	if !h.down(i) {
		h.up(i)
	}
}

func (h *heap[T]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.less(h.items[i], h.items[parent]) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h *heap[T]) down(i int) (moved bool) {
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

func (h *heap[T]) swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	*h.place(h.items[i]) = i
	*h.place(h.items[j]) = j
}
