package httpapi

import (
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

const (
	// claimTTL is how long a scan that was created but not yet delivered by the watch is counted. The watch is
	// milliseconds behind; a claim older than this was lost with a broken watch.
	claimTTL = time.Minute
	// drainWindow is the time over which the rate of finished scans is taken.
	drainWindow = time.Minute
)

// census counts unfinished scans by user, from the watch, and those being created now, so that a burst through
// one replica cannot pass a limit before the watch has told of it.
type census struct {
	clock   clock.PassiveClock
	perUser int
	overall int

	mu         sync.Mutex
	unfinished map[string]string               // scan name to user
	byUser     map[string]int                  // unfinished scans that the watch delivered
	claims     map[string]map[string]time.Time // user to scan name to time of the claim
	claimed    int
	finishes   drainRate
}

// newCensus returns a census with limits on the unfinished scans of one user and of all; 0 is no limit.
func newCensus(c clock.PassiveClock, perUser, overall int) *census {
	return &census{
		clock: c, perUser: perUser, overall: overall,
		unfinished: make(map[string]string), byUser: make(map[string]int),
		claims: make(map[string]map[string]time.Time),
	}
}

// observe notes a scan that the watch delivered.
func (c *census) observe(scan *v1alpha1.ScanRequest, deleted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name, user := scan.Name, scan.Spec.UserID
	c.dropClaim(user, name)
	_, counted := c.unfinished[name]
	ended := deleted || isFinished(scan)
	switch {
	case !ended && !counted:
		c.unfinished[name] = user
		c.byUser[user]++
	case ended && counted:
		delete(c.unfinished, name)
		if c.byUser[user]--; c.byUser[user] == 0 {
			delete(c.byUser, user)
		}
		c.finishes.add(c.clock.Now())
	}
}

// limitReached says which limit a claim met.
type limitReached int

const (
	withinLimits limitReached = iota
	userLimit
	overallLimit
)

// claim counts a scan that is about to be created, unless that would pass a limit. The watch's event of the
// scan takes the claim's place; the caller must release it where the scan was not created.
func (c *census) claim(user, name string) limitReached {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	for claimed, since := range c.claims[user] {
		if now.Sub(since) > claimTTL {
			c.dropClaim(user, claimed)
		}
	}
	_, counted := c.unfinished[name]
	if _, again := c.claims[user][name]; again || counted {
		return withinLimits // a repeated submit adds nothing
	}
	switch {
	case c.perUser > 0 && c.byUser[user]+len(c.claims[user]) >= c.perUser:
		return userLimit
	case c.overall > 0 && len(c.unfinished)+c.claimed >= c.overall:
		return overallLimit
	}
	if c.claims[user] == nil {
		c.claims[user] = make(map[string]time.Time, 1)
	}
	c.claims[user][name] = now
	c.claimed++
	return withinLimits
}

// release gives a claim back.
func (c *census) release(user, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropClaim(user, name)
}

func (c *census) dropClaim(user, name string) {
	if _, ok := c.claims[user][name]; !ok {
		return
	}
	c.claimed--
	delete(c.claims[user], name)
	if len(c.claims[user]) == 0 {
		delete(c.claims, user)
	}
}

// backlog is the number of unfinished scans.
func (c *census) backlog() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.unfinished) + c.claimed
}

// users is the number of users who have unfinished scans.
func (c *census) users() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.byUser)
}

// drainTime is how long it takes to finish n scans at the rate of the last minute; false while nothing finishes.
func (c *census) drainTime(n int) (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	perMinute := c.finishes.perWindow(c.clock.Now())
	if perMinute == 0 {
		return 0, false
	}
	return time.Duration(float64(n) / float64(perMinute) * float64(drainWindow)), true
}

// drainRate counts what finished in the last drainWindow, by second.
type drainRate struct {
	counts [int(drainWindow / time.Second)]int
	last   int64 // the latest second that was counted, since the epoch
}

func (d *drainRate) add(now time.Time) {
	d.advance(now)
	d.counts[d.last%int64(len(d.counts))]++
}

func (d *drainRate) perWindow(now time.Time) int {
	d.advance(now)
	sum := 0
	for _, n := range d.counts {
		sum += n
	}
	return sum
}

// advance forgets the seconds that have left the window.
func (d *drainRate) advance(now time.Time) {
	second := now.Unix()
	if second-d.last >= int64(len(d.counts)) {
		d.counts = [len(d.counts)]int{}
		d.last = second
	}
	for d.last < second {
		d.last++
		d.counts[d.last%int64(len(d.counts))] = 0
	}
}
