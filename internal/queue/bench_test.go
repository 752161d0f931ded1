// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"fmt"
	"testing"
	"time"
)

const benchQueued = 100_000

// shapes are ways to spread the queued items over users.
var shapes = []struct {
	name  string
	users int
}{
	{"one-user", 1},
	{"100-users", 100},
	{"10000-users", 10_000},
	{"user-per-item", benchQueued},
}

// benchItems returns items that differ in size and arrive one after the other.
func benchItems(n, users int) []Item {
	items := make([]Item, n)
	for i := range items {
		items[i] = Item{
			Key:        fmt.Sprintf("ns/%07d", i),
			Lane:       vision,
			StageIndex: 0,
			User:       fmt.Sprintf("user-%d", i*7919%users),
			Arrival:    epoch.Add(time.Duration(i) * time.Millisecond),
			Tokens:     int64(2500 - i*31%2000),
		}
	}
	return items
}

func benchQueue(items []Item) *Queue {
	q := New()
	for _, it := range items {
		q.Upsert(it, epoch)
	}
	return q
}

func BenchmarkUpsertNew(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			users := s.users
			if users == benchQueued {
				users *= 2
			}
			items := benchItems(2*benchQueued, users)
			q := benchQueue(items[:benchQueued])
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				// Adds to 100,000 queued and removes untimed in bulk.
				if i%benchQueued == 0 && i > 0 {
					b.StopTimer()
					q = benchQueue(items[:benchQueued])
					b.StartTimer()
				}
				q.Upsert(items[benchQueued+i%benchQueued], epoch)
			}
		})
	}
}

func BenchmarkUpsertUnchanged(b *testing.B) {
	items := benchItems(benchQueued, 10_000)
	q := benchQueue(items)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		q.Upsert(items[i%benchQueued], epoch)
	}
}

func BenchmarkUpsertChanged(b *testing.B) {
	items := benchItems(benchQueued, 10_000)
	q := benchQueue(items)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		it := &items[i%benchQueued]
		it.Tokens++
		q.Upsert(*it, epoch)
	}
}

// BenchmarkPickOne measures a Pick that takes one item, and the Upsert of another
// that keeps 100,000 queued.
func BenchmarkPickOne(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			items := benchItems(benchQueued, s.users)
			q := benchQueue(items)
			now := epoch
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Millisecond)
				var taken Item
				done := false
				q.Pick(now, func(it Item) Decision {
					if done {
						return Stop
					}
					taken, done = it, true
					return Take
				})
				taken.Arrival = now
				q.Upsert(taken, now)
			}
		})
	}
}

// BenchmarkPickAll measures a Pick that takes all of 100,000 items.
func BenchmarkPickAll(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			items := benchItems(benchQueued, s.users)
			taken := 0
			take := func(Item) Decision {
				taken++
				return Take
			}
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				q := benchQueue(items)
				b.StartTimer()
				q.Pick(epoch, take)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(taken), "ns/item")
		})
	}
}

// BenchmarkPickNothing measures a Pick in which nothing fits, with as many offers
// as the look-ahead allows.
func BenchmarkPickNothing(b *testing.B) {
	q := benchQueue(benchItems(benchQueued, 10_000))
	offers := 0
	skip := func(Item) Decision {
		offers++
		return Skip
	}
	b.ReportAllocs()
	for b.Loop() {
		q.Pick(epoch, skip)
	}
	b.ReportMetric(float64(offers)/float64(b.N), "offers/op")
}

func BenchmarkPosition(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			items := benchItems(benchQueued, s.users)
			q := benchQueue(items)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, ok := q.Position(items[i*7919%benchQueued].Key); !ok {
					b.Fatal("an item is missing")
				}
			}
		})
	}
}

func BenchmarkAdjust(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			items := benchItems(benchQueued, s.users)
			q := benchQueue(items)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				q.Adjust(vision, items[i*7919%benchQueued].User, int64(i%200-100))
			}
		})
	}
}
