package queueapi

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

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

const (
	// askEvery is the shortest time between two requests to the leader.
	askEvery = 500 * time.Millisecond
	// refreshAfter is the age from which an answer is asked for again while somebody wants it, and the age that
	// the outlook for new scans has at most, whether anybody wants it or not: the first submit of a burst must
	// find it.
	refreshAfter = 1500 * time.Millisecond
	// believedFor is the age from which an answer is not given any more: the leader has gone, or more scans are
	// asked about than it can be asked about.
	believedFor = 10 * time.Second
	// interest is how long a scan is asked about after somebody wanted to know. It is longer than the longest
	// time between two polls of one client, 15 s.
	interest = 20 * time.Second
	// maxInterest bounds the scans that are asked about, and with them the memory: some 200 bytes each.
	maxInterest = 20000
)

// ClientOptions are what a Client needs. Namespace must be set.
type ClientOptions struct {
	// Namespace is where the scans are.
	Namespace string
	// URLs are the base URLs of the managers' queue servers. A host with several addresses stands for all of
	// them. Without any, nothing is ever known.
	URLs []*url.URL
	// Registry registers the metrics. Default: none.
	Registry prometheus.Registerer
	// Log is told when a leader is found and lost.
	Log logr.Logger
	// Clock tells the time. Default: the wall clock.
	Clock clock.WithTicker
	// Resolver finds addresses. Default: the system's.
	Resolver Resolver
}

// Client knows how the waiting scans of one namespace stand, as of a few seconds ago. A question never waits: it is
// answered from memory, and what is not known yet is asked of the leader together with what others want to know.
// Hence the first question about a scan is answered "not known", and the next ones are answered.
type Client struct {
	namespace string
	clock     clock.WithTicker
	log       logr.Logger
	leader    *leader
	requests  *prometheus.CounterVec
	// reachable is whether the last request was answered; Run's own.
	reachable bool

	mu       sync.Mutex
	scans    map[string]*entry
	newcomer outlook
}

// entry is what is known of one scan.
type entry struct {
	wanted   time.Time // when somebody last asked
	answered time.Time // when the leader was asked; zero: never
	waits    bool
	standing Standing
}

// outlook is the wait of a new scan.
type outlook struct {
	answered time.Time
	wait     time.Duration
	known    bool
}

// NewClient returns a client that knows nothing until Run runs.
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
			Help: "Requests to the leader about waiting scans, by outcome: answered, or failed where no manager answered.",
		}, []string{"outcome"}),
		reachable: true, // so that a first failure is logged
		scans:     map[string]*entry{},
	}
	if o.Registry != nil {
		if err := o.Registry.Register(c.requests); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return c, nil
}

// Position returns the number of scans ahead of a waiting scan and the estimated time until its next stage begins,
// nil where that is not known. ok is false where nothing is known, or the scan stands in no queue.
func (c *Client) Position(namespace, name string) (position int, estimatedWait *time.Duration, ok bool) {
	if namespace != c.namespace {
		return 0, nil, false
	}
	now := c.clock.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.scans[name]
	if e == nil {
		if len(c.scans) < maxInterest {
			c.scans[name] = &entry{wanted: now}
		}
		return 0, nil, false
	}
	e.wanted = now
	age := now.Sub(e.answered)
	if !e.waits || e.standing.Reason == v1alpha1.ReasonSuspended || age > believedFor {
		return 0, nil, false
	}
	if e.standing.WaitSeconds != nil {
		estimatedWait = new(max(durationOf(*e.standing.WaitSeconds)-age, 0))
	}
	return e.standing.Ahead, estimatedWait, true
}

// EstimatedWait returns the time that a scan submitted at asOf would wait; ok is false where that is not known.
func (c *Client) EstimatedWait(namespace string) (wait time.Duration, asOf time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.newcomer
	if namespace != c.namespace || !o.known || c.clock.Since(o.answered) > believedFor {
		return 0, time.Time{}, false
	}
	return o.wait, o.answered, true
}

// Run asks the leader until ctx is done. It never fails for want of a leader.
func (c *Client) Run(ctx context.Context) error {
	if len(c.leader.urls) == 0 {
		<-ctx.Done()
		return nil
	}
	tick := c.clock.NewTicker(askEvery)
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

// refresh puts one question to the leader, if there is something to ask.
func (c *Client) refresh(ctx context.Context) {
	now := c.clock.Now()
	names, due := c.due(now)
	if !due {
		return
	}
	answer, err := c.leader.ask(ctx, c.namespace, Question{Names: names})
	if ctx.Err() != nil {
		return
	}
	if reachable := err == nil; reachable != c.reachable {
		c.reachable = reachable
		if reachable {
			c.log.Info("The leader tells how waiting scans stand", "address", *c.leader.current.Load())
		} else {
			c.log.Info("Nobody tells how waiting scans stand; answers go without positions and waiting times", "reason", err.Error())
		}
	}
	if err != nil {
		c.requests.WithLabelValues("failed").Inc()
		return
	}
	c.requests.WithLabelValues("answered").Inc()
	c.learn(now, names, answer)
}

// due returns the names to ask about, those that have waited longest for an answer first, and forgets the scans that
// nobody wants to know of any more.
func (c *Client) due(now time.Time) (names []string, due bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, e := range c.scans {
		switch {
		case now.Sub(e.wanted) > interest:
			delete(c.scans, name)
		case now.Sub(e.answered) >= refreshAfter:
			names = append(names, name)
		}
	}
	if len(names) > maxNames {
		slices.SortFunc(names, func(a, b string) int {
			return cmp.Or(c.scans[a].answered.Compare(c.scans[b].answered), cmp.Compare(a, b))
		})
		names = names[:maxNames]
	}
	return names, len(names) > 0 || now.Sub(c.newcomer.answered) >= refreshAfter
}

// learn keeps an answer. It is as old as its question.
func (c *Client) learn(asked time.Time, names []string, answer *Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		e := c.scans[name]
		e.answered = asked
		e.standing, e.waits = answer.Scans[name]
	}
	c.newcomer = outlook{answered: asked}
	if answer.NewcomerWaitSeconds != nil {
		c.newcomer.wait, c.newcomer.known = durationOf(*answer.NewcomerWaitSeconds), true
	}
}

// durationOf is a number of seconds as a duration. The leader's own estimates are bounded by what it waits for.
func durationOf(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second))
}
