// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queue

import "math"

// open begins a Pick.
func (d *domain) open() {
	d.offers = offers{}
	for _, l := range d.lanes {
		l.limit, l.skips, l.closed, l.stale = math.MaxInt64, 0, false, true
	}
}

// advance finds the next entry to offer and reports whether there is one.
func (d *domain) advance(q *Queue, at int64) bool {
	d.next = nil
	for _, l := range d.lanes {
		if l.closed {
			continue
		}
		if l.stale {
			l.next, l.stale = l.firstBelow(l.limit), false
		}
		if l.next != nil && (d.next == nil || l.next.flow.before(d.next.flow)) {
			d.next = l.next
		}
	}
	if d.next != nil && (d.reserved(q, at) || q.leads(d.next)) {
		d.next = nil
	}
	return d.next != nil
}

// skip records that an entry does not fit.
func (d *domain) skip(q *Queue, e *entry, at int64) {
	if !e.skipped {
		e.skipped, e.skippedAt, e.skippedFrom = true, at, d.served
	}
	if d.skipped {
		d.skippedAt = min(d.skippedAt, e.skippedAt)
		d.skippedFrom = min(d.skippedFrom, e.skippedFrom)
	} else {
		d.skipped, d.skippedAt, d.skippedFrom = true, e.skippedAt, e.skippedFrom
	}
	l := e.lane
	l.limit = e.item.Tokens
	l.skips++
	l.closed = l.skips >= q.lookAhead
	l.stale = true
}

// reserved reports whether an item skipped in this Pick has been passed for as
// long, or by as much, as allowed: items of lower rank then have to wait. Only
// items skipped in this Pick count, so an item that waits for another reason
// than its size, such as a lack of workers, reserves nothing.
//
// Tokens are counted from the first skip on and include those of items that
// rank first, so an item is passed by less than the bound and one more item.
func (d *domain) reserved(q *Queue, at int64) bool {
	return d.skipped && (at-d.skippedAt >= q.maxSkip || d.served-d.skippedFrom >= q.maxPass)
}

// leads reports whether the user of an entry has been served so much more than
// the first user of the band that it may not pass it again. Time and tokens
// bound the passing of an item; this bounds the passing of its user over any
// number of items.
func (q *Queue) leads(e *entry) bool {
	if e.lane.limit == math.MaxInt64 {
		return false
	}
	first := e.lane.firstOf(e.band())
	return e.flow.owner.counter-first.owner.counter > q.maxPass*costScale
}
