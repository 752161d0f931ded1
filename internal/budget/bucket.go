// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"math"
	"math/bits"
	"time"
)

// ledgerTime is a point in time: nanoseconds since the ledger was created. It may be negative.
type ledgerTime int64

const (
	never ledgerTime = math.MaxInt64

	// micro is one token (or request) in the unit of levels: millionths.
	micro = 1_000_000
	// whole is all of a limit in the unit of shares: parts per million.
	whole = 1_000_000

	// maxLimit bounds limits so that no arithmetic here overflows: 10 times the maximum in the API.
	maxLimit = 100_000_000_000
)

// bucket is a level that refills continuously up to a capacity, in exact integers: no refill is lost or gained by
// rounding, however often advance is called.
type bucket struct {
	capacity int64 // micro
	level    int64 // micro; negative if more was charged than was left
	// rate ÷ window is the refill in micro per nanosecond: rate is limit × share, in parts per million.
	rate   uint64
	window uint64 // nanoseconds
	part   uint64 // refill below one micro: 0 … window-1, in micro ÷ window
	at     ledgerTime
}

// rateOf is the rate at which a share of a limit refills.
func rateOf(limit, share int64) uint64 {
	return uint64(max(0, limit)) * uint64(max(0, min(share, whole)))
}

// advance refills up to a time. Time running backwards refills nothing.
func (b *bucket) advance(to ledgerTime) {
	elapsed := int64(to - b.at)
	if elapsed <= 0 {
		return
	}
	b.at = to
	if b.level >= b.capacity {
		b.level, b.part = b.capacity, 0
		return
	}
	hi, lo := bits.Mul64(b.rate, uint64(elapsed))
	lo, carry := bits.Add64(lo, b.part, 0)
	hi += carry
	if hi >= b.window {
		b.level, b.part = b.capacity, 0
		return
	}
	refill, part := bits.Div64(hi, lo, b.window)
	if refill >= uint64(b.capacity-b.level) {
		b.level, b.part = b.capacity, 0
		return
	}
	b.level += int64(refill)
	b.part = part
}

// timeFor is how long n micro take to refill, rounded up to a nanosecond; false if they never do.
func (b *bucket) timeFor(n int64) (time.Duration, bool) {
	if n <= 0 {
		return 0, true
	}
	if b.rate == 0 {
		return 0, false
	}
	hi, lo := bits.Mul64(uint64(n), b.window)
	lo, borrow := bits.Sub64(lo, b.part, 0)
	hi -= borrow
	if hi >= b.rate {
		return 0, false
	}
	q, r := bits.Div64(hi, lo, b.rate)
	if r > 0 {
		q++
	}
	if q > uint64(math.MaxInt64) {
		return 0, false
	}
	return time.Duration(q), true
}

// resize changes the capacity. The amount that is missing stays the same, up to the new capacity.
func (b *bucket) resize(capacity int64) {
	missing := b.capacity - b.level
	b.level = max(capacity-missing, min(b.level, 0))
	b.capacity = capacity
}
