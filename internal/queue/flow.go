// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"cmp"
	"math"
)

// entry is a queued item and its node in the one tree that holds it: the FIFO
// of its flow when it is ready, otherwise its lane's tree of the state.
type entry struct {
	item    Item
	arrival int64
	// cost is what taking the item adds to its user's counter.
	cost  int64
	state State
	lane  *lane
	// flow is nil unless the item is ready.
	flow *userFlow
	// due is the place in the heap of items that back off.
	due int

	// skipped is true if the item was passed over since it became ready, first at
	// skippedAt, when its domain had served skippedFrom tokens.
	skipped     bool
	skippedAt   int64
	skippedFrom int64

	node link[entry]
	sum  backlog
	// last is the latest entry of the subtree.
	last *entry
}

// backlog sums up the items of a subtree.
type backlog struct {
	items  int
	tokens int64
	cost   int64
	// smallest is the size of the smallest item in tokens, MaxInt64 without items.
	smallest int64
}

var noBacklog = backlog{smallest: math.MaxInt64}

func (b *backlog) add(o *backlog) {
	b.items += o.items
	b.tokens += o.tokens
	b.cost += o.cost
	b.smallest = min(b.smallest, o.smallest)
}

func (e *entry) links() *link[entry] { return &e.node }

func (e *entry) before(o *entry) bool { return compareArrival(e, o) < 0 }

func (e *entry) pull() {
	e.sum = backlog{items: 1, tokens: e.item.Tokens, cost: e.cost, smallest: e.item.Tokens}
	e.last = e
	if l := e.node.left; l != nil {
		e.sum.add(&l.sum)
	}
	if r := e.node.right; r != nil {
		e.sum.add(&r.sum)
		e.last = r.last
	}
}

// fifo holds entries by arrival.
type fifo struct {
	tree[entry, *entry]
}

func (f *fifo) backlog() *backlog {
	if f.root == nil {
		return &noBacklog
	}
	return &f.root.sum
}

// firstBelow returns the first entry with fewer tokens than the limit, nil if
// there is none.
func (f *fifo) firstBelow(limit int64) *entry {
	n := f.root
	for n != nil && n.sum.smallest < limit {
		switch l := n.node.left; {
		case l != nil && l.sum.smallest < limit:
			n = l
		case n.item.Tokens < limit:
			return n
		default:
			n = n.node.right
		}
	}
	return nil
}

// band is a rank above users: items of a higher band always go first.
type band struct {
	priority int32
	stage    int
}

// compare is negative if b goes before o.
func (b band) compare(o band) int {
	if c := cmp.Compare(o.priority, b.priority); c != 0 {
		return c
	}
	return cmp.Compare(o.stage, b.stage)
}

func (e *entry) band() band { return band{e.item.Priority, e.item.StageIndex} }

// userFlow holds the ready items of one user in one lane and band, in order of
// arrival. It is a node of its lane's tree, which orders flows by their heads.
type userFlow struct {
	owner *userCounter
	lane  *lane
	band  band
	fifo  fifo

	// The fields below cache, in one place in memory, what the tree needs of the
	// counter and the FIFO; recount updates them.

	// counter is the owner's counter.
	counter int64
	// head is the earliest entry and arrival its arrival.
	head    *entry
	arrival int64
	// own sums up the FIFO.
	own flowSum

	node link[userFlow]
	sum  flowSum
}

// flowSum sums up the flows of a subtree.
type flowSum struct {
	backlog

	flows int
	// counters is the sum of the flows' counters: approximate, for estimates only.
	counters float64
	// last is the latest place of an entry, valid if the flows are of one band.
	last tag
}

// tag is the place of an entry in its band: its user's counter at its turn, then
// its arrival.
//
// Taking the head of a flow moves its cost from the backlog to the counter, so
// the tags of the others do not change. The user with the least counter is the
// one whose head has the least tag. So serving a band by counters means serving
// it in the order of tags.
type tag struct {
	start int64
	entry *entry
}

func (t tag) before(o tag) bool {
	if t.start != o.start {
		return t.start < o.start
	}
	return compareArrival(t.entry, o.entry) < 0
}

func (f *userFlow) links() *link[userFlow] { return &f.node }

func (f *userFlow) before(o *userFlow) bool {
	if c := f.band.compare(o.band); c != 0 {
		return c < 0
	}
	if f.counter != o.counter {
		return f.counter < o.counter
	}
	if f.arrival != o.arrival {
		return f.arrival < o.arrival
	}
	return f.head.item.Key < o.head.item.Key
}

// begins is the place of the head.
func (f *userFlow) begins() tag { return tag{f.counter, f.head} }

// recount updates the cached fields after a change of the counter or the FIFO,
// which must not be empty.
// A flow whose head or counter changes must not be in a tree.
func (f *userFlow) recount() {
	root := f.fifo.root
	f.counter = f.owner.counter
	f.head = f.fifo.first()
	f.arrival = f.head.arrival
	f.own = flowSum{
		backlog:  root.sum,
		flows:    1,
		counters: float64(f.counter),
		last:     tag{f.counter + root.sum.cost - root.last.cost, root.last},
	}
}

func (f *userFlow) pull() {
	f.sum = f.own
	for _, child := range [...]*userFlow{f.node.left, f.node.right} {
		if child == nil {
			continue
		}
		f.sum.add(&child.sum.backlog)
		f.sum.flows += child.sum.flows
		f.sum.counters += child.sum.counters
		if f.sum.last.before(child.sum.last) {
			f.sum.last = child.sum.last
		}
	}
}
