// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queue

import "math"

// maxStraddle is how many users' partial backlogs a Position searches before it
// estimates: about 0.1 ms of work at 100,000 items.
const maxStraddle = 256

// Position returns the place of the item with the key among the ready items of
// its domain, and whether there is such an item. An item that backs off or is
// suspended gets the place that it would have if it were ready.
//
// The items ahead are, in every lane of the domain, those of a higher priority,
// those of the same priority and a later stage, and those of the same priority
// and stage whose turn comes first if each user is charged item by item, from
// its present counter. For items of one band this is exactly the order in which
// Pick would offer them without arrivals and skips. It ignores that users with
// items in several bands or lanes are charged there too: their items come later
// in the lower band than returned, by at most their tokens in the higher ones.
//
// Users whose whole backlog is ahead are summed up; a user whose backlog is
// partly ahead costs a search. After 256 searches the rest is estimated, and the
// largest possible error is returned: O(log n) and at most 256 searches.
func (q *Queue) Position(key string) (Position, bool) {
	e, ok := q.index[key]
	if !ok {
		return Position{}, false
	}
	d := e.lane.domain
	s := survey{band: e.band(), at: tag{d.entryLevel(e.item.User) + costAhead(e), e}, searches: q.straddle}
	for _, l := range d.lanes {
		s.add(l.flows.root, false, false)
	}
	return s.pos, true
}

// costAhead is the cost of the ready items of the same flow that came earlier.
func costAhead(e *entry) int64 {
	u := e.lane.domain.users[e.item.User]
	if u == nil {
		return 0
	}
	f := u.flow(e.lane, e.band())
	if f == nil {
		return 0
	}
	var cost int64
	for n := f.fifo.root; n != nil; {
		if !n.before(e) {
			n = n.node.left
			continue
		}
		if l := n.node.left; l != nil {
			cost += l.sum.cost
		}
		cost += n.cost
		n = n.node.right
	}
	return cost
}

// survey sums up what is ahead of a place.
type survey struct {
	band     band
	at       tag
	searches int
	pos      Position
}

// add adds the items of a subtree that are ahead. The subtree is above if none
// of its flows can be of a lower band or begin after the place, and within if
// none can be of a higher band.
func (s *survey) add(n *userFlow, above, within bool) {
	for n != nil {
		if above {
			if n.sum.last.before(s.at) {
				s.count(n.sum.items, n.sum.tokens)
				return
			}
			if within && s.searches <= 0 {
				s.estimate(&n.sum)
				return
			}
		}
		c := n.band.compare(s.band)
		switch {
		case c > 0, c == 0 && !n.begins().before(s.at):
			n = n.node.left
			continue
		case c < 0:
			if l := n.node.left; l != nil {
				s.count(l.sum.items, l.sum.tokens)
			}
			s.count(n.own.items, n.own.tokens)
			n = n.node.right
			continue
		}
		s.add(n.node.left, true, within)
		s.search(n)
		n, within = n.node.right, true
	}
}

func (s *survey) count(items int, tokens int64) {
	s.pos.Ahead += items
	s.pos.TokensAhead += tokens
}

// search adds the part of a flow that is ahead.
func (s *survey) search(f *userFlow) {
	if f.own.last.before(s.at) {
		s.count(f.own.items, f.own.tokens)
		return
	}
	s.searches--
	start := f.counter
	for n := f.fifo.root; n != nil; {
		here := start
		if l := n.node.left; l != nil {
			here += l.sum.cost
		}
		if !(tag{here, n}).before(s.at) {
			n = n.node.left
			continue
		}
		if l := n.node.left; l != nil {
			s.count(l.sum.items, l.sum.tokens)
		}
		s.count(1, n.item.Tokens)
		start = here + n.cost
		n = n.node.right
	}
}

// estimate adds the part of a subtree that is ahead, if all its flows are of the
// band and begin before the place: at least the head of each flow and at most
// everything. In between it assumes that all flows are served up to the place.
func (s *survey) estimate(sum *flowSum) {
	least := float64(sum.flows)
	most := float64(sum.items)
	share := 1.0
	if sum.cost > 0 {
		served := least*float64(s.at.start) - sum.counters
		share = min(served/float64(sum.cost), 1)
	}
	items := math.Round(min(max(share*most, least), most))
	s.pos.Ahead += int(items)
	s.pos.AheadError += int(max(items-least, most-items))

	leastTokens := sum.smallest * int64(sum.flows)
	tokens := min(max(int64(items/most*float64(sum.tokens)), leastTokens), sum.tokens)
	s.pos.TokensAhead += tokens
	s.pos.TokensError += max(tokens-leastTokens, sum.tokens-tokens)
}
