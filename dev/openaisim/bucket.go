// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"time"
)

const (
	minute = time.Minute
	day    = 24 * time.Hour

	// maxPerMinute and maxPerDay bound the limits so that limit × window, in
	// clock ticks, fits an int64 (see bucket).
	maxPerMinute = 150_000_000
	maxPerDay    = 100_000_000
)

// bucket is a token bucket with continuous refill, in exact integers.
//
// It counts what is missing, in units of one token divided by the number of
// ticks in the window: a token is window/tick units and each tick refills
// limit units. No level is ever rounded, so neither a client polling every
// nanosecond nor one that waits a day can gain or lose a fraction.
//
// A bucket is not safe for concurrent use: its account's lock guards it.
type bucket struct {
	limit  int64
	window time.Duration
	tick   time.Duration
	// background is the share of the refill, in percent, that an unseen second
	// client takes.
	background int64

	missing int64 // units, 0 (full) … limit×perToken (empty)
	carry   int64 // hundredths of a unit left over from a background share
	last    time.Time
}

// newBucket returns a full bucket of limit tokens per window. The tick is a
// nanosecond for a minute and grows with the window so that the largest limits
// fit.
func newBucket(limit int64, window time.Duration, now time.Time) bucket {
	tick := time.Nanosecond
	if window > minute {
		tick = time.Microsecond
	}
	return bucket{limit: limit, window: window, tick: tick, last: now}
}

// perToken is the number of units in one token.
func (b *bucket) perToken() int64 { return int64(b.window / b.tick) }

// advance refills the bucket up to now. Time running backwards refills nothing.
func (b *bucket) advance(now time.Time) {
	ticks := int64(now.Sub(b.last) / b.tick)
	if ticks <= 0 {
		return
	}
	b.last = b.last.Add(time.Duration(ticks) * b.tick)
	if b.background == 0 {
		if b.missing == 0 || ticks >= b.perToken() {
			b.missing = 0
			return
		}
		b.missing = max(0, b.missing-ticks*b.limit)
		return
	}
	// At most 100 windows fill (or empty) the bucket, for a share of at least
	// one percent either way; more elapsed time changes nothing.
	for range 101 {
		step := min(ticks, b.perToken())
		b.drift(step * b.limit)
		if ticks -= step; ticks == 0 {
			return
		}
	}
}

// drift applies a refill of which a second client takes its share: above 100
// percent the level falls.
func (b *bucket) drift(refill int64) {
	net := 100 - b.background
	part := refill%100*net + b.carry
	b.missing -= refill/100*net + part/100
	b.carry = part % 100
	if full := b.limit * b.perToken(); b.missing > full {
		b.missing, b.carry = full, 0
	}
	if b.missing < 0 {
		b.missing, b.carry = 0, 0
	}
}

// used is the number of tokens in use, any fraction counted as a whole one:
// the provider's messages and headers have whole tokens.
func (b *bucket) used() int64 {
	per := b.perToken()
	return (b.missing + per - 1) / per
}

// remaining is the number of whole tokens available.
func (b *bucket) remaining() int64 { return b.limit - b.used() }

// has reports whether n tokens are available.
func (b *bucket) has(n int64) bool { return n <= b.remaining() }

// take removes n tokens; the caller has checked has(n).
func (b *bucket) take(n int64) { b.missing += n * b.perToken() }

// drain removes up to n tokens and returns how many whole tokens were there. A
// fraction that remains below n is lost too, so that a client that keeps
// sending to an empty bucket never finds it refilled.
func (b *bucket) drain(n int64) int64 {
	have := b.remaining()
	if n > have {
		b.missing = b.limit * b.perToken()
		return have
	}
	b.take(n)
	return n
}

// wait is how long until n more tokens are available (0 when they are),
// assuming no other client takes any: (used + n - limit) / (limit / window). This
// is the arithmetic behind the provider's "Please try again in".
func (b *bucket) wait(n int64) time.Duration {
	short := b.used() + n - b.limit
	if short <= 0 {
		return 0
	}
	return b.refillTime(short)
}

// toFull is how long until the bucket is full: the provider's
// x-ratelimit-reset-* headers.
func (b *bucket) toFull() time.Duration { return b.refillTime(b.used()) }

// refillTime is the time in which n tokens refill, rounded up to a tick.
func (b *bucket) refillTime(n int64) time.Duration {
	return time.Duration((n*b.perToken()+b.limit-1)/b.limit) * b.tick
}

// setLimit changes the capacity and the refill rate from now on. Tokens in use
// stay in use, as far as the new capacity has room for them.
func (b *bucket) setLimit(limit, background int64) {
	b.limit, b.background = limit, background
	b.missing = min(b.missing, limit*b.perToken())
}
