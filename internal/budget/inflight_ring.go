package budget

// dispatch is a reservation that the provider may not have seen yet.
type dispatch struct {
	at     ledgerTime
	cost   sums
	landed bool // charged already: answered, or taken back
}

// inflightRing holds the dispatches in the order they were reserved. Its elements are known by sequence numbers that
// count from zero. The memory grows with the calls of one dispatch delay and is reused.
type inflightRing struct {
	ring []dispatch // length is a power of two
	head int        // sequence number of the oldest element
	next int        // sequence number of the next one
	// pending is the sum of all elements that have not landed.
	pending sums
}

func (p *inflightRing) push(d dispatch) int {
	if p.next-p.head == len(p.ring) {
		p.grow()
	}
	seq := p.next
	p.ring[seq&(len(p.ring)-1)] = d
	p.next++
	for u := range d.cost {
		p.pending[u] += d.cost[u]
	}
	return seq
}

func (p *inflightRing) grow() {
	old := p.ring
	p.ring = make([]dispatch, max(64, 2*len(old)))
	for seq := p.head; seq < p.next; seq++ {
		p.ring[seq&(len(p.ring)-1)] = old[seq&(len(old)-1)]
	}
}

// get returns an element that has not been popped, or nil.
func (p *inflightRing) get(seq int) *dispatch {
	if seq < p.head || seq >= p.next {
		return nil
	}
	return &p.ring[seq&(len(p.ring)-1)]
}

// markLanded marks an element as landed. It returns false where it has landed before.
func (p *inflightRing) markLanded(seq int) bool {
	d := p.get(seq)
	if d == nil || d.landed {
		return false
	}
	d.landed = true
	for u := range d.cost {
		p.pending[u] -= d.cost[u]
	}
	return true
}

// oldest returns the oldest element, or nil.
func (p *inflightRing) oldest() *dispatch { return p.get(p.head) }

// pop forgets the oldest element, which must have landed.
func (p *inflightRing) pop() { p.head++ }
