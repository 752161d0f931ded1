// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

const (
	// reservationTTL is how long a scan is counted that was created but not yet delivered by the watch. The watch is
	// milliseconds behind; an older reservation was lost with a broken watch.
	reservationTTL = time.Minute
	// drainWindow is the time over which the rate of finished scans is measured.
	drainWindow = time.Minute
)

// scanLimiter limits the unfinished scans of one user and of all. It counts those that the watch delivered, and
// reserves a place for each scan that is being created: otherwise a burst could pass a limit before the watch delivers
// its first scan.
type scanLimiter struct {
	clock   clock.PassiveClock
	perUser int
	overall int

	mu           sync.Mutex
	unfinished   map[string]string               // scan name to user
	byUser       map[string]int                  // unfinished scans that the watch delivered
	reserved     map[string]map[string]time.Time // user to scan name to time of the reservation
	reservations int                             // number of reservations
	finishes     drainRate
}

// newScanLimiter returns a limiter for the unfinished scans of one user and of all; 0 is no limit.
func newScanLimiter(c clock.PassiveClock, perUser, overall int) *scanLimiter {
	return &scanLimiter{
		clock: c, perUser: perUser, overall: overall,
		unfinished: make(map[string]string), byUser: make(map[string]int),
		reserved: make(map[string]map[string]time.Time),
	}
}

// observe counts a scan that the watch delivered.
func (l *scanLimiter) observe(scan *v1alpha1.ScanRequest, deleted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name, user := scan.Name, scan.Spec.UserID
	l.dropReservation(user, name)
	_, counted := l.unfinished[name]
	ended := deleted || pipeline.IsFinished(&scan.Status)
	switch {
	case !ended && !counted:
		l.unfinished[name] = user
		l.byUser[user]++
	case ended && counted:
		delete(l.unfinished, name)
		if l.byUser[user]--; l.byUser[user] == 0 {
			delete(l.byUser, user)
		}
		l.finishes.add(l.clock.Now())
	}
}

// limitReached is the limit that a reservation would exceed.
type limitReached int

const (
	withinLimits limitReached = iota
	userLimit
	overallLimit
)

// reserve counts a scan that is about to be created, unless that would exceed a limit. The watch's event of the scan
// replaces the reservation; the caller must release it if the scan is not created.
func (l *scanLimiter) reserve(user, name string) limitReached {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	for name, since := range l.reserved[user] {
		if now.Sub(since) > reservationTTL {
			l.dropReservation(user, name)
		}
	}
	_, counted := l.unfinished[name]
	if _, again := l.reserved[user][name]; again || counted {
		return withinLimits // a retried submit adds nothing
	}
	switch {
	case l.perUser > 0 && l.byUser[user]+len(l.reserved[user]) >= l.perUser:
		return userLimit
	case l.overall > 0 && len(l.unfinished)+l.reservations >= l.overall:
		return overallLimit
	}
	if l.reserved[user] == nil {
		l.reserved[user] = make(map[string]time.Time, 1)
	}
	l.reserved[user][name] = now
	l.reservations++
	return withinLimits
}

// release cancels a reservation.
func (l *scanLimiter) release(user, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropReservation(user, name)
}

func (l *scanLimiter) dropReservation(user, name string) {
	if _, ok := l.reserved[user][name]; !ok {
		return
	}
	l.reservations--
	delete(l.reserved[user], name)
	if len(l.reserved[user]) == 0 {
		delete(l.reserved, user)
	}
}

// backlog is the number of unfinished scans.
func (l *scanLimiter) backlog() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.unfinished) + l.reservations
}

// users is the number of users who have unfinished scans.
func (l *scanLimiter) users() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.byUser)
}

// drainTime is the time in which n scans finish at the rate of the last minute; false while none finishes.
func (l *scanLimiter) drainTime(n int) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	perMinute := l.finishes.perWindow(l.clock.Now())
	if perMinute == 0 {
		return 0, false
	}
	return time.Duration(float64(n) / float64(perMinute) * float64(drainWindow)), true
}

// drainRate counts the scans that finished in the last drainWindow, by second.
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

// advance drops the seconds that have left the window.
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
