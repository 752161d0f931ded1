// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"testing"
	"time"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// TestBucketWait reproduces the arithmetic of six published 429 messages.
func TestBucketWait(t *testing.T) {
	for _, tc := range []struct {
		limit, used, requested int64
		want                   string
	}{
		{30000, 14567, 24754, "18.642s"},
		{30000, 18928, 11159, "174ms"},
		{30000, 28039, 3906, "3.89s"},
		{30000, 22999, 12528, "11.054s"},
		{30000, 26713, 7669, "8.764s"},
		{250000, 250000, 149514, "35.883s"},
	} {
		b := newBucket(tc.limit, minute, epoch)
		b.take(tc.used)
		if b.has(tc.requested) {
			t.Errorf("limit %d used %d: has(%d), want a shortage", tc.limit, tc.used, tc.requested)
		}
		if got := formatDuration(b.wait(tc.requested)); got != tc.want {
			t.Errorf("limit %d used %d requested %d: wait %s, want %s", tc.limit, tc.used, tc.requested, got, tc.want)
		}
		// The wait is exactly enough: a nanosecond less is not.
		wait := b.wait(tc.requested)
		b.advance(epoch.Add(wait - 1))
		if b.has(tc.requested) {
			t.Errorf("limit %d used %d: room for %d before the stated wait", tc.limit, tc.used, tc.requested)
		}
		b.advance(epoch.Add(wait))
		if !b.has(tc.requested) {
			t.Errorf("limit %d used %d: no room for %d after the stated wait", tc.limit, tc.used, tc.requested)
		}
	}
}

// TestBucketReset reproduces published x-ratelimit-reset-* headers.
func TestBucketReset(t *testing.T) {
	for _, tc := range []struct {
		name             string
		limit, remaining int64
		window           time.Duration
		want             string
	}{
		{"tokens 9481 of 10000", 10000, 9481, minute, "3.114s"},
		{"tokens 29993 of 30000", 30000, 29993, minute, "14ms"},
		{"tokens 29992 of 30000", 30000, 29992, minute, "16ms"},
		{"tokens 29962 of 30000", 30000, 29962, minute, "76ms"},
		{"requests 499 of 500", 500, 499, minute, "120ms"},
		{"requests per day 9999 of 10000", 10000, 9999, day, "8.64s"},
		{"full", 500, 500, minute, "0s"},
		{"empty", 500, 0, minute, "1m0s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBucket(tc.limit, tc.window, epoch)
			b.take(tc.limit - tc.remaining)
			got := b.level()
			if got.remaining != tc.remaining || formatDuration(got.reset) != tc.want {
				t.Errorf("remaining %d reset %s, want %d and %s", got.remaining, formatDuration(got.reset), tc.remaining, tc.want)
			}
		})
	}
}

func TestBucketRefill(t *testing.T) {
	for _, tc := range []struct {
		name       string
		limit      int64
		background int64
		taken      int64
		after      time.Duration
		want       int64
	}{
		{"nothing yet", 600, 0, 600, 0, 0},
		{"a fraction is not a token", 600, 0, 600, 99 * time.Millisecond, 0},
		{"one token", 600, 0, 600, 100 * time.Millisecond, 1},
		{"half", 600, 0, 600, 30 * time.Second, 300},
		{"never above the limit", 600, 0, 100, time.Hour, 600},
		{"backwards", 600, 0, 100, -time.Hour, 500},
		{"background takes its share", 600, 40, 600, 10 * time.Second, 60},
		{"background takes all", 600, 100, 600, time.Hour, 0},
		{"slow refill over many windows", 600, 99, 600, 50 * time.Minute, 300},
		{"slow refill fills", 600, 99, 600, 1000 * time.Hour, 600},
		{"largest limit", maxPerMinute, 0, maxPerMinute, time.Second, maxPerMinute / 60},
		{"largest limit with background", maxPerMinute, 50, maxPerMinute, 2 * time.Second, maxPerMinute / 60},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBucket(tc.limit, minute, epoch)
			b.setLimit(tc.limit, tc.background)
			b.take(tc.taken)
			b.advance(epoch.Add(tc.after))
			if got := b.remaining(); got != tc.want {
				t.Errorf("remaining %d, want %d", got, tc.want)
			}
		})
	}
}

