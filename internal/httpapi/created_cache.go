// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"context"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

const (
	// createdTTL is how long a scan is kept that the watch does not deliver. The watch is usually milliseconds behind.
	createdTTL = 10 * time.Second
	// maxCreated bounds the scans that are kept. Polls of others read the API server.
	maxCreated = 10000
)

// createdCache keeps scans that exist but that the watch has not delivered yet: those created here, and those that a
// poll has read from the API server. Such a scan is visible at once, and is read from the API server once, however far
// the watch is behind.
type createdCache struct {
	clock clock.PassiveClock

	mu    sync.Mutex
	scans map[string]createdScan
}

type createdScan struct {
	scan  *v1alpha1.ScanRequest
	since time.Time
}

func newCreatedCache(k clock.PassiveClock) *createdCache {
	return &createdCache{clock: k, scans: map[string]createdScan{}}
}

// get returns a scan, or nil.
func (c *createdCache) get(name string) *v1alpha1.ScanRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.scans[name]
	if !ok || c.clock.Since(known.since) > createdTTL {
		delete(c.scans, name)
		return nil
	}
	return known.scan
}

func (c *createdCache) put(scan *v1alpha1.ScanRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	if len(c.scans) >= maxCreated {
		for name, known := range c.scans {
			if now.Sub(known.since) > createdTTL {
				delete(c.scans, name)
			}
		}
		if len(c.scans) >= maxCreated {
			return
		}
	}
	c.scans[scan.Name] = createdScan{scan: scan, since: now}
}

// drop removes a scan: the watch has delivered it, or it was deleted.
func (c *createdCache) drop(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.scans, name)
}

// remember caches a scan that the API server has just returned until the watch delivers it.
func (s *Server) remember(ctx context.Context, scan *v1alpha1.ScanRequest) {
	trimmed, err := Trim(scan)
	if err != nil {
		return
	}
	kept, ok := trimmed.(*v1alpha1.ScanRequest)
	if !ok {
		return
	}
	s.created.put(kept)
	// The watch may have delivered it in between; then no event would drop it.
	if _, err := s.scans.Get(ctx, scan.Name); err == nil {
		s.created.drop(scan.Name)
	}
}
