// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"
)

// model is the queue's specification in its simplest form: a list of items,
// searched in full for every operation.
type model struct {
	weight    func(string) int64
	domainOf  func(Lane) string
	maxSkip   time.Duration
	maxPass   int64
	lookAhead int
	// forgets is whether idle counters are dropped as in the queue. The order must
	// not depend on it unless something is refunded.
	forgets bool

	items   []*modelItem
	domains map[string]*modelDomain
}

type modelItem struct {
	Item
	state       State
	skipped     bool
	skippedAt   time.Time
	skippedFrom int64
}

type modelDomain struct {
	users    map[string]*modelUser
	lastLeft int64
	served   int64
	settled  bool
}

type modelUser struct {
	counter, credit int64
	active          bool
}

func newModel() *model {
	return &model{
		domainOf:  func(l Lane) string { return l.Namespace + "/" + l.Model },
		maxSkip:   DefaultMaxSkip,
		maxPass:   DefaultMaxPass,
		lookAhead: DefaultLookAhead,
		domains:   map[string]*modelDomain{},
	}
}

func (m *model) cost(user string, tokens int64) int64 {
	if m.weight == nil {
		return tokens * costScale
	}
	return tokens * costScale / m.weight(user)
}

func (m *model) domain(l Lane) *modelDomain {
	name := m.domainOf(l)
	if m.domains[name] == nil {
		m.domains[name] = &modelDomain{users: map[string]*modelUser{}, settled: true}
	}
	return m.domains[name]
}

func (d *modelDomain) floor() int64 {
	floor := int64(math.MaxInt64)
	for _, u := range d.users {
		if u.active {
			floor = min(floor, u.counter)
		}
	}
	if floor == math.MaxInt64 {
		return d.lastLeft
	}
	return floor
}

func (m *model) user(it *modelItem) *modelUser { return m.domain(it.Lane).users[it.User] }

// activity makes users active and idle according to the items.
func (m *model) activity() {
	type account struct{ domain, user string }
	waiting := map[account]bool{}
	for _, it := range m.items {
		if it.state == Ready {
			waiting[account{m.domainOf(it.Lane), it.User}] = true
		}
	}
	for name, d := range m.domains {
		for user, u := range d.users {
			if u.active && !waiting[account{name, user}] {
				u.active = false
				if !slices.ContainsFunc(slices.Collect(maps.Values(d.users)), func(u *modelUser) bool { return u.active }) {
					d.lastLeft = u.counter
				}
			}
		}
	}
}

// admit makes the item's user active.
func (m *model) admit(it *modelItem) {
	if it.state != Ready {
		m.domain(it.Lane)
		return
	}
	d := m.domain(it.Lane)
	u := d.users[it.User]
	if u == nil {
		u = &modelUser{}
		d.users[it.User] = u
	}
	if !u.active {
		u.counter = max(u.counter, d.floor()-u.credit)
		u.credit, u.active = 0, true
	}
}

func (m *model) promote(now time.Time) {
	var due []*modelItem
	for _, it := range m.items {
		if it.state == BackingOff && !it.NotBefore.After(now) {
			due = append(due, it)
		}
	}
	slices.SortFunc(due, func(a, b *modelItem) int {
		return cmp.Or(a.NotBefore.Compare(b.NotBefore), a.Arrival.Compare(b.Arrival), cmp.Compare(a.Key, b.Key))
	})
	for _, it := range due {
		it.state = Ready
		m.admit(it)
	}
}

func (m *model) find(key string) *modelItem {
	for _, it := range m.items {
		if it.Key == key {
			return it
		}
	}
	return nil
}

func (m *model) Upsert(item Item, now time.Time) {
	m.promote(now)
	state := Ready
	switch {
	case item.Suspended:
		state = Suspended
	case item.NotBefore.After(now):
		state = BackingOff
	}
	it := m.find(item.Key)
	if it == nil {
		it = &modelItem{}
		m.items = append(m.items, it)
	} else if state != Ready || it.Lane != item.Lane {
		it.skipped = false
	}
	it.Item, it.state = item, state
	m.admit(it)
	m.settle()
}

// settle follows an operation other than a Pick.
func (m *model) settle() {
	m.activity()
	for name, d := range m.domains {
		if m.empty(name) {
			d.settled = true
			if len(d.users) == 0 {
				delete(m.domains, name)
			}
		}
	}
}

