package controllers

import (
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// wanting collects the pools whose calls want more workers, as the scheduler tells them, until somebody takes them.
type wanting struct {
	// some has a value in it while there are any.
	some chan struct{}

	mu    sync.Mutex
	pools map[types.NamespacedName]struct{}
}

func newWanting() *wanting {
	return &wanting{some: make(chan struct{}, 1), pools: map[types.NamespacedName]struct{}{}}
}

// add never blocks.
func (w *wanting) add(name types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pools[name] = struct{}{}
	select {
	case w.some <- struct{}{}:
	default:
	}
}

// take returns the pools collected so far.
func (w *wanting) take() []types.NamespacedName {
	w.mu.Lock()
	defer w.mu.Unlock()
	names := slices.Collect(maps.Keys(w.pools))
	clear(w.pools)
	return names
}
