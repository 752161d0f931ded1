// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"slices"
)

// lane holds the items of one Lane.
type lane struct {
	key    Lane
	domain *domain
	// flows holds the ready items: the first entry of the first flow goes next.
	flows tree[userFlow, *userFlow]
	// notReady holds the other items by state; the one of Ready stays empty.
	notReady [stateCount]fifo

	// The fields below are the state of the current Pick.

	// limit is the size from which on items are not offered.
	limit int64
	// skips is the number of items skipped.
	skips int
	// closed is true if no more items of the lane are offered.
	closed bool
	// next is the item to offer next; it is valid unless stale.
	next  *entry
	stale bool
}

// backlog sums up the items of the lane in a state.
func (l *lane) backlog(s State) *backlog {
	if s != Ready {
		return l.notReady[s].backlog()
	}
	if l.flows.root == nil {
		return &noBacklog
	}
	return &l.flows.root.sum.backlog
}

func (l *lane) empty() bool {
	return l.flows.root == nil && l.notReady[BackingOff].root == nil && l.notReady[Suspended].root == nil
}

// firstBelow returns the first ready entry in order with fewer tokens than the
// limit, nil if there is none.
func (l *lane) firstBelow(limit int64) *entry {
	n := l.flows.root
	for n != nil && n.sum.smallest < limit {
		switch left := n.node.left; {
		case left != nil && left.sum.smallest < limit:
			n = left
		case n.own.smallest < limit:
			return n.fifo.firstBelow(limit)
		default:
			n = n.node.right
		}
	}
	return nil
}

// firstOf returns the first flow of a band, nil if it is empty.
func (l *lane) firstOf(b band) *userFlow {
	var first *userFlow
	for n := l.flows.root; n != nil; {
		if n.band.compare(b) < 0 {
			n = n.node.right
			continue
		}
		if n.band == b {
			first = n
		}
		n = n.node.left
	}
	return first
}

// lane returns the lane with the key and creates it, and its domain, if needed.
func (q *Queue) lane(key Lane) *lane {
	if l, ok := q.lanes[key]; ok {
		return l
	}
	d := q.domain(q.domainOf(key))
	if len(d.lanes) == 0 {
		d.activate(q)
	}
	l := &lane{key: key, domain: d}
	d.lanes = append(d.lanes, l)
	q.lanes[key] = l
	return l
}

// release drops the lane if it is empty.
func (q *Queue) release(l *lane) {
	if !l.empty() {
		return
	}
	delete(q.lanes, l.key)
	d := l.domain
	i := slices.Index(d.lanes, l)
	d.lanes = slices.Delete(d.lanes, i, i+1)
	if len(d.lanes) == 0 {
		d.deactivate(q)
	}
}

// place inserts an entry into the structure for its state.
func (q *Queue) place(e *entry) {
	e.lane = q.lane(e.item.Lane)
	e.cost = q.cost(e.item.User, e.item.Tokens)
	switch e.state {
	case Ready:
		q.addReady(e)
	case BackingOff:
		e.lane.notReady[BackingOff].insert(e)
		q.delayed.Push(e)
	default:
		e.lane.notReady[e.state].insert(e)
	}
}

// displace removes an entry from the structure for its state. It keeps an empty
// lane.
func (q *Queue) displace(e *entry) {
	switch e.state {
	case Ready:
		q.removeReady(e)
	case BackingOff:
		e.lane.notReady[BackingOff].remove(e)
		q.delayed.Remove(e)
	default:
		e.lane.notReady[e.state].remove(e)
	}
}

// addReady adds a ready entry to the flow of its user.
func (q *Queue) addReady(e *entry) {
	u := e.lane.domain.userCounter(q, e.item.User)
	q.pin(u)
	f := u.flow(e.lane, e.band())
	if f == nil {
		f = &userFlow{owner: u, lane: e.lane, band: e.band()}
		f.node.height = q.height()
		u.flows = append(u.flows, f)
	}
	e.flow = f
	if f.head != nil && compareArrival(f.head, e) < 0 {
		f.fifo.insert(e)
		f.recount()
		f.lane.flows.refresh(f)
		return
	}
	if f.head != nil {
		f.lane.flows.remove(f)
	}
	f.fifo.insert(e)
	f.recount()
	f.lane.flows.insert(f)
}

// removeReady removes a ready entry from its flow.
func (q *Queue) removeReady(e *entry) {
	f := e.flow
	e.flow = nil
	if f.head != e {
		f.fifo.remove(e)
		f.recount()
		f.lane.flows.refresh(f)
	} else {
		f.lane.flows.remove(f)
		f.fifo.remove(e)
		if f.fifo.root != nil {
			f.recount()
			f.lane.flows.insert(f)
		} else {
			f.owner.removeFlow(f)
		}
	}
	q.unpin(f.owner)
}
