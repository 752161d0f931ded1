// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// Snapshot is the state of a ledger that a new leader needs. Zero values mean unknown.
type Snapshot struct {
	// At is when the snapshot was made.
	At time.Time `json:"at,omitzero"`
	// Tokens and Requests are what could be reserved at that time.
	Tokens   int64 `json:"tokens,omitempty"`
	Requests int64 `json:"requests,omitempty"`
	// RequestWindow is the window of Requests: a minute, or a day if the provider has a daily limit.
	RequestWindow time.Duration `json:"requestWindow,omitempty"`
	// RequestsPerDay is the provider's daily limit, if it has one.
	RequestsPerDay int64 `json:"requestsPerDay,omitempty"`
	// TokensPerMinute and RequestsPerMinute are the limits in force.
	TokensPerMinute   int64 `json:"tokensPerMinute,omitempty"`
	RequestsPerMinute int64 `json:"requestsPerMinute,omitempty"`
	// RatePercent is the percentage of the limits in use, see Stats.
	RatePercent int32 `json:"ratePercent,omitempty"`
	// Hold is why the budget was held. ResumeAt is until when calls were held or blocked.
	Hold     HoldReason `json:"hold,omitempty"`
	ResumeAt time.Time  `json:"resumeAt,omitzero"`
	// QuotaUsed is the usage of the quota in the period that began at QuotaPeriodStart.
	QuotaUsed        int64     `json:"quotaUsed,omitempty"`
	QuotaPeriodStart time.Time `json:"quotaPeriodStart,omitzero"`
	// Totals are counters since the budget was created.
	Totals Totals `json:"totals,omitzero"`
}

// Reservation is a call of an earlier leader, as the objects show it.
type Reservation struct {
	// ID is the assignment's id.
	ID string
	// Tokens is what was reserved.
	Tokens int64
	// At is when it was reserved.
	At time.Time
	// Done is true for a call that has ended: it is charged, but not in flight.
	Done bool
	// Usage is the reported usage of a call that has ended.
	Usage v1alpha1.TokenUsage
}

// Snapshot returns the state that a new leader needs.
func (l *Ledger) Snapshot(now time.Time) Snapshot {
	s := l.Stats(now)
	return s.Snapshot(now)
}

// Snapshot returns the part of the figures that a new leader needs, with the time they were taken at.
func (s *Stats) Snapshot(at time.Time) Snapshot {
	snap := Snapshot{
		At: at, Tokens: max(0, s.Tokens.Available),
		TokensPerMinute: s.Tokens.Limit, RequestsPerMinute: s.RequestsPerMinute, RatePercent: s.RatePercent,
		Hold: s.Hold, ResumeAt: s.ResumeAt,
		QuotaUsed: s.QuotaUsed, QuotaPeriodStart: s.QuotaPeriodStart, Totals: s.Totals,
		Requests: max(0, s.Requests.Available), RequestWindow: time.Minute,
	}
	if s.Project != nil {
		snap.Tokens = max(0, min(snap.Tokens, s.Project.Available))
	}
	if d := s.RequestsPerDay; d != nil {
		snap.Requests, snap.RequestWindow, snap.RequestsPerDay = max(0, d.Available), day, d.Limit
	}
	return snap
}

