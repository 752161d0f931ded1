package controllers

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

// statusInterval is the least time between two writes of a pool's or a budget's status.
const statusInterval = 5 * time.Second

// pace spaces the writes of one object's status.
type pace struct {
	clock clock.PassiveClock

	mu   sync.Mutex
	last map[types.NamespacedName]time.Time
}

func newPace(c clock.PassiveClock) *pace {
	return &pace{clock: c, last: map[types.NamespacedName]time.Time{}}
}

// due returns zero and takes the turn where the object may be written now, else the time until it may.
func (p *pace) due(name types.NamespacedName) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.Now()
	if last, ok := p.last[name]; ok {
		if wait := last.Add(statusInterval).Sub(now); wait > 0 {
			return wait
		}
	}
	p.last[name] = now
	return 0
}

// forget drops a deleted object.
func (p *pace) forget(name types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.last, name)
}
