// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

// dispatch is a reservation that the provider may not have charged yet.
type dispatch struct {
	at     ledgerTime
	cost   sums
	landed bool // charged already: answered, or canceled
}

// inflightRing holds the dispatches in the order of their reservation. Sequence numbers, from zero, identify its
// elements. Its memory grows with the calls of one dispatch delay and is reused.
type inflightRing struct {
	ring []dispatch // length is a power of two
	head int        // sequence number of the oldest element
	next int        // sequence number of the next one
	// pending is the sum of all elements that have not landed.
	pending sums
}

func (r *inflightRing) push(d dispatch) int {
	if r.next-r.head == len(r.ring) {
		r.grow()
	}
	seq := r.next
	r.ring[seq&(len(r.ring)-1)] = d
	r.next++
	for u := range d.cost {
		r.pending[u] += d.cost[u]
	}
	return seq
}

func (r *inflightRing) grow() {
	old := r.ring
	r.ring = make([]dispatch, max(64, 2*len(old)))
	for seq := r.head; seq < r.next; seq++ {
		r.ring[seq&(len(r.ring)-1)] = old[seq&(len(old)-1)]
	}
}

// get returns an element that has not been popped, or nil.
func (r *inflightRing) get(seq int) *dispatch {
	if seq < r.head || seq >= r.next {
		return nil
	}
	return &r.ring[seq&(len(r.ring)-1)]
}

// markLanded marks an element as landed. It returns false if the element had landed already.
func (r *inflightRing) markLanded(seq int) bool {
	d := r.get(seq)
	if d == nil || d.landed {
		return false
	}
	d.landed = true
	for u := range d.cost {
		r.pending[u] -= d.cost[u]
	}
	return true
}

// oldest returns the oldest element, or nil.
func (r *inflightRing) oldest() *dispatch { return r.get(r.head) }

// pop removes the oldest element, which must have landed.
func (r *inflightRing) pop() { r.head++ }
