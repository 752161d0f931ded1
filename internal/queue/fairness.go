// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"slices"

	"github.com/eco2-team/scan-operator/internal/heap"
)

// The bound on unfairness.
//
// Let users u and v always have ready items in one band of one lane, and nothing
// else. Let L be the largest cost of an item, P the bound on tokens of WithAging
// and F the most by which one user's calls in flight can be over- or
// underestimated together. Write c for a counter and r for what it will be once
// the calls in flight are adjusted, so |c - r| <= F.
//
// Without skips only the user with the least counter is taken, so u is taken
// only while c(u) <= c(v). With skips an item of u is taken only while u leads
// the first flow of the band, hence v, by at most P. Either way at that moment
//
//	r(u) <= c(u) + F <= c(v) + P + F <= r(v) + P + 2F,
//
// and the take adds at most L to r(u). Nothing else changes r(u) - r(v), so by
// induction and symmetry
//
//	|r(u) - r(v)| <= L + P + 2F
//
// from the time it first holds, which is at once for users that became active at
// the same level. What a user is served in an interval is the growth of its r,
// so over any interval the two differ by at most 2(L + P + 2F): the 2U of the
// paper, whose U is L here, with the cost of passing and of estimates made
// explicit. If estimates are never too low, as reservations are, it is L + P + F.
// With weights all of this is in tokens per weight, up to one unit of 1/4096
// token per item for rounding.

// costScale is the number of counter units in a token at weight 1, so that
// dividing by a weight loses little. Counters last for 2^51 tokens.
const costScale = 1 << 12

// cost is what an amount of tokens adds to the user's counter.
func (q *Queue) cost(user string, tokens int64) int64 {
	cost := tokens * costScale
	if q.weight != nil {
		cost /= max(q.weight(user), 1)
	}
	return cost
}

// userCounter is the counter of one user in one domain.
type userCounter struct {
	domain  *domain
	user    string
	counter int64
	// credit is what was refunded since the user was last active: it was not idle
	// by choice, its items were being served.
	credit int64
	// pins is the number of ready items, plus the operations that keep the user
	// active while they move an item.
	pins int
	// flows has one element for each lane and band with ready items of the user.
	flows []*userFlow
	// index is the place in the heap of the active or of the idle users.
	index int
}

// level decides whether an idle user's counter still matters.
func (u *userCounter) level() int64 { return u.counter + u.credit }

func (u *userCounter) flow(l *lane, b band) *userFlow {
	for _, f := range u.flows {
		if f.lane == l && f.band == b {
			return f
		}
	}
	return nil
}

func (u *userCounter) removeFlow(f *userFlow) {
	i, last := slices.Index(u.flows, f), len(u.flows)-1
	u.flows[i], u.flows[last] = u.flows[last], nil
	u.flows = u.flows[:last]
}

// domain is a group of lanes that draw on the same budgets.
type domain struct {
	name  string
	lanes []*lane
	users map[string]*userCounter
	// active holds the users with ready items, the least counter on top.
	active heap.Heap[userCounter]
	// idle holds the others, the least level on top.
	idle heap.Heap[userCounter]
	// lastLeft is the counter of the user that was the last to become idle.
	lastLeft int64
	// served is the sum of tokens taken.
	served int64
	// index is the place among the busy or among the parked domains.
	index int
	// parkedAt numbers the domains in the order in which they were parked.
	parkedAt uint64
	// turn is the place in the heap of the domains with something to offer.
	turn int

	offers
}

// floor is where a newly active user starts: at the counter of the least served
// active user or, without one, of the user that was active last.
func (d *domain) floor() int64 {
	if u := d.active.Top(); u != nil {
		return u.counter
	}
	return d.lastLeft
}

// entryLevel is the user's counter, or the one it would have if it became active
// now.
func (d *domain) entryLevel(user string) int64 {
	u := d.users[user]
	switch {
	case u == nil:
		return d.floor()
	case u.pins > 0:
		return u.counter
	default:
		return max(u.counter, d.floor()-u.credit)
	}
}

// domain returns the domain with the name and creates it if needed. A new one is
// parked, because it has no lanes.
func (q *Queue) domain(name string) *domain {
	if d, ok := q.domains[name]; ok {
		return d
	}
	place := func(u *userCounter) *int { return &u.index }
	d := &domain{
		name:   name,
		users:  map[string]*userCounter{},
		active: heap.New(func(u, b *userCounter) bool { return u.counter < b.counter }, place),
		idle:   heap.New(func(u, b *userCounter) bool { return u.level() < b.level() }, place),
	}
	q.domains[name] = d
	q.park(d)
	return d
}

// find returns the domain of the lane, nil if there is none.
func (q *Queue) find(key Lane) *domain {
	if l, ok := q.lanes[key]; ok {
		return l.domain
	}
	return q.domains[q.domainOf(key)]
}

// park adds a domain to the parked ones.
func (q *Queue) park(d *domain) {
	q.parks++
	d.parkedAt = q.parks
	q.parked.Push(d)
	q.newlyParked = append(q.newlyParked, d)
}

// activate moves a parked domain that gets its first lane to the busy ones.
func (d *domain) activate(q *Queue) {
	q.parked.Remove(d)
	d.index = len(q.busy)
	q.busy = append(q.busy, d)
}

