// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	vision = Lane{Namespace: "a", Stage: "vision", Model: "m"}
	answer = Lane{Namespace: "a", Stage: "answer", Model: "m"}
	other  = Lane{Namespace: "b", Stage: "vision", Model: "m"}
)

// scan is a ready item of 1000 tokens.
func scan(key, user string, arrival int, change ...func(*Item)) Item {
	it := Item{Key: key, Lane: vision, User: user, Arrival: epoch.Add(time.Duration(arrival) * time.Second), Tokens: 1000}
	for _, c := range change {
		c(&it)
	}
	return it
}

func tokens(n int64) func(*Item)        { return func(it *Item) { it.Tokens = n } }
func priority(n int32) func(*Item)      { return func(it *Item) { it.Priority = n } }
func in(l Lane, stage int) func(*Item)  { return func(it *Item) { it.Lane, it.StageIndex = l, stage } }
func after(d time.Duration) func(*Item) { return func(it *Item) { it.NotBefore = epoch.Add(d) } }
func suspended(it *Item)                { it.Suspended = true }

func fill(q *Queue, items ...Item) {
	for _, it := range items {
		q.Upsert(it, epoch)
	}
}

// takeAll takes up to n items that decide lets through and returns their keys.
func takeAll(q *Queue, now time.Time, n int) []string {
	var keys []string
	q.Pick(now, func(it Item) Decision {
		if len(keys) == n {
			return Stop
		}
		keys = append(keys, it.Key)
		return Take
	})
	return keys
}

func TestOrder(t *testing.T) {
	tests := map[string]struct {
		opts  []Option
		items []Item
		at    time.Duration
		want  []string
	}{
		"empty": {},
		"arrival decides between equals": {
			items: []Item{scan("c", "u", 3), scan("a", "u", 1), scan("b", "u", 2)},
			want:  []string{"a", "b", "c"},
		},
		"the key decides between simultaneous arrivals": {
			items: []Item{scan("b", "u", 1), scan("a", "u", 1)},
			want:  []string{"a", "b"},
		},
		"priority goes before stage, user and arrival": {
			items: []Item{scan("answer", "u", 1, in(answer, 2)), scan("urgent", "u", 9, priority(1000))},
			want:  []string{"urgent", "answer"},
		},
		"later stages go before user and arrival": {
			items: []Item{scan("v", "u", 1), scan("w", "v", 2), scan("a1", "v", 8, in(answer, 2)), scan("a2", "v", 9, in(answer, 2))},
			want:  []string{"a1", "a2", "v", "w"},
		},
		"users take turns": {
			items: []Item{scan("a1", "a", 1), scan("a2", "a", 2), scan("a3", "a", 3), scan("b1", "b", 4), scan("b2", "b", 5)},
			want:  []string{"a1", "b1", "a2", "b2", "a3"},
		},
		"turns are counted in tokens": {
			items: []Item{
				scan("a1", "a", 1, tokens(3000)), scan("a2", "a", 2, tokens(3000)),
				scan("b1", "b", 3), scan("b2", "b", 4), scan("b3", "b", 5), scan("b4", "b", 6),
			},
			want: []string{"a1", "b1", "b2", "b3", "a2", "b4"},
		},
		"service at one stage counts at the other": {
			items: []Item{scan("a-answer", "a", 1, in(answer, 2)), scan("a", "a", 2), scan("b", "b", 3)},
			want:  []string{"a-answer", "b", "a"},
		},
		"weights multiply turns": {
			opts: []Option{WithWeight(func(user string) int64 { return map[string]int64{"a": 2, "b": 1}[user] })},
			items: []Item{
				scan("a1", "a", 1), scan("a2", "a", 2), scan("a3", "a", 3), scan("a4", "a", 4),
				scan("b1", "b", 5), scan("b2", "b", 6), scan("b3", "b", 7),
			},
			want: []string{"a1", "b1", "a2", "a3", "b2", "a4", "b3"},
		},
		"a weight below one counts as one": {
			opts:  []Option{WithWeight(func(string) int64 { return 0 })},
			items: []Item{scan("a1", "a", 1), scan("a2", "a", 2), scan("b1", "b", 3)},
			want:  []string{"a1", "b1", "a2"},
		},
		"suspended items and those that back off are out of the way": {
			items: []Item{scan("s", "u", 1, suspended), scan("d", "u", 2, after(time.Minute)), scan("r", "u", 3)},
			at:    59 * time.Second,
			want:  []string{"r"},
		},
		"an item that backed off takes its old place": {
			items: []Item{scan("d", "u", 1, after(time.Minute)), scan("r", "u", 2)},
			at:    time.Minute,
			want:  []string{"d", "r"},
		},
		"an item without arrival is the oldest": {
			items: []Item{scan("r", "u", 1), {Key: "z", Lane: vision, User: "u"}},
			want:  []string{"z", "r"},
		},
		"one domain does not count for another": {
			items: []Item{scan("a1", "a", 1), scan("a2", "a", 2, in(other, 0)), scan("b2", "b", 3, in(other, 0))},
			want:  []string{"a1", "a2", "b2"},
		},
		"lanes of one domain share counters": {
			opts:  []Option{WithDomain(func(Lane) string { return "" })},
			items: []Item{scan("a1", "a", 1), scan("a2", "a", 2, in(other, 0)), scan("b2", "b", 3, in(other, 0))},
			want:  []string{"a1", "b2", "a2"},
		},
		"negative tokens cost nothing": {
			items: []Item{scan("a1", "a", 1, tokens(-5)), scan("a2", "a", 2), scan("b1", "b", 3)},
			want:  []string{"a1", "a2", "b1"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			q := New(tc.opts...)
			fill(q, tc.items...)
			if diff := cmp.Diff(tc.want, takeAll(q, epoch.Add(tc.at), len(tc.items))); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
			checkInvariants(t, q)
		})
	}
}

