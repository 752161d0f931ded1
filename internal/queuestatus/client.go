// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queuestatus

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
)

const (
	// requestEvery is the shortest time between two requests to the leader.
	requestEvery = 500 * time.Millisecond
	// refreshAfter is the age from which a position is requested again while callers want it. The wait of a new
	// scan is refreshed at this age whether it is wanted or not: the first submit of a burst must find it.
	refreshAfter = 1500 * time.Millisecond
	// expireAfter is the age from which a position is not returned any more: the leader is gone, or more scans are
	// tracked than can be requested in time.
	expireAfter = 10 * time.Second
	// trackedFor is how long a scan's position is refreshed after the last call for it. It is longer than the
	// longest time between two polls of one client, 15 s.
	trackedFor = 20 * time.Second
	// maxTracked bounds the scans whose position is refreshed, and with them the memory: some 200 bytes each.
	maxTracked = 20000
)

// ClientOptions are what a Client needs. Namespace must be set.
type ClientOptions struct {
	// Namespace is where the scans are.
	Namespace string
	// URLs are the base URLs of the managers' queue servers. A host with several addresses stands for all of
	// them. Without URLs, no position or wait is ever known.
	URLs []*url.URL
	// MetricsRegistry registers the metrics. Default: none.
	MetricsRegistry prometheus.Registerer
	// Log gets a line when a leader is found or lost.
	Log logr.Logger
	// Clock is the time source. Default: the wall clock.
	Clock clock.WithTicker
	// Resolver finds addresses. Default: the system's.
	Resolver Resolver
}

// Client caches the positions of the waiting scans of one namespace, as of a few seconds ago. A call never blocks: it
// returns what is cached, and what is missing is requested from the leader in one batch with what other callers want.
// Hence the first call for a scan returns "not known", and later ones return its position.
type Client struct {
	namespace string
	clock     clock.WithTicker
	log       logr.Logger
	leader    *leader
	requests  *prometheus.CounterVec
	// reachable is whether the last request was answered; Run's own.
	reachable bool

	mu      sync.Mutex
	scans   map[string]*entry
	newScan newScanWait
}

// entry is the cached position of one scan.
type entry struct {
	wanted   time.Time // the last call for it
	asOf     time.Time // when it was requested from the leader; zero: never
	waits    bool
	position QueuePosition
}

// newScanWait is the cached wait of a new scan.
type newScanWait struct {
	asOf  time.Time
	wait  time.Duration
	known bool
}

// NewClient returns a client whose cache is empty until Run runs.
func NewClient(o ClientOptions) (*Client, error) {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	c := &Client{
		namespace: o.Namespace, clock: o.Clock, log: o.Log, leader: newLeader(o.URLs, o.Resolver),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scan_api_queue_requests_total",
			Help: "Requests to the leader about waiting scans, by outcome: answered, or failed where no manager responded.",
		}, []string{"outcome"}),
		reachable: true, // so that a first failure is logged
		scans:     map[string]*entry{},
	}
	if o.MetricsRegistry != nil {
		if err := o.MetricsRegistry.Register(c.requests); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return c, nil
}

// Position returns the number of scans ahead of a waiting scan and the estimated time until its next stage begins,
// nil where that is not known. ok is false where nothing is known, or the scan is not queued.
func (c *Client) Position(namespace, name string) (position int, estimatedWait *time.Duration, ok bool) {
	if namespace != c.namespace {
		return 0, nil, false
	}
	now := c.clock.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.scans[name]
	if e == nil {
		if len(c.scans) < maxTracked {
			c.scans[name] = &entry{wanted: now}
		}
		return 0, nil, false
	}
	e.wanted = now
	age := now.Sub(e.asOf)
	if !e.waits || e.position.Reason == ReasonSuspended || age > expireAfter {
		return 0, nil, false
	}
	if e.position.WaitSeconds != nil {
		estimatedWait = new(max(durationOf(*e.position.WaitSeconds)-age, 0))
	}
	return e.position.Ahead, estimatedWait, true
}

// EstimatedWait returns the time that a scan submitted at asOf would wait; ok is false where that is not known.
func (c *Client) EstimatedWait(namespace string) (wait time.Duration, asOf time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.newScan
	if namespace != c.namespace || !n.known || c.clock.Since(n.asOf) > expireAfter {
		return 0, time.Time{}, false
	}
	return n.wait, n.asOf, true
}

// Run requests positions from the leader until ctx is done. A missing leader is not an error.
func (c *Client) Run(ctx context.Context) error {
	if len(c.leader.urls) == 0 {
		<-ctx.Done()
		return nil
	}
	tick := c.clock.NewTicker(requestEvery)
	defer tick.Stop()
	for {
		c.refresh(ctx)
		select {
		case <-tick.C():
		case <-ctx.Done():
			return nil
		}
	}
}

// refresh sends one request to the leader, if something is due.
func (c *Client) refresh(ctx context.Context) {
	now := c.clock.Now()
	names, due := c.due(now)
	if !due {
		return
	}
	response, err := c.leader.send(ctx, c.namespace, Request{Names: names})
	if ctx.Err() != nil {
		return
	}
	if reachable := err == nil; reachable != c.reachable {
		c.reachable = reachable
		if reachable {
			c.log.Info("connected to leader", "address", *c.leader.current.Load())
		} else {
			c.log.Info("no manager reachable: responses omit position and wait", "reason", err.Error())
		}
	}
	if err != nil {
		c.requests.WithLabelValues("failed").Inc()
		return
	}
	c.requests.WithLabelValues("answered").Inc()
	c.store(now, names, response)
}

// due returns the names to request, the oldest positions first, and removes the scans that no call has wanted for
// trackedFor.
func (c *Client) due(now time.Time) (names []string, due bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, e := range c.scans {
		switch {
		case now.Sub(e.wanted) > trackedFor:
			delete(c.scans, name)
		case now.Sub(e.asOf) >= refreshAfter:
			names = append(names, name)
		}
	}
	if len(names) > MaxNames {
		slices.SortFunc(names, func(a, b string) int {
			return cmp.Or(c.scans[a].asOf.Compare(c.scans[b].asOf), cmp.Compare(a, b))
		})
		names = names[:MaxNames]
	}
	return names, len(names) > 0 || now.Sub(c.newScan.asOf) >= refreshAfter
}

// store caches a response. It is as old as its request.
func (c *Client) store(requested time.Time, names []string, response *Response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		e := c.scans[name]
		e.asOf = requested
		e.position, e.waits = response.Scans[name]
	}
	c.newScan = newScanWait{asOf: requested}
	if response.NewScanWaitSeconds != nil {
		c.newScan.wait, c.newScan.known = durationOf(*response.NewScanWaitSeconds), true
	}
}

// durationOf converts seconds to a duration. The leader bounds its estimates, so that it cannot overflow.
func durationOf(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second))
}