// deactivate parks a domain that lost its last lane.
func (d *domain) deactivate(q *Queue) {
	last := len(q.busy) - 1
	q.busy[d.index] = q.busy[last]
	q.busy[d.index].index = d.index
	q.busy[last] = nil
	q.busy = q.busy[:last]
	q.park(d)
	q.drop(d)
}

// userCounter returns the user's counter in the domain and creates it if needed.
// A new one is idle.
func (d *domain) userCounter(q *Queue, user string) *userCounter {
	if u, ok := d.users[user]; ok {
		return u
	}
	u := &userCounter{domain: d, user: user}
	d.users[user] = u
	d.idle.Push(u)
	q.idleUsers++
	return u
}

// pin makes a user active or keeps it active.
func (q *Queue) pin(u *userCounter) {
	u.pins++
	if u.pins > 1 {
		return
	}
	d := u.domain
	d.idle.Remove(u)
	q.idleUsers--
	u.counter = max(u.counter, d.floor()-u.credit)
	u.credit = 0
	d.active.Push(u)
}

// unpin undoes one pin.
func (q *Queue) unpin(u *userCounter) {
	u.pins--
	if u.pins > 0 {
		return
	}
	d := u.domain
	d.active.Remove(u)
	if d.active.Len() == 0 {
		d.lastLeft = u.counter
	}
	d.idle.Push(u)
	q.idleUsers++
	q.limitIdle(d)
}

// add changes a user's counter and moves its flows to their new places: O(f log
// n) for f lanes and bands with ready items of the user, of which there are few.
func (u *userCounter) add(cost int64) {
	for _, f := range u.flows {
		f.lane.flows.remove(f)
	}
	u.counter = max(u.counter+cost, 0)
	for _, f := range u.flows {
		f.recount()
		f.lane.flows.insert(f)
		f.lane.stale = true
	}
	if u.pins > 0 {
		u.domain.active.Fix(u)
	} else {
		u.domain.idle.Fix(u)
	}
}

// charge charges a taken item to its user.
func (q *Queue) charge(u *userCounter, e *entry) {
	u.domain.served += e.item.Tokens
	u.add(e.cost)
}

// Refund refunds to the user what was charged for an item of the lane that was
// taken and then returned without having been served.
//
// An item that returns before the next Pick, with an Upsert before or after the
// Refund, gets its old place. A counter that was dropped needs no refund: its
// user starts at the floor, and a refund would not lower it further.
func (q *Queue) Refund(lane Lane, user string, tokens int64) {
	d := q.find(lane)
	if d == nil || d.users[user] == nil {
		return
	}
	u := d.users[user]
	cost := q.cost(user, max(clampTokens(tokens), 0))
	if u.pins == 0 {
		u.credit += cost
	}
	u.add(-cost)
}

// Adjust charges the user the difference between what an item of the lane cost
// and what was charged for it; a negative difference is refunded. A user whose
// counter was dropped meanwhile is charged from the floor, so users cannot avoid
// a charge by becoming idle while their calls run.
func (q *Queue) Adjust(lane Lane, user string, delta int64) {
	cost := q.cost(user, clampTokens(delta))
	d := q.find(lane)
	if d != nil && d.users[user] != nil {
		d.users[user].add(cost)
		return
	}
	if cost <= 0 {
		return
	}
	if d == nil {
		d = q.domain(q.domainOf(lane))
	}
	u := d.userCounter(q, user)
	u.add(d.floor() + cost)
	q.limitIdle(d)
	q.drop(d)
}

// collect drops the idle counters that no longer matter: their users would start
// at the floor when they return. The floor falls only by refunds and downward
// adjustments, so such a user gains at most what was refunded to others. It runs
// at the beginning of a Pick, so that a Refund before the next Pick finds the
// counter.
func (q *Queue) collect() {
	for _, d := range q.busy {
		q.collectIn(d)
	}
	for i, d := range q.newlyParked {
		q.newlyParked[i] = nil
		if q.domains[d.name] == d && len(d.lanes) == 0 {
			q.collectIn(d)
			q.drop(d)
		}
	}
	q.newlyParked = q.newlyParked[:0]
}

func (q *Queue) collectIn(d *domain) {
	for u := d.idle.Top(); u != nil && u.level() <= d.floor(); u = d.idle.Top() {
		q.forget(u)
	}
}

// limitIdle keeps the number of idle users within its limit. It drops the
// domains without items first, the longest parked one at the beginning, then
// the users of domain d with the smallest lead, who gain least by it.
func (q *Queue) limitIdle(d *domain) {
	for q.idleUsers > q.maxIdle {
		oldest := q.parked.Top()
		if oldest == nil || oldest == d {
			q.forget(d.idle.Top())
			continue
		}
		for oldest.idle.Len() > 0 {
			q.forget(oldest.idle.Top())
		}
		q.drop(oldest)
	}
}

// forget drops the counter of an idle user.
func (q *Queue) forget(u *userCounter) {
	d := u.domain
	d.idle.Remove(u)
	q.idleUsers--
	delete(d.users, u.user)
}

// drop drops a domain that has neither lanes nor counters. New counters start at
// zero: only differences within a domain matter.
func (q *Queue) drop(d *domain) {
	if len(d.lanes) == 0 && len(d.users) == 0 {
		q.parked.Remove(d)
		delete(q.domains, d.name)
	}
}