func TestDecisions(t *testing.T) {
	// In order: answer, large, middle, small; then the other domain.
	items := []Item{
		scan("answer", "u", 9, in(answer, 2)),
		scan("large", "u", 1, tokens(5000)),
		scan("middle", "u", 2, tokens(3000)),
		scan("same", "u", 3, tokens(3000)),
		scan("small", "u", 4, tokens(1000)),
		scan("other", "u", 5, in(other, 0)),
	}
	tests := map[string]struct {
		answers     map[string]Decision
		wantOffered []string
		wantLeft    int
	}{
		"take all":                       {nil, []string{"answer", "large", "middle", "same", "small", "other"}, 0},
		"skip offers smaller ones only":  {map[string]Decision{"middle": Skip}, []string{"answer", "large", "middle", "small", "other"}, 2},
		"skip of the smallest ends it":   {map[string]Decision{"answer": Skip, "large": Skip, "middle": Skip, "small": Skip}, []string{"answer", "large", "middle", "small", "other"}, 5},
		"skip lane leaves the others":    {map[string]Decision{"large": SkipLane}, []string{"answer", "large", "other"}, 4},
		"stop ends everything":           {map[string]Decision{"large": Stop}, []string{"answer", "large"}, 5},
		"unknown decisions end the Pick": {map[string]Decision{"large": 99}, []string{"answer", "large"}, 5},
		"drop removes":                   {map[string]Decision{"large": Drop}, []string{"answer", "large", "middle", "same", "small", "other"}, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			q := New()
			fill(q, items...)
			var offered []string
			q.Pick(epoch, func(it Item) Decision {
				offered = append(offered, it.Key)
				return tc.answers[it.Key]
			})
			if diff := cmp.Diff(tc.wantOffered, offered); diff != "" {
				t.Errorf("offered (-want +got):\n%s", diff)
			}
			if q.Len() != tc.wantLeft {
				t.Errorf("Len() = %d, want %d", q.Len(), tc.wantLeft)
			}
			checkInvariants(t, q)
		})
	}
}

func TestDropDoesNotCharge(t *testing.T) {
	q := New()
	fill(q, scan("a1", "a", 1), scan("a2", "a", 2), scan("b1", "b", 3))
	var got []string
	q.Pick(epoch, func(it Item) Decision {
		got = append(got, it.Key)
		if it.Key == "a1" {
			return Drop
		}
		return Take
	})
	if diff := cmp.Diff([]string{"a1", "a2", "b1"}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

// TestPickAfterPanic checks that a callback that panics leaves a usable queue.
func TestPickAfterPanic(t *testing.T) {
	q := New()
	fill(q, scan("a", "u", 1), scan("b", "u", 2, in(other, 0)))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic did not reach the caller")
			}
		}()
		q.Pick(epoch, func(Item) Decision { panic("in try") })
	}()
	if diff := cmp.Diff([]string{"a", "b"}, takeAll(q, epoch, 9)); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	checkInvariants(t, q)
}

