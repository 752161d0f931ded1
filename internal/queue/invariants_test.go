// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"math"
	"testing"

	"github.com/eco2-team/scan-operator/internal/heap"
)

// checkInvariants walks all structures of a queue and fails the test if they
// disagree.
func checkInvariants(t *testing.T, q *Queue) {
	t.Helper()
	entries, idle, lanes := 0, 0, 0
	for name, d := range q.domains {
		if name != d.name {
			t.Fatalf("domain %q is filed under %q", d.name, name)
		}
		if len(d.lanes) == 0 && (len(d.users) == 0 || !q.parked.Contains(d)) {
			t.Fatalf("domain %q without lanes has %d accounts and is not at rest", name, len(d.users))
		}
		if len(d.lanes) > 0 && q.busy[d.index] != d {
			t.Fatalf("domain %q has lanes and is not busy", name)
		}
		for _, l := range d.lanes {
			lanes++
			if l.domain != d || q.lanes[l.key] != l || l.empty() {
				t.Fatalf("lane %v is misfiled or empty", l.key)
			}
			entries += checkLane(t, l)
		}
		idle += d.idle.Len()
		checkHeap(t, &d.active)
		checkHeap(t, &d.idle)
		if d.active.Len()+d.idle.Len() != len(d.users) {
			t.Fatalf("domain %q has %d accounts, %d active and %d idle", name, len(d.users), d.active.Len(), d.idle.Len())
		}
		for user, u := range d.users {
			checkAccount(t, user, u)
		}
	}
	if entries != len(q.index) || lanes != len(q.lanes) || idle != q.idleUsers || idle > q.maxIdle {
		t.Fatalf("%d entries of %d, %d lanes of %d, %d idle users of %d (limit %d)",
			entries, len(q.index), lanes, len(q.lanes), idle, q.idleUsers, q.maxIdle)
	}
	checkHeap(t, &q.delayed)
	checkHeap(t, &q.parked)
}

func checkAccount(t *testing.T, user string, u *userCounter) {
	t.Helper()
	ready := 0
	for _, f := range u.flows {
		if f.owner != u || f.lane.domain != u.domain {
			t.Fatalf("user %q has a flow of another account", user)
		}
		ready += f.fifo.backlog().items
	}
	if u.user != user || u.pins != ready || u.counter < 0 {
		t.Fatalf("user %q: %d holds for %d items, counter %d", user, u.pins, ready, u.counter)
	}
	h := &u.domain.idle
	if u.pins > 0 {
		h = &u.domain.active
	}
	if !h.Contains(u) {
		t.Fatalf("user %q is not where its activity says", user)
	}
}

func checkHeap[T any](t *testing.T, h *heap.Heap[T]) {
	t.Helper()
	if err := h.Verify(); err != nil {
		t.Fatal(err)
	}
}

func checkLane(t *testing.T, l *lane) int {
	t.Helper()
	n := 0
	checkTree(t, &l.flows, func(f *userFlow) {
		own, counter, head := f.own, f.counter, f.head
		f.recount()
		if f.lane != l || f.own != own || f.counter != counter || f.head != head || f.arrival != head.arrival {
			t.Fatalf("flow of %q: wrong lane or out of date", f.owner.user)
		}
		n += checkFIFO(t, &f.fifo, func(e *entry) bool { return e.state == Ready && e.flow == f && e.lane == l && e.band() == f.band })
	}, func(f *userFlow) flowSum { return f.sum })
	for _, s := range []State{BackingOff, Suspended} {
		n += checkFIFO(t, &l.notReady[s], func(e *entry) bool { return e.state == s && e.flow == nil && e.lane == l })
	}
	if l.notReady[Ready].root != nil {
		t.Fatalf("lane %v parks ready items", l.key)
	}
	return n
}

func checkFIFO(t *testing.T, f *fifo, belongs func(*entry) bool) int {
	t.Helper()
	n := 0
	checkTree(t, &f.tree, func(e *entry) {
		n++
		if !belongs(e) || e.arrival == math.MaxInt64 {
			t.Fatalf("%s is not where it belongs", e.item.Key)
		}
	}, func(e *entry) backlog { return e.sum })
	if f.backlog().items != n {
		t.Fatalf("a FIFO of %d items counts %d", n, f.backlog().items)
	}
	return n
}

// checkTree checks the order, the heights and the aggregates of a tree and
// visits its nodes.
func checkTree[T any, P treeNode[T], S comparable](t *testing.T, tr *tree[T, P], visit func(P), sum func(P) S) {
	t.Helper()
	var last P
	var walk func(P)
	walk = func(n P) {
		if n == nil {
			return
		}
		for _, child := range []*T{n.links().left, n.links().right} {
			if child != nil && P(child).links().height > n.links().height {
				t.Fatal("a child is higher than its parent")
			}
		}
		walk(n.links().left)
		if last != nil && !last.before(n) {
			t.Fatal("a tree is out of order")
		}
		last = n
		visit(n)
		walk(n.links().right)
		was := sum(n)
		n.pull()
		if sum(n) != was {
			t.Fatalf("stale aggregates: %v, now %v", was, sum(n))
		}
	}
	walk(tr.root)
}