// Restore makes a new ledger continue from an earlier leader's. The reservations are all calls that the objects show
// as running, and those reserved since the snapshot that have ended.
//
// The buckets start from a conservative level: that of the snapshot, less the reservations since, and not below zero,
// because an earlier leader never reserved more than there was. The level is too high only if calls were made that no
// object shows any more (deleted by their users). As a margin for those, the refill since the snapshot is not counted;
// headers restore it by raising the buckets slowly (see meter). Calls reserved less than a dispatch delay ago may still
// land.
//
// Without a snapshot the buckets start empty if there is any reservation. If there is none, nothing was ever sent, and
// they start full.
func (l *Ledger) Restore(snap Snapshot, reservations []Reservation, now time.Time) {
	l.advance(now)
	if snap.At.IsZero() && len(reservations) == 0 {
		return
	}
	l.restoreLimits(snap)
	list := slices.Clone(reservations)
	slices.SortStableFunc(list, func(a, b Reservation) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
	l.past.fromStart = false
	since := l.restoreCalls(list, snap.At)
	for i, left := range [meters]int64{
		tokenMeter: snap.Tokens, projectMeter: snap.Tokens, requestMeter: snap.Requests, dailyMeter: snap.Requests,
	} {
		m := &l.meters[i]
		if !m.active {
			continue
		}
		if i == requestMeter && snap.RequestWindow == day {
			left = 0 // unknown, and refilled within a minute
		}
		start := max(0, min(left-since[m.unit], m.limit)) * micro
		m.policy.level = min(start+l.inflight.pending[m.unit]*micro, m.policy.capacity) // more may be pending than a lower limit holds
		m.mirror.level = m.policy.level
	}
	l.restoreHolds(snap, now)
	l.quota.roll(l.limits.Quota, now)
	l.quota.restore(snap.QuotaPeriodStart, snap.QuotaUsed)
	l.totals = snap.Totals
	l.restoreSpending(list, snap.At)
	l.setRates()
}

// restoreSpending counts the calls that ended since the snapshot. Without reported usage the quota counts the
// reservation.
func (l *Ledger) restoreSpending(list []Reservation, snapshot time.Time) {
	for _, r := range list {
		if !r.Done || snapshot.IsZero() {
			continue
		}
		l.count(Result{Usage: r.Usage})
		l.quota.settle(max(0, r.Tokens), Result{Usage: r.Usage})
	}
}

// restoreCalls adds the running calls and returns what was reserved since the snapshot.
func (l *Ledger) restoreCalls(list []Reservation, snapshot time.Time) sums {
	var since sums
	for _, r := range list {
		tokens := max(0, r.Tokens)
		cost := sums{tokens, 1}
		at := min(l.at(r.At), l.now)
		if !r.At.Before(snapshot) {
			for u := range since {
				since[u] += cost[u]
			}
		}
		if at > l.now-ledgerTime(time.Minute) {
			l.usage.add(at, cost, 1)
		}
		if _, again := l.calls[r.ID]; r.Done || again {
			continue
		}
		c := call{at: at, tokens: tokens, seq: math.MaxInt}
		if at+l.delay() > l.now {
			c.seq = l.inflight.push(dispatch{at: at, cost: cost})
		}
		l.calls[r.ID] = c
		l.reserved += tokens
	}
	// The history starts here: observations of earlier times cannot be interpreted.
	l.past.add(l.now, since)
	return since
}

// restoreLimits restores limits that the headers had shown to be lower than the spec's, and a rate that was
// recovering.
func (l *Ledger) restoreLimits(snap Snapshot) {
	if l.limits.FollowHeaders {
		if snap.TokensPerMinute < l.limits.TokensPerMinute {
			l.headers.tokens = snap.TokensPerMinute
		}
		if snap.RequestsPerMinute < l.limits.RequestsPerMinute {
			l.headers.requests = snap.RequestsPerMinute
		}
		l.headers.inherited = l.now + headersGone
		if snap.RequestsPerDay > 0 {
			l.discover(dailyMeter, snap.RequestsPerDay)
		}
	}
	full := l.ratePercent()
	if snap.RatePercent > 0 && float64(snap.RatePercent) < math.Floor(full) {
		l.slow = slowdown{active: true, at: l.now, base: max(slowLeast, float64(snap.RatePercent)/full)}
	}
	l.applyLimits()
}

// restoreHolds restores a hold. The key may have changed without a leader, so it is probed at once.
func (l *Ledger) restoreHolds(snap Snapshot, now time.Time) {
	resume := l.at(snap.ResumeAt)
	if snap.ResumeAt.IsZero() || !snap.ResumeAt.After(now) {
		resume = l.now
	}
	switch snap.Hold {
	case HoldQuotaExhausted:
		l.holds.quota = hold{active: true, since: l.now, interval: probeFirst, next: min(resume, l.now+probeLast)}
	case HoldUnauthorized:
		l.holds.key = hold{active: true, since: l.now, interval: keyProbe, next: l.now}
	case HoldUnreachable:
		l.holds.endpoint = hold{active: true, since: l.now, interval: unreachableFirst, next: l.now}
	case HoldRetryAfter:
		l.holds.retryAfter = hold{active: true, since: l.now, interval: retryAfterProbe, next: min(resume, l.now+probeLast)}
	default:
		l.meters[tokenMeter].blockedUntil = min(resume, l.now+ledgerTime(time.Minute))
	}
}
