// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"slices"
	"time"
)

// offers is the state of a domain in the current Pick.
type offers struct {
	// next is the entry to offer next.
	next *entry
	// skipped is true if an item was skipped. The longest waiting one was first
	// skipped at skippedAt, when the domain had served skippedFrom tokens.
	skipped     bool
	skippedAt   int64
	skippedFrom int64
}

// Pick offers ready items in order until decide returns Stop or none is left. It
// removes a taken or dropped item before it offers the next. The order holds
// within a domain; across domains the first items are ordered by priority, stage
// and arrival. An unknown decision counts as Stop.
//
// Pick costs O(lanes), and O(log n + lanes of the domain) for every offer. The
// callback must not call methods of the queue.
func (q *Queue) Pick(now time.Time, decide func(Item) Decision) {
	at := unixNanos(now)
	q.promote(at)
	q.collect()
	q.offering.Clear()
	for _, d := range q.busy {
		d.open()
		if d.advance(q, at) {
			q.offering.Push(d)
		}
	}
	for d := q.offering.Top(); d != nil; d = q.offering.Top() {
		e := d.next
		switch decide(e.item) {
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
			q.offering.Clear()
			continue
		}
		if d.advance(q, at) {
			q.offering.Fix(d)
		} else {
			q.offering.Remove(d)
		}
	}
	q.sweep()
}

// offeredBefore orders domains by their first items. Counters of different
// domains are not comparable, so arrival decides after band.
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

// discard removes an entry. It keeps an empty lane.
func (q *Queue) discard(e *entry) {
	delete(q.index, e.item.Key)
	q.displace(e)
}

// sweep drops the lanes that a Pick has emptied. It iterates backward because
// release removes lanes from the lists.
func (q *Queue) sweep() {
	for _, d := range slices.Backward(q.busy) {
		for _, l := range slices.Backward(d.lanes) {
			q.release(l)
		}
	}
}
