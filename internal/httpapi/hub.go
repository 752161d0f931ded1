package httpapi

import (
	"sync"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// hub hands the scans that the watch delivers to the streams that follow them. It holds nothing but the open
// streams and starts no goroutine: the watch's own calls it, and never waits for a stream.
type hub struct {
	mu     sync.RWMutex
	follow map[string]map[*mailbox]struct{}
	open   int
	limit  int
}

// newHub returns a hub for at most limit open streams.
func newHub(limit int) *hub {
	return &hub{follow: make(map[string]map[*mailbox]struct{}), limit: limit}
}

// subscribe opens a mailbox for a scan. It returns false when the limit of open streams is reached. The caller
// must call leave.
func (h *hub) subscribe(name string) (*mailbox, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open >= h.limit {
		return nil, false
	}
	m := &mailbox{name: name, ready: make(chan struct{}, 1)}
	if h.follow[name] == nil {
		h.follow[name] = make(map[*mailbox]struct{}, 1)
	}
	h.follow[name][m] = struct{}{}
	h.open++
	return m, true
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
	ready chan struct{} // has room for one signal: take has something to return

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