func TestUpsertReplaces(t *testing.T) {
	base := scan("k", "u", 5)
	tests := map[string]struct {
		change func(*Item)
		want   []string
	}{
		"unchanged":        {func(*Item) {}, []string{"first", "k", "last"}},
		"priority":         {priority(1), []string{"k", "first", "last"}},
		"arrival":          {func(it *Item) { it.Arrival = epoch }, []string{"k", "first", "last"}},
		"later arrival":    {func(it *Item) { it.Arrival = epoch.Add(time.Hour) }, []string{"first", "last", "k"}},
		"stage":            {in(answer, 2), []string{"k", "first", "last"}},
		"other user":       {func(it *Item) { it.User = "v" }, []string{"first", "k", "last"}},
		"suspended":        {suspended, []string{"first", "last"}},
		"backing off":      {after(time.Hour), []string{"first", "last"}},
		"backed off":       {after(-time.Hour), []string{"first", "k", "last"}},
		"smaller":          {tokens(1), []string{"first", "k", "last"}},
		"another timezone": {func(it *Item) { it.Arrival = it.Arrival.In(time.FixedZone("KST", 9*3600)) }, []string{"first", "k", "last"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			q := New()
			fill(q, scan("first", "u", 1), base, scan("last", "u", 9))
			changed := base
			tc.change(&changed)
			fill(q, changed)
			if got, _ := q.Get("k"); !cmp.Equal(got, changed) {
				t.Errorf("Get() = %+v, want %+v", got, changed)
			}
			checkInvariants(t, q)
			if diff := cmp.Diff(tc.want, takeAll(q, epoch, 9)); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
		})
	}
}

// TestUpsertIsNoActivity checks that an update of a user's only item does not
// lift the user as if it came back from being idle.
func TestUpsertIsNoActivity(t *testing.T) {
	q := New()
	fill(q, scan("a1", "a", 1), scan("b1", "b", 2), scan("b2", "b", 3))
	takeAll(q, epoch, 2)
	// a is idle at 1000; b waits at 1000. c starts there.
	fill(q, scan("c1", "c", 4))
	q.Adjust(vision, "b", 500)
	q.Adjust(vision, "c", -500)
	for range 3 {
		fill(q, scan("c1", "c", 4, priority(1)))
		fill(q, scan("c1", "c", 4))
	}
	q.Remove("b2")
	fill(q, scan("c1", "c", 4, tokens(2000)))
	if got, want := q.domains["a/m"].floor(), int64(500*costScale); got != want {
		t.Errorf("floor = %d, want %d", got, want)
	}
}

func TestQueries(t *testing.T) {
	q := New()
	fill(q,
		scan("a/1", "u", 10), scan("a/2", "v", 4, tokens(500)), scan("a/3", "u", 2, suspended),
		scan("a/4", "u", 3, after(20*time.Second)), scan("a/5", "u", 1, after(10*time.Second)),
		scan("a/6", "u", 6, in(answer, 2)), scan("b/7", "u", 5, in(other, 0)),
	)
	now := epoch.Add(15 * time.Second)
	if due, ok := q.NextDue(); !ok || !due.Equal(epoch.Add(10*time.Second)) {
		t.Errorf("NextDue() = %v, %v", due, ok)
	}
	wantCounts := map[Lane]Counts{
		vision:        {Ready: 3, BackingOff: 2, Suspended: 1, ReadyTokens: 2500},
		answer:        {Ready: 3, BackingOff: 2, Suspended: 1, ReadyTokens: 2500},
		other:         {Ready: 1, ReadyTokens: 1000},
		{Stage: "no"}: {},
	}
	for lane, want := range wantCounts {
		if got := q.LenDomain(lane); got != want {
			t.Errorf("LenDomain(%v) = %+v, want %+v", lane, got, want)
		}
	}
	if got := q.Ready("a", "vision"); got != 2 {
		t.Errorf("Ready(a, vision) = %d, want 2", got)
	}
	q.Pick(now, func(Item) Decision { return Stop })
	if due, ok := q.NextDue(); !ok || !due.Equal(epoch.Add(20*time.Second)) {
		t.Errorf("NextDue() after one became ready = %v, %v", due, ok)
	}
	if got := q.LenDomain(vision); got != (Counts{Ready: 4, BackingOff: 1, Suspended: 1, ReadyTokens: 3500}) {
		t.Errorf("LenDomain() after one became ready = %+v", got)
	}
	for n := 1; n <= 7; n++ {
		key := fmt.Sprintf("a/%d", n)
		_, had := q.Get(key)
		if removed := q.Remove(key); removed != had || removed != (n < 7) {
			t.Errorf("Remove(%s) = %v, Get says %v", key, removed, had)
		}
	}
	if _, ok := q.NextDue(); ok || q.Len() != 1 {
		t.Errorf("after Remove: NextDue ok = %v, Len() = %d", ok, q.Len())
	}
	checkInvariants(t, q)
}
