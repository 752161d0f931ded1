package httpapi

import (
	"context"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

const (
	// recentTTL is how long a scan is remembered that the watch does not deliver. It is usually milliseconds behind.
	recentTTL = 10 * time.Second
	// maxRecent bounds the scans that are remembered. Polls of others ask the API server.
	maxRecent = 10000
)

// recent remembers scans that are known to exist and that the watch has not delivered yet: those created here, and
// those that a poll has asked the API server for. So such a scan is visible at once, and the API server is asked for
// it once, however far the watch is behind.
type recent struct {
	clock clock.PassiveClock

	mu    sync.Mutex
	scans map[string]recentScan
}

type recentScan struct {
	scan  *v1alpha1.ScanRequest
	since time.Time
}

func newRecent(c clock.PassiveClock) *recent {
	return &recent{clock: c, scans: map[string]recentScan{}}
}

// get returns a remembered scan, or nil.
func (r *recent) get(name string) *v1alpha1.ScanRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.scans[name]
	if !ok || r.clock.Since(known.since) > recentTTL {
		delete(r.scans, name)
		return nil
	}
	return known.scan
}

func (r *recent) put(scan *v1alpha1.ScanRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Now()
	if len(r.scans) >= maxRecent {
		for name, known := range r.scans {
			if now.Sub(known.since) > recentTTL {
				delete(r.scans, name)
			}
		}
		if len(r.scans) >= maxRecent {
			return
		}
	}
	r.scans[scan.Name] = recentScan{scan: scan, since: now}
}

// drop forgets a scan: the watch knows better, or it was deleted.
func (r *recent) drop(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.scans, name)
}

// remember keeps a scan that the API server has just told of until the watch delivers it.
func (s *Server) remember(ctx context.Context, scan *v1alpha1.ScanRequest) {
	trimmed, err := Trim(scan)
	if err != nil {
		return
	}
	kept, ok := trimmed.(*v1alpha1.ScanRequest)
	if !ok {
		return
	}
	s.recent.put(kept)
	// The watch may have delivered it in between; then nothing would make it forgotten.
	if _, err := s.scans.Get(ctx, scan.Name); err == nil {
		s.recent.drop(scan.Name)
	}
}
