// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"sync"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// hub delivers the scans of the watch to the streams that follow them. It holds the open streams only and starts no
// goroutine: the watch's goroutine calls it and never blocks on a stream.
type hub struct {
	mu     sync.RWMutex
	follow map[string]map[*mailbox]struct{}
	open   int
	byUser map[string]int // open streams
	// limit and perUser are the limits of open streams, of all and of one user.
	limit, perUser int
}

// newHub returns a hub for at most limit open streams, and perUser of each user.
func newHub(limit, perUser int) *hub {
	return &hub{
		follow: make(map[string]map[*mailbox]struct{}), byUser: make(map[string]int),
		limit: limit, perUser: perUser,
	}
}

// subscribe opens a mailbox for a scan, or returns the limit of open streams that is reached. The caller must call
// leave.
func (h *hub) subscribe(name, user string) (*mailbox, limitReached) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.open >= h.limit:
		return nil, overallLimit
	case h.byUser[user] >= h.perUser:
		return nil, userLimit
	}
	m := &mailbox{name: name, user: user, ready: make(chan struct{}, 1)}
	if h.follow[name] == nil {
		h.follow[name] = make(map[*mailbox]struct{}, 1)
	}
	h.follow[name][m] = struct{}{}
	h.open++
	h.byUser[user]++
	return m, withinLimits
}

// leave closes a mailbox.
func (h *hub) leave(m *mailbox) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.follow[m.name], m)
	if len(h.follow[m.name]) == 0 {
		delete(h.follow, m.name)
	}
	h.open--
	if h.byUser[m.user]--; h.byUser[m.user] == 0 {
		delete(h.byUser, m.user)
	}
}

// publish delivers a scan to the streams that follow it.
func (h *hub) publish(scan *v1alpha1.ScanRequest, deleted bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for m := range h.follow[scan.Name] {
		m.put(scan, deleted)
	}
}

// size returns the number of open streams and of the scans they follow.
func (h *hub) size() (streams, scans int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.open, len(h.follow)
}

// mailbox holds the latest state of one scan for one stream. An older state that was not taken is replaced:
// the events of the newer one contain its own, so that a slow client costs one pointer, not a queue.
type mailbox struct {
	name  string
	user  string
	ready chan struct{} // buffers one signal: take has a state to return

	mu      sync.Mutex
	scan    *v1alpha1.ScanRequest
	deleted bool
}

func (m *mailbox) put(scan *v1alpha1.ScanRequest, deleted bool) {
	m.mu.Lock()
	m.scan, m.deleted = scan, deleted
	m.mu.Unlock()
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

// take returns the latest state, which may be one that was taken before, and whether the scan was deleted in it.
// It returns nil before the first one.
func (m *mailbox) take() (scan *v1alpha1.ScanRequest, deleted bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.scan, m.deleted
}
