// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"
)

// TestPublishedWaits compares with the waits in published errors of the provider, given limit, used and requested.
func TestPublishedWaits(t *testing.T) {
	t.Parallel()
	tests := []struct {
		limit, used, requested int64
		want                   time.Duration
	}{
		{30_000, 14_567, 24_754, 18_642 * time.Millisecond},
		{30_000, 18_928, 11_159, 174 * time.Millisecond},
		{30_000, 28_039, 3_906, 3_890 * time.Millisecond},
		{30_000, 22_999, 12_528, 11_054 * time.Millisecond},
		{30_000, 26_713, 7_669, 8_764 * time.Millisecond},
		{250_000, 250_000, 149_514, 35_883 * time.Millisecond},
	}
	for _, test := range tests {
		b := bucket{
			capacity: test.limit * micro, level: (test.limit - test.used) * micro,
			rate: rateOf(test.limit, whole), window: uint64(time.Minute),
		}
		got, ok := b.timeFor(test.requested*micro - b.level)
		if !ok || got.Truncate(time.Millisecond) != test.want {
			t.Errorf("limit %d used %d requested %d: %v, want %v", test.limit, test.used, test.requested, got, test.want)
		}
	}
}

// TestRefillIsExact checks that a bucket gains limit × share × time ÷ window, however often it is advanced.
func TestRefillIsExact(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 2))
		limit, share := 1+rng.Int64N(maxLimit>>rng.IntN(37)), 1+rng.Int64N(whole)
		window := []time.Duration{time.Minute, day}[rng.IntN(2)]
		b := bucket{capacity: limit * micro, rate: rateOf(limit, share), window: uint64(window)}
		var total int64
		for range 1000 {
			step := rng.Int64N(int64(window) / 2000)
			total += step
			b.advance(b.at + ledgerTime(step))
		}
		want := new(big.Int).Mul(big.NewInt(limit), big.NewInt(share))
		want.Mul(want, big.NewInt(total)).Quo(want, big.NewInt(int64(window)))
		if want.Cmp(big.NewInt(b.level)) != 0 {
			t.Errorf("seed %d: level %d micro, want %v", seed, b.level, want)
		}
	}
}

func TestBucketEdges(t *testing.T) {
	t.Parallel()
	full := func() bucket {
		return bucket{capacity: maxLimit * micro, rate: rateOf(maxLimit, whole), window: uint64(time.Minute)}
	}
	b := full()
	b.advance(math.MaxInt64 / 2)
	if b.level != b.capacity {
		t.Errorf("level %d after a century, want %d", b.level, b.capacity)
	}
	b = full()
	b.level = -b.capacity
	b.advance(ledgerTime(time.Minute))
	if b.level != 0 {
		t.Errorf("level %d a minute after minus the capacity, want 0", b.level)
	}
	if _, ok := (&bucket{window: uint64(day)}).timeFor(1); ok {
		t.Error("a bucket without refill returned a time")
	}
	if _, ok := (&bucket{window: uint64(day), rate: 1}).timeFor(math.MaxInt64); ok {
		t.Error("a wait beyond the range of times was returned")
	}
	if got, ok := b.timeFor(0); !ok || got != 0 {
		t.Errorf("zero tokens take %v to refill, want 0", got)
	}
}

func TestResizeKeepsWhatIsMissing(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ capacity, level, to, want int64 }{
		"raised":                        {capacity: 100, level: 40, to: 300, want: 240},
		"lowered":                       {capacity: 100, level: 40, to: 70, want: 10},
		"lowered below what is missing": {capacity: 100, level: 40, to: 50, want: 0},
		"overdrawn stays overdrawn":     {capacity: 100, level: -20, to: 50, want: -20},
		"full stays full":               {capacity: 100, level: 100, to: 7, want: 7},
		"overdrawn, limit raised":       {capacity: 100, level: -20, to: 200, want: 80},
	}
	for name, test := range tests {
		b := bucket{capacity: test.capacity, level: test.level}
		if b.resize(test.to); b.level != test.want || b.capacity != test.to {
			t.Errorf("%s: level %d of %d, want %d of %d", name, b.level, b.capacity, test.want, test.to)
		}
	}
}
