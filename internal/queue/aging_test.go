// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// within decides like a budget with a number of tokens left, and records what it
// took.
func within(left int64, taken *[]string) func(Item) Decision {
	return func(it Item) Decision {
		if it.Tokens > left {
			return Skip
		}
		left -= it.Tokens
		*taken = append(*taken, it.Key)
		return Take
	}
}

func TestAging(t *testing.T) {
	const maxSkip, maxPass = 5 * time.Second, 2000
	large := scan("large", "l", 0, tokens(8000))
	// step is one Pick with room for less than the large item.
	type step struct {
		at   time.Duration
		room int64
		want []string
	}
	small := func(keys string, change ...func(*Item)) (items []Item) {
		for i, key := range keys {
			// A user for each, so that only time and tokens bound the passing.
			items = append(items, scan(string(key), "u-"+string(key), 1+i, append([]func(*Item){tokens(500)}, change...)...))
		}
		return items
	}
	tests := map[string]struct {
		opts  []Option
		items []Item
		steps []step
	}{
		"smaller items pass": {
			items: small("abc"),
			steps: []step{{0, 1500, []string{"a", "b", "c"}}},
		},
		"not for longer than the bound": {
			items: small("abc"),
			steps: []step{
				{0, 500, []string{"a"}},
				{maxSkip - 1, 500, []string{"b"}},
				{maxSkip, 500, nil},
				{maxSkip, 8500, []string{"large", "c"}},
			},
		},
		"not by more tokens than the bound": {
			items: small("abcdef"),
			steps: []step{
				{0, 1500, []string{"a", "b", "c"}},
				{1, 1500, []string{"d"}},
				{2, 7999, nil},
				{3, 9000, []string{"large", "e", "f"}},
			},
		},
		"not by more tokens within one Pick": {
			items: small("abcdef"),
			steps: []step{{0, 7999, []string{"a", "b", "c", "d"}}},
		},
		"not by other lanes of the domain": {
			opts:  []Option{WithDomain(func(Lane) string { return "" })},
			items: small("ab", in(other, 0)),
			steps: []step{
				{0, 500, []string{"a"}},
				{maxSkip, 500, nil},
				{maxSkip, 8500, []string{"large", "b"}},
			},
		},
		"other domains do not wait": {
			items: small("ab", in(other, 0)),
			steps: []step{{0, 500, []string{"a"}}, {maxSkip, 500, []string{"b"}}},
		},
		"later stages do not wait": {
			items: small("ab", in(answer, 2)),
			steps: []step{{0, 500, []string{"a"}}, {maxSkip, 500, []string{"b"}}},
		},
		"higher priorities do not wait": {
			items: small("ab", priority(1)),
			steps: []step{{0, 500, []string{"a"}}, {maxSkip, 500, []string{"b"}}},
		},
		"passing can be forbidden": {
			opts:  []Option{WithAging(0, 0)},
			items: small("ab"),
			steps: []step{{0, 1000, nil}, {1, 8500, []string{"large", "a"}}},
		},
		"the same user cannot pass its own item for ever": {
			items: []Item{scan("a", "l", 1), scan("b", "l", 2), scan("c", "l", 3)},
			steps: []step{
				{0, 3000, []string{"a", "b"}},
				{1, 3000, nil},
				{2, 9000, []string{"large", "c"}},
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			q := New(append([]Option{WithAging(maxSkip, maxPass)}, tc.opts...)...)
			fill(q, large)
			fill(q, tc.items...)
			for i, s := range tc.steps {
				var taken []string
				q.Pick(epoch.Add(s.at), within(s.room, &taken))
				if diff := cmp.Diff(s.want, taken); diff != "" {
					t.Fatalf("step %d (-want +got):\n%s", i, diff)
				}
			}
			checkInvariants(t, q)
		})
	}
}

