package budget

import (
	"math"
	"math/bits"
	"time"
)

// instant is a point in time: nanoseconds since the ledger was made. It may be negative.
type instant int64

const (
	never instant = math.MaxInt64

	// micro is one token (or request) in the unit of levels: millionths.
	micro = 1_000_000
	// rateUnit is one token per second in the unit of rates: billionths of a token per second.
	rateUnit = 1_000_000_000
	// perMicro is what one micro of refill takes, in rate × nanoseconds.
	perMicro = rateUnit / micro * uint64(time.Second)

	// maxLimit bounds limits so that no arithmetic here overflows: 10 times what the API accepts.
	maxLimit = 100_000_000_000
)

// bucket is a level that refills continuously up to a capacity, in exact integers: a refill is never rounded
// away nor invented, however often it is looked at.
type bucket struct {
	capacity int64  // micro
	level    int64  // micro; negative where more was charged than was there
	rate     uint64 // billionths of a token per second
	part     uint64 // refill below one micro: 0 … perMicro-1
	at       instant
}

// refillRate is the rate, in the unit of bucket.rate, at which percent of a limit refills in a window.
func refillRate(limit int64, window time.Duration, percent float64) uint64 {
	whole := float64(limit) / window.Seconds() * rateUnit
	if percent >= 100 {
		// Integers where the promise is exact: a float could round up.
		hi, lo := bits.Mul64(uint64(limit), rateUnit*uint64(time.Second))
		q, _ := bits.Div64(hi, lo, uint64(window))
		return q
	}
	return uint64(max(0, whole*percent/100))
}

// advance refills up to an instant. Time running backwards refills nothing.
func (b *bucket) advance(to instant) {
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
	if hi >= perMicro {
		b.level, b.part = b.capacity, 0
		return
	}
	refill, part := bits.Div64(hi, lo, perMicro)
	if refill >= uint64(b.capacity-b.level) {
		b.level, b.part = b.capacity, 0
		return
	}
	b.level += int64(refill)
	b.part = part
}

// timeFor is how long n micro take to refill, rounded up to a nanosecond; false where it is for ever.
func (b *bucket) timeFor(n int64) (time.Duration, bool) {
	if n <= 0 {
		return 0, true
	}
	if b.rate == 0 {
		return 0, false
	}
	hi, lo := bits.Mul64(uint64(n), perMicro)
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

// resize changes the capacity. What is missing stays missing, as far as the new capacity has room for it.
func (b *bucket) resize(capacity int64) {
	missing := b.capacity - b.level
	b.level = max(capacity-missing, min(b.level, 0))
	b.capacity = capacity
}
