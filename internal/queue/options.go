// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queue

import "time"

// Defaults of the options.
const (
	// DefaultLookAhead is how many items of a lane may be skipped in one Pick.
	// Each is smaller than the one before, so few are needed.
	DefaultLookAhead = 32
	// DefaultMaxSkip is how long smaller items may pass an item that does not fit:
	// short compared with the minute in which a provider's bucket refills.
	DefaultMaxSkip = 5 * time.Second
	// DefaultMaxPass is how many tokens may pass an item that does not fit: a few
	// of a scan's largest calls.
	DefaultMaxPass int64 = 50_000
	// DefaultIdleUsers is how many users without ready items keep their counters.
	DefaultIdleUsers = 1 << 16
)

// Option configures a Queue.
type Option func(*Queue)

// WithWeight sets the share of each user: of two users that always wait, one
// with weight 2 gets twice the tokens of one with weight 1. Values below 1 count
// as 1, values above 4096 lose precision. The function must be pure; it is
// called when an item enters the queue and when a counter is corrected. The
// default is the same weight for all users.
func WithWeight(weight func(user string) int64) Option {
	return func(q *Queue) { q.weight = weight }
}

// WithDomain sets the domain of each lane: lanes that draw on the same budgets
// should share one. The function is called when a lane gets its first item, and
// again after the lane was empty. The default domain is one model in one
// namespace.
func WithDomain(domain func(Lane) string) Option {
	return func(q *Queue) { q.domainOf = domain }
}

// WithAging sets for how long, and by how many tokens, an item that was skipped
// may be passed by items of lower rank. The bound on tokens also limits how far
// the counter of a passing user may lead that of the passed one. Zero forbids
// passing altogether.
func WithAging(maxSkip time.Duration, maxPass int64) Option {
	return func(q *Queue) {
		q.maxSkip = int64(max(maxSkip, 0))
		q.maxPass = max(clampTokens(maxPass), 0)
	}
}

// WithLookAhead sets how many items of one lane may be skipped in one Pick; at
// least 1.
func WithLookAhead(items int) Option {
	return func(q *Queue) { q.lookAhead = max(items, 1) }
}

// WithIdleUsers sets how many users without ready items keep their counters if
// these are ahead of all active users. Beyond it the ones with the smallest lead
// are dropped.
func WithIdleUsers(users int) Option {
	return func(q *Queue) { q.maxIdle = max(users, 0) }
}
