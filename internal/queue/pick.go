package queue

import (
	"slices"
	"time"
)

// offers is the state of a domain in the current Pick.
type offers struct {
	// next is the entry to offer next.
	next *entry
	// skipped says that an item was skipped, the one that waits longest since
	// skippedAt and since the domain had served skippedFrom tokens.
	skipped     bool
	skippedAt   int64
	skippedFrom int64
}

// Pick offers ready items in order until try says Stop or none is left to offer.
// It removes those that are taken or dropped before it offers the next. The
// order holds within a domain; between domains the first items go by priority,
// stage and arrival. An unknown decision counts as Stop.
//
// Pick costs O(lanes), and O(log n + lanes of the domain) for every offer. The
// callback must not call methods of the queue.
func (q *Queue) Pick(now time.Time, try func(Item) Decision) {
	at := unixNanos(now)
	q.promote(at)
	q.collect()
	q.offering.clear()
	for _, d := range q.busy {
		d.open()
		if d.advance(q, at) {
			q.offering.push(d)
		}
	}
	for d := q.offering.top(); d != nil; d = q.offering.top() {
		e := d.next
		switch try(e.item) {
		case Take:
			q.take(e)
		case Drop:
			q.discard(e)
			e.lane.stale = true
		case Skip:
			d.skip(q, e, at)
		case SkipLane:
			e.lane.closed = true
		default:
			q.offering.clear()
			continue
		}
		if d.advance(q, at) {
			q.offering.fix(d)
		} else {
			q.offering.remove(d)
		}
	}
	q.sweep()
}

// offeredBefore orders domains by the first item of each. Counters of different
// domains do not compare, so arrival decides after band.
func offeredBefore(a, b *domain) bool {
	if c := a.next.band().compare(b.next.band()); c != 0 {
		return c < 0
	}
	return compareArrival(a.next, b.next) < 0
}

// take removes an entry and charges its user.
func (q *Queue) take(e *entry) {
	u := e.flow.owner
	q.pin(u)
	q.discard(e)
	q.charge(u, e)
	e.lane.stale = true
	q.unpin(u)
}

// discard removes an entry and leaves its lane, even if it is empty.
func (q *Queue) discard(e *entry) {
	delete(q.index, e.item.Key)
	q.displace(e)
}

// sweep forgets the lanes that a Pick emptied. It goes backward because each one
// leaves its list on the way.
func (q *Queue) sweep() {
	for _, d := range slices.Backward(q.busy) {
		for _, l := range slices.Backward(d.lanes) {
			q.release(l)
		}
	}
}