// TestAgingSurvivesUpdates checks which updates keep an item's claim.
func TestAgingSurvivesUpdates(t *testing.T) {
	large := scan("large", "l", 0, tokens(8000))
	tests := map[string]struct {
		change []func(*Item)
		want   bool
	}{
		"unchanged":        {want: true},
		"new estimate":     {change: []func(*Item){tokens(9000)}, want: true},
		"suspended":        {change: []func(*Item){suspended}},
		"backed off":       {change: []func(*Item){after(time.Second)}},
		"moved to a stage": {change: []func(*Item){in(answer, 2)}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			q := New(WithAging(time.Second, 1000))
			fill(q, large, scan("a", "a", 1), scan("b", "b", 2))
			var taken []string
			q.Pick(epoch, within(1000, &taken))
			changed := large
			for _, c := range tc.change {
				c(&changed)
			}
			fill(q, changed)
			fill(q, large)
			q.Pick(epoch.Add(time.Minute), within(1000, &taken))
			if kept := len(taken) == 1; kept != tc.want {
				t.Errorf("took %v: claim kept = %v, want %v", taken, kept, tc.want)
			}
		})
	}
}

// TestSkipLaneReservesNothing checks that an item that waits for another reason
// than its size delays no other item.
func TestSkipLaneReservesNothing(t *testing.T) {
	q := New(WithAging(time.Second, 1000))
	fill(q, scan("large", "l", 0, tokens(8000), in(answer, 2)), scan("a", "a", 1), scan("b", "b", 2))
	var taken []string
	q.Pick(epoch, within(1000, &taken))
	q.Pick(epoch.Add(time.Hour), func(it Item) Decision {
		if it.Lane == answer {
			return SkipLane
		}
		taken = append(taken, it.Key)
		return Take
	})
	if diff := cmp.Diff([]string{"a", "b"}, taken); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
}

func TestLookAhead(t *testing.T) {
	q := New(WithLookAhead(3))
	for i := range 10 {
		fill(q, scan(strconv.Itoa(i), "u", i, tokens(int64(5000-i))))
	}
	var offered []string
	q.Pick(epoch, func(it Item) Decision {
		offered = append(offered, it.Key)
		return Skip
	})
	if diff := cmp.Diff([]string{"0", "1", "2"}, offered); diff != "" {
		t.Errorf("offered (-want +got):\n%s", diff)
	}
}

// TestNoStarvation serves users with more work than tokens step by step. Items
// of all sizes are taken, and an item at its turn waits no longer than the
// bounds.
func TestNoStarvation(t *testing.T) {
	const (
		rate    = 1000
		largest = 20_000
		maxSkip = 10 * time.Second
		users   = 5
	)
	r := rand.New(rand.NewPCG(3, 4))
	q := New(WithAging(maxSkip, 8000))
	size := func() int64 {
		if r.IntN(10) == 0 {
			return largest
		}
		return 50 + r.Int64N(500)
	}
	now, bucket, n, large := epoch, int64(0), 0, 0
	head, headSince := "", epoch
	arrived := map[string]time.Time{}
	for step := range 20_000 {
		now = now.Add(time.Second)
		bucket = min(bucket+rate, largest)
		for q.Len() < 100 {
			n++
			key := strconv.Itoa(n)
			arrived[key] = now
			q.Upsert(Item{Key: key, Lane: vision, User: strconv.Itoa(r.IntN(users)), Arrival: now, Tokens: size()}, now)
		}
		firstSkipped := ""
		q.Pick(now, func(it Item) Decision {
			if it.Tokens > bucket {
				if firstSkipped == "" {
					firstSkipped = it.Key
				}
				return Skip
			}
			bucket -= it.Tokens
			if it.Tokens == largest {
				large++
			}
			delete(arrived, it.Key)
			return Take
		})
		if firstSkipped == "" {
			t.Fatalf("step %d: all went", step)
		}
		if firstSkipped != head {
			head, headSince = firstSkipped, now
		}
		// The first in line is passed for at most maxSkip; then tokens accumulate for it.
		if waited, most := now.Sub(headSince), maxSkip+largest/rate*time.Second; waited > most {
			t.Fatalf("step %d: the first in line waits for %v, want at most %v", step, waited, most)
		}
	}
	// The 100 queued items need at most 2,000,000 tokens, and 8,000 tokens and one
	// more small item may pass each: less than 50 minutes of the rate. A user gets
	// at least its share of it.
	for key, at := range arrived {
		if age := now.Sub(at); age > users*50*time.Minute {
			it, _ := q.Get(key)
			t.Errorf("%s of %d tokens waits for %v", key, it.Tokens, age)
		}
	}
	if large < 500 {
		t.Errorf("only %d large items went", large)
	}
}
