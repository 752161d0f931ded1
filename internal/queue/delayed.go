// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queue

import "time"

func dueBefore(a, b *entry) bool {
	x, y := unixNanos(a.item.NotBefore), unixNanos(b.item.NotBefore)
	if x != y {
		return x < y
	}
	return compareArrival(a, b) < 0
}

// stateOf is the state of an item at a time.
func stateOf(item *Item, now int64) State {
	switch {
	case item.Suspended:
		return Suspended
	case !item.NotBefore.IsZero() && unixNanos(item.NotBefore) > now:
		return BackingOff
	default:
		return Ready
	}
}

// promote readies the items whose time has come.
func (q *Queue) promote(now int64) {
	for e := q.delayed.Top(); e != nil && unixNanos(e.item.NotBefore) <= now; e = q.delayed.Top() {
		q.displace(e)
		e.state = Ready
		q.place(e)
	}
}

// NextDue returns when the next item that backs off becomes ready. It may lie in
// the past: only Upsert and Pick make items ready.
func (q *Queue) NextDue() (time.Time, bool) {
	e := q.delayed.Top()
	if e == nil {
		return time.Time{}, false
	}
	return e.item.NotBefore, true
}
