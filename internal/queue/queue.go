// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"math/rand/v2"
	"time"

	"github.com/eco2-team/scan-operator/internal/heap"
)

// Queue is the fair queue. Create it with New. It is not safe for concurrent
// use: its owner's lock guards it.
//
// Unless documented otherwise, an operation costs O(log n + f log n) for n
// queued items and f combinations of lane and priority in which the user has
// ready items.
type Queue struct {
	weight    func(user string) int64
	domainOf  func(Lane) string
	maxSkip   int64
	maxPass   int64
	lookAhead int
	maxIdle   int
	// straddle is how many users' partial backlogs a Position searches.
	straddle int

	index map[string]*entry
	lanes map[Lane]*lane
	// delayed holds the items that back off, the next one due on top.
	delayed heap.Heap[entry]

	domains map[string]*domain
	// busy holds the domains with lanes, parked those without, the one parked
	// first on top.
	busy   []*domain
	parked heap.Heap[domain]
	parks  uint64
	// newlyParked holds the domains that were parked since the last Pick.
	newlyParked []*domain
	// offering holds the domains with something to offer in this Pick.
	offering heap.Heap[domain]

	idleUsers int

	// random shapes the trees and nothing else, so its sequence is the same on every run.
	random *rand.PCG
}

// New returns an empty queue.
func New(opts ...Option) *Queue {
	q := &Queue{
		domainOf:  func(l Lane) string { return l.Namespace + "/" + l.Model },
		maxSkip:   int64(DefaultMaxSkip),
		maxPass:   DefaultMaxPass,
		lookAhead: DefaultLookAhead,
		maxIdle:   DefaultIdleUsers,
		straddle:  maxStraddle,
		index:     map[string]*entry{},
		lanes:     map[Lane]*lane{},
		delayed:   heap.New(dueBefore, func(e *entry) *int { return &e.due }),
		domains:   map[string]*domain{},
		random:    rand.NewPCG(1, 2),
	}
	place := func(d *domain) *int { return &d.index }
	q.parked = heap.New(func(a, b *domain) bool { return a.parkedAt < b.parkedAt }, place)
	q.offering = heap.New(offeredBefore, func(d *domain) *int { return &d.turn })
	for _, opt := range opts {
		opt(q)
	}
	return q
}

// Upsert adds the item or replaces the one with the same key. A skipped item
// that stays ready keeps its claim, and an update does not make its user newly
// active.
func (q *Queue) Upsert(item Item, now time.Time) {
	at := unixNanos(now)
	q.promote(at)
	item.Tokens = max(clampTokens(item.Tokens), 0)
	state := stateOf(&item, at)
	e, known := q.index[item.Key]
	if !known {
		e = &entry{item: item, arrival: unixNanos(item.Arrival), state: state}
		e.node.height = q.height()
		q.index[item.Key] = e
		q.place(e)
		return
	}
	if e.state == state && samePlace(&e.item, &item) {
		e.item = item
		return
	}
	q.replace(e, item, state)
}

// samePlace reports whether an item can replace another without a move.
func samePlace(a, b *Item) bool {
	return a.Lane == b.Lane && a.StageIndex == b.StageIndex && a.Priority == b.Priority && a.User == b.User &&
		a.Tokens == b.Tokens && unixNanos(a.Arrival) == unixNanos(b.Arrival) && unixNanos(a.NotBefore) == unixNanos(b.NotBefore)
}

// replace moves an entry to the place of the new item.
func (q *Queue) replace(e *entry, item Item, state State) {
	was := e.lane
	var pinned *userCounter
	if e.state == Ready {
		pinned = e.flow.owner
		q.pin(pinned)
	}
	q.displace(e)
	if state != Ready || e.item.Lane != item.Lane {
		e.skipped = false
	}
	e.item, e.arrival, e.state = item, unixNanos(item.Arrival), state
	q.place(e)
	if pinned != nil {
		q.unpin(pinned)
	}
	q.release(was)
}

// Remove deletes the item with the key, without a charge, and reports whether
// there was one.
func (q *Queue) Remove(key string) bool {
	e, ok := q.index[key]
	if !ok {
		return false
	}
	q.discard(e)
	q.release(e.lane)
	return true
}

// Get returns the item with the key.
func (q *Queue) Get(key string) (Item, bool) {
	e, ok := q.index[key]
	if !ok {
		return Item{}, false
	}
	return e.item, true
}

// Len returns the number of items in all states.
func (q *Queue) Len() int { return len(q.index) }

// LenDomain counts the items of a lane and of all lanes that compete with it, by
// state, as of the last Upsert or Pick: O(lanes of the domain).
func (q *Queue) LenDomain(key Lane) Counts {
	var c Counts
	d := q.find(key)
	if d == nil {
		return c
	}
	for _, l := range d.lanes {
		ready := l.backlog(Ready)
		c.Ready += ready.items
		c.ReadyTokens += ready.tokens
		c.BackingOff += l.backlog(BackingOff).items
		c.Suspended += l.backlog(Suspended).items
	}
	return c
}

// Ready counts the ready items of a stage in a namespace over all models, as of
// the last Upsert or Pick: O(lanes).
func (q *Queue) Ready(namespace, stage string) int {
	var n int
	for key, l := range q.lanes {
		if key.Namespace == namespace && key.Stage == stage {
			n += l.backlog(Ready).items
		}
	}
	return n
}

// height draws the height of a tree's node.
func (q *Queue) height() uint32 { return uint32(q.random.Uint64() >> 32) }