func (m *model) empty(domain string) bool {
	return !slices.ContainsFunc(m.items, func(it *modelItem) bool { return m.domainOf(it.Lane) == domain })
}

func (m *model) Remove(key string) bool {
	it := m.find(key)
	if it == nil {
		return false
	}
	m.delete(it)
	m.settle()
	return true
}

func (m *model) delete(it *modelItem) {
	m.items = slices.DeleteFunc(m.items, func(o *modelItem) bool { return o == it })
}

func (m *model) collect() {
	for name, d := range m.domains {
		if !m.forgets || m.empty(name) && !d.settled {
			continue
		}
		d.settled = false
		for user, u := range d.users {
			if !u.active && u.counter+u.credit <= d.floor() {
				delete(d.users, user)
			}
		}
		if m.empty(name) && len(d.users) == 0 {
			delete(m.domains, name)
		}
	}
}

// compare is the order of items within a domain. Among users with equal counters
// the one whose first item arrived earlier goes first.
func (m *model) compare(a, b *modelItem) int {
	x, y := m.head(a), m.head(b)
	return cmp.Or(
		cmp.Compare(b.Priority, a.Priority),
		cmp.Compare(b.StageIndex, a.StageIndex),
		cmp.Compare(m.user(a).counter, m.user(b).counter),
		x.Arrival.Compare(y.Arrival),
		cmp.Compare(x.Key, y.Key),
		a.Arrival.Compare(b.Arrival),
		cmp.Compare(a.Key, b.Key),
	)
}

// head is the first item of the same user, lane, priority and stage.
func (m *model) head(it *modelItem) *modelItem {
	first := it
	for _, o := range m.items {
		if o.state == Ready && o.Lane == it.Lane && o.Priority == it.Priority && o.StageIndex == it.StageIndex && o.User == it.User &&
			cmp.Or(o.Arrival.Compare(first.Arrival), cmp.Compare(o.Key, first.Key)) < 0 {
			first = o
		}
	}
	return first
}

func (m *model) Pick(now time.Time, try func(Item) Decision) {
	m.promote(now)
	m.collect()
	limit := map[Lane]int64{}
	skips := map[Lane]int{}
	closed := map[Lane]bool{}
	skipped := map[string][]*modelItem{}
	done := map[string]bool{}
	for {
		// The first of each domain.
		firsts := map[string]*modelItem{}
		for _, it := range m.items {
			name := m.domainOf(it.Lane)
			if bound, ok := limit[it.Lane]; it.state != Ready || closed[it.Lane] || done[name] || ok && it.Tokens >= bound {
				continue
			}
			if firsts[name] == nil || m.compare(it, firsts[name]) < 0 {
				firsts[name] = it
			}
		}
		var next *modelItem
		for name, it := range firsts {
			if m.mustWait(it, skipped[name], limit, now) {
				done[name] = true
				continue
			}
			if next == nil || cmp.Or(
				cmp.Compare(next.Priority, it.Priority),
				cmp.Compare(next.StageIndex, it.StageIndex),
				it.Arrival.Compare(next.Arrival),
				cmp.Compare(it.Key, next.Key),
			) < 0 {
				next = it
			}
		}
		if next == nil {
			break
		}
		d := m.domain(next.Lane)
		switch try(next.Item) {
		case Take:
			d.served += next.Tokens
			d.users[next.User].counter += m.cost(next.User, next.Tokens)
			m.delete(next)
			m.activity()
		case Drop:
			m.delete(next)
			m.activity()
		case Skip:
			if !next.skipped {
				next.skipped, next.skippedAt, next.skippedFrom = true, now, d.served
			}
			name := m.domainOf(next.Lane)
			skipped[name] = append(skipped[name], next)
			limit[next.Lane] = next.Tokens
			skips[next.Lane]++
			closed[next.Lane] = skips[next.Lane] >= m.lookAhead
		case SkipLane:
			closed[next.Lane] = true
		default:
			m.settle()
			return
		}
	}
	m.settle()
}

