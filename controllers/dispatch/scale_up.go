// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// ScaleUpSignal collects the pools that need more workers until the LoadNotifier takes them.
type ScaleUpSignal struct {
	// raised has a value in it while there are any.
	raised chan struct{}

	mu    sync.Mutex
	pools map[types.NamespacedName]struct{}
}

// NewScaleUpSignal returns a signal without pools.
func NewScaleUpSignal() *ScaleUpSignal {
	return &ScaleUpSignal{raised: make(chan struct{}, 1), pools: map[types.NamespacedName]struct{}{}}
}

// Raise adds a pool. It never blocks.
func (s *ScaleUpSignal) Raise(name types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pools[name] = struct{}{}
	select {
	case s.raised <- struct{}{}:
	default:
	}
}

// take returns the pools collected so far.
func (s *ScaleUpSignal) take() []types.NamespacedName {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.Collect(maps.Keys(s.pools))
	clear(s.pools)
	return names
}
