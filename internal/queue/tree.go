// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queue

// link makes a type a node of a tree.
type link[T any] struct {
	left, right *T
	// height orders parents over children. It is drawn at random, which keeps the
	// tree's depth logarithmic with overwhelming probability.
	height uint32
}

// treeNode is a node that knows its order and the aggregates of its subtree.
type treeNode[T any] interface {
	*T
	links() *link[T]
	// before is a strict total order of the nodes of a tree. The fields it depends
	// on must not change while the node is in a tree.
	before(other *T) bool
	// pull recomputes the node's aggregates from itself and its children.
	pull()
}

// tree is a treap: an intrusive, ordered tree that keeps aggregates of every
// subtree. All operations cost O(log n).
type tree[T any, P treeNode[T]] struct {
	root P
}

// insert adds n, which must not be in a tree.
func (t *tree[T, P]) insert(n P) {
	l := n.links()
	l.left, l.right = nil, nil
	t.root = insertBelow(t.root, n)
}

// remove removes n, which must be in this tree.
func (t *tree[T, P]) remove(n P) {
	t.root = removeBelow(t.root, n)
	l := n.links()
	l.left, l.right = nil, nil
}

// refresh recomputes the aggregates that n is part of.
func (t *tree[T, P]) refresh(n P) {
	refreshBelow(t.root, n)
}

// first returns the lowest node, nil if the tree is empty.
func (t *tree[T, P]) first() P {
	n := t.root
	for n != nil && n.links().left != nil {
		n = n.links().left
	}
	return n
}

func insertBelow[T any, P treeNode[T]](root, n P) P {
	if root == nil {
		n.pull()
		return n
	}
	r := root.links()
	if n.links().height > r.height {
		below, above := split(root, n)
		n.links().left, n.links().right = below, above
		n.pull()
		return n
	}
	if n.before(root) {
		r.left = insertBelow(P(r.left), n)
	} else {
		r.right = insertBelow(P(r.right), n)
	}
	root.pull()
	return root
}

// split parts a subtree into the nodes before and the nodes after n.
func split[T any, P treeNode[T]](root, n P) (below, above P) {
	if root == nil {
		return nil, nil
	}
	r := root.links()
	if root.before(n) {
		mid, above := split(P(r.right), n)
		r.right = mid
		root.pull()
		return root, above
	}
	below, mid := split(P(r.left), n)
	r.left = mid
	root.pull()
	return below, root
}

func removeBelow[T any, P treeNode[T]](root, n P) P {
	r := root.links()
	if root == n {
		return merge(P(r.left), P(r.right))
	}
	if n.before(root) {
		r.left = removeBelow(P(r.left), n)
	} else {
		r.right = removeBelow(P(r.right), n)
	}
	root.pull()
	return root
}

// merge joins two subtrees of which all of below is before all of above.
func merge[T any, P treeNode[T]](below, above P) P {
	switch {
	case below == nil:
		return above
	case above == nil:
		return below
	}
	b, a := below.links(), above.links()
	if b.height > a.height {
		b.right = merge(P(b.right), above)
		below.pull()
		return below
	}
	a.left = merge(below, P(a.left))
	above.pull()
	return above
}

func refreshBelow[T any, P treeNode[T]](root, n P) {
	if root != n {
		if n.before(root) {
			refreshBelow(P(root.links().left), n)
		} else {
			refreshBelow(P(root.links().right), n)
		}
	}
	root.pull()
}