// mustWait reports whether an item may not pass a skipped one.
func (m *model) mustWait(it *modelItem, skipped []*modelItem, limit map[Lane]int64, now time.Time) bool {
	for _, s := range skipped {
		if now.Sub(s.skippedAt) >= m.maxSkip || m.domain(it.Lane).served-s.skippedFrom >= m.maxPass {
			return true
		}
	}
	if _, ok := limit[it.Lane]; !ok {
		return false
	}
	for _, o := range m.items {
		if o.state == Ready && o.Lane == it.Lane && o.Priority == it.Priority && o.StageIndex == it.StageIndex &&
			m.user(it).counter-m.user(o).counter > m.maxPass*costScale {
			return true
		}
	}
	return false
}

func (m *model) give(d *modelDomain, user string, tokens int64) {
	cost := m.cost(user, tokens)
	u := d.users[user]
	if !u.active {
		u.credit += cost
	}
	u.counter = max(u.counter-cost, 0)
}

func (m *model) Refund(lane Lane, user string, tokens int64) {
	if d := m.domains[m.domainOf(lane)]; d != nil && d.users[user] != nil {
		m.give(d, user, tokens)
	}
}

func (m *model) Adjust(lane Lane, user string, delta int64) {
	d := m.domains[m.domainOf(lane)]
	if d == nil || d.users[user] == nil {
		if delta <= 0 || m.cost(user, delta) <= 0 {
			return
		}
		d = m.domain(lane)
		d.users[user] = &modelUser{counter: d.floor()}
	}
	u := d.users[user]
	u.counter = max(u.counter+m.cost(user, delta), 0)
}

// Position serves every band of every lane of the domain item by item.
func (m *model) Position(key string) (Position, bool) {
	target := m.find(key)
	if target == nil {
		return Position{}, false
	}
	d := m.domain(target.Lane)
	level := d.floor()
	if u := d.users[target.User]; u != nil && u.active {
		level = u.counter
	} else if u != nil {
		level = max(u.counter, d.floor()-u.credit)
	}
	var same []*modelItem
	var pos Position
	count := func(it *modelItem) {
		pos.Ahead++
		pos.TokensAhead += it.Tokens
	}
	lanes := map[Lane]bool{target.Lane: true}
	for _, it := range m.items {
		if it.state != Ready || it == target || m.domainOf(it.Lane) != m.domainOf(target.Lane) {
			continue
		}
		switch c := cmp.Or(cmp.Compare(target.Priority, it.Priority), cmp.Compare(target.StageIndex, it.StageIndex)); {
		case c < 0:
			count(it)
		case c == 0:
			same = append(same, it)
			lanes[it.Lane] = true
		}
	}
	same = append(same, target)
	counterOf := func(it *modelItem) int64 {
		if it.User == target.User {
			return level
		}
		return m.user(it).counter
	}
	// serve calls visit for the items of a lane in the order of service, each with
	// its user's counter at the time.
	serve := func(lane Lane, visit func(it *modelItem, at int64) bool) {
		counters := map[string]int64{}
		var left []*modelItem
		for _, it := range same {
			if it.Lane == lane {
				left = append(left, it)
				counters[it.User] = counterOf(it)
			}
		}
		for len(left) > 0 {
			next := slices.MinFunc(left, func(a, b *modelItem) int {
				return cmp.Or(cmp.Compare(counters[a.User], counters[b.User]), a.Arrival.Compare(b.Arrival), cmp.Compare(a.Key, b.Key))
			})
			if !visit(next, counters[next.User]) {
				return
			}
			counters[next.User] += m.cost(next.User, next.Tokens)
			left = slices.DeleteFunc(left, func(it *modelItem) bool { return it == next })
		}
	}
	var turn int64
	serve(target.Lane, func(it *modelItem, at int64) bool {
		turn = at
		if it != target {
			count(it)
		}
		return it != target
	})
	for lane := range lanes {
		if lane == target.Lane {
			continue
		}
		serve(lane, func(it *modelItem, at int64) bool {
			ahead := cmp.Or(cmp.Compare(at, turn), it.Arrival.Compare(target.Arrival), cmp.Compare(it.Key, target.Key)) < 0
			if ahead {
				count(it)
			}
			return ahead
		})
	}
	return pos, true
}

func (m *model) count(lane Lane) Counts {
	var c Counts
	for _, it := range m.items {
		if m.domainOf(it.Lane) != m.domainOf(lane) {
			continue
		}
		switch it.state {
		case Ready:
			c.Ready++
			c.ReadyTokens += it.Tokens
		case BackingOff:
			c.BackingOff++
		default:
			c.Suspended++
		}
	}
	return c
}