// TestBucketSmallSteps checks that looking often does not change the refill.
func TestBucketSmallSteps(t *testing.T) {
	for _, background := range []int64{0, 37} {
		often, once := newBucket(7, minute, epoch), newBucket(7, minute, epoch)
		for _, b := range []*bucket{&often, &once} {
			b.setLimit(7, background)
			b.take(7)
		}
		now := epoch
		for range 5000 {
			now = now.Add(1777 * time.Nanosecond)
			often.advance(now)
		}
		once.advance(now)
		if often.missing != once.missing || often.carry != once.carry {
			t.Errorf("background %d: missing %d+%d in small steps, %d+%d at once", background,
				often.missing, often.carry, once.missing, once.carry)
		}
	}
}

func TestBucketDrain(t *testing.T) {
	b := newBucket(60, minute, epoch)
	if got := b.drain(50); got != 50 {
		t.Errorf("drain(50) of 60 = %d, want 50", got)
	}
	if got := b.drain(50); got != 10 {
		t.Errorf("drain(50) of 10 = %d, want 10", got)
	}
	// A client that knocks faster than the refill never gets in.
	now := epoch
	for range 10 {
		now = now.Add(900 * time.Millisecond)
		b.advance(now)
		if got := b.drain(1); got != 0 {
			t.Fatalf("drain(1) = %d, want 0", got)
		}
	}
	b.advance(now.Add(time.Second))
	if got := b.drain(1); got != 1 {
		t.Errorf("drain(1) after a second of peace = %d, want 1", got)
	}
}

func TestBucketSetLimit(t *testing.T) {
	for _, tc := range []struct {
		name              string
		before, taken     int64
		after             int64
		wantRemaining     int64
		wantAfterOneSecnd int64
	}{
		{"raised: what is used stays used", 600, 400, 1200, 800, 820},
		{"lowered: what is used stays used", 1200, 400, 600, 200, 210},
		{"lowered below what is used: empty", 1200, 900, 600, 0, 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBucket(tc.before, minute, epoch)
			b.take(tc.taken)
			b.setLimit(tc.after, 0)
			if got := b.remaining(); got != tc.wantRemaining {
				t.Errorf("remaining %d, want %d", got, tc.wantRemaining)
			}
			b.advance(epoch.Add(time.Second))
			if got := b.remaining(); got != tc.wantAfterOneSecnd {
				t.Errorf("remaining a second later %d, want %d", got, tc.wantAfterOneSecnd)
			}
		})
	}
}

// FuzzBucket drives a bucket with arbitrary requests at arbitrary times and
// checks the promise of a rate limit: whatever is admitted in any window
// [t, t+d] is at most the capacity plus what refills in d.
func FuzzBucket(f *testing.F) {
	f.Add(int64(30000), []byte{1, 200, 0, 0, 255, 255, 9, 9, 1, 1, 0, 77})
	f.Add(int64(7), []byte{0, 1, 0, 1, 250, 1, 250, 7})
	f.Add(int64(maxPerMinute), []byte{10, 255, 10, 255, 10, 255, 10, 255})
	f.Fuzz(func(t *testing.T, limit int64, script []byte) {
		if limit < 1 || limit > maxPerMinute || len(script) > 256 {
			return
		}
		type event struct{ at, charge int64 }
		var admitted []event
		b := newBucket(limit, minute, epoch)
		now := int64(0)
		for i := 0; i+1 < len(script); i += 2 {
			// Gaps from nothing to half a minute, charges from nothing to more
			// than the capacity.
			now += int64(script[i]) * int64(script[i]) * 461_301
			charge := limit * int64(script[i+1]) / 250
			b.advance(epoch.Add(time.Duration(now)))
			if !b.has(charge) {
				continue
			}
			b.take(charge)
			if b.remaining() < 0 {
				t.Fatalf("remaining %d after taking %d", b.remaining(), charge)
			}
			admitted = append(admitted, event{now, charge})
		}
		for i := range admitted {
			total := int64(0)
			for _, e := range admitted[i:] {
				total += e.charge
				d := e.at - admitted[i].at
				// Compare in floating point with slack for its rounding only.
				if most := float64(limit) * (1 + float64(d)/float64(minute)); float64(total) > most*(1+1e-12) {
					t.Fatalf("admitted %d tokens in %s, at most %.3f allowed (limit %d)", total, time.Duration(d), most, limit)
				}
			}
		}
	})
}
