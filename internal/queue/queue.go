package queue

import "time"

// Queue is the fair queue. Create it with New. It is not safe for concurrent
// use: its owner's lock guards it.
type Queue struct {
	weight    func(user string) int64
	domainOf  func(Lane) string
	maxSkip   int64
	maxPass   int64
	lookAhead int
	maxIdle   int

	index map[string]*entry
}

type entry struct {
	item    Item
	arrival int64
}

// New returns an empty queue.
func New(opts ...Option) *Queue {
	q := &Queue{index: map[string]*entry{}}
	for _, opt := range opts {
		opt(q)
	}
	return q
}

// Upsert adds the item or replaces the one with the same key.
func (q *Queue) Upsert(item Item, _ time.Time) {
	q.index[item.Key] = &entry{item: item, arrival: instant(item.Arrival)}
}

// Remove deletes the item with the key and reports whether there was one.
func (q *Queue) Remove(key string) bool {
	_, ok := q.index[key]
	delete(q.index, key)
	return ok
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

// LenLane counts the items of a lane by state.
func (q *Queue) LenLane(Lane) Counts { return Counts{} }

// Pick offers ready items in order until try says Stop or none is left to offer.
func (q *Queue) Pick(_ time.Time, _ func(Item) Decision) {}

// Refund takes back the charge for an item that was taken and came back unsent.
func (q *Queue) Refund(_ string, _ int64) {}

// RefundIn is Refund in the domain of the lane.
func (q *Queue) RefundIn(_ Lane, _ string, _ int64) {}

// Adjust adds the difference between actual usage and the estimate.
func (q *Queue) Adjust(_ string, _ int64) {}

// AdjustIn is Adjust in the domain of the lane.
func (q *Queue) AdjustIn(_ Lane, _ string, _ int64) {}

// NextDue returns when the next item that backs off becomes ready.
func (q *Queue) NextDue() (time.Time, bool) { return time.Time{}, false }

// Position returns the place of the item with the key.
func (q *Queue) Position(string) (Position, bool) { return Position{}, false }

// Oldest returns the oldest age by stage and state, sorted.
func (q *Queue) Oldest(time.Time) []Age { return nil }
