// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// TestFairnessBound checks the bound derived in fairness.go: users that always
// wait are served equally, for any sizes, errors of the estimates and amounts of
// capacity.
func TestFairnessBound(t *testing.T) {
	const (
		largest  = 4000
		maxPass  = 3000
		wide     = 20_000
		inFlight = 6
	)
	tests := map[string]struct {
		// room is what one Pick may take; zero means one item, whatever its size.
		room int64
		// maxPass is the bound of WithAging on tokens, 3000 if zero.
		maxPass int64
		// errors is whether the actual usage differs from the estimate.
		errors bool
		weight map[string]int64
		// wantLead is the bound on the lead in tokens per weight.
		wantLead int64
	}{
		"exact estimates": {wantLead: largest},
		"weights":         {weight: map[string]int64{"large": 4, "small": 1, "mixed": 3}, wantLead: largest},
		"wrong estimates": {errors: true, wantLead: largest + 2*inFlight*largest},
		"skips":           {room: 5000, wantLead: largest + maxPass},
		// Without the bound on users each item could be passed by five times its size.
		"skips within a wide bound":  {room: 4200, maxPass: wide, wantLead: largest + wide},
		"skips and wrong estimates":  {room: 5000, errors: true, wantLead: largest + maxPass + 2*inFlight*largest},
		"skips that fit rarely":      {room: 4200, wantLead: largest + maxPass},
		"skips, weights, wrong ones": {room: 4500, errors: true, weight: map[string]int64{"large": 1, "small": 5, "mixed": 2}, wantLead: largest + maxPass + 2*inFlight*largest},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			weight := func(user string) int64 { return max(tc.weight[user], 1) }
			q := New(WithWeight(weight), WithAging(time.Minute, cmp.Or(tc.maxPass, maxPass)))
			size := map[string]func() int64{
				"large": func() int64 { return largest },
				"small": func() int64 { return 100 },
				"mixed": func() int64 { return 100 + r.Int64N(largest-100) },
			}
			n, now := 0, epoch
			add := func(user string) {
				n++
				q.Upsert(Item{Key: strconv.Itoa(n), Lane: vision, User: user, Arrival: now, Tokens: size[user]()}, now)
			}
			for user := range size {
				// Enough for more than one Pick can take.
				for range 60 {
					add(user)
				}
			}
			served := map[string]int64{}
			flying := map[string][]Item{}
			land := func(user string) {
				it := flying[user][0]
				flying[user] = flying[user][1:]
				usage := it.Tokens
				if tc.errors {
					usage = r.Int64N(2*it.Tokens + 1)
				}
				q.Adjust(vision, user, usage-it.Tokens)
				served[user] += usage - it.Tokens
			}
			for range 10_000 {
				// Room comes in small steps, so that large items have to wait for it.
				now = now.Add(10 * time.Millisecond)
				left, done := tc.room, false
				if tc.room > 0 {
					left = r.Int64N(tc.room)
				}
				var taken []Item
				q.Pick(now, func(it Item) Decision {
					if tc.room == 0 && done {
						return Stop
					}
					if tc.room > 0 && it.Tokens > left {
						return Skip
					}
					left -= it.Tokens
					done = true
					taken = append(taken, it)
					return Take
				})
				for _, it := range taken {
					served[it.User] += it.Tokens
					flying[it.User] = append(flying[it.User], it)
					add(it.User)
					for len(flying[it.User]) > inFlight {
						land(it.User)
					}
				}
			}
			for user := range flying {
				for len(flying[user]) > 0 {
					land(user)
				}
			}
			for a := range served {
				for b := range served {
					// One unit per item is lost in a division by the weight.
					if lead := served[a]/weight(a) - served[b]/weight(b); lead > tc.wantLead+10 {
						t.Errorf("%s leads %s by %d tokens per weight, want at most %d", a, b, lead, tc.wantLead)
					}
				}
				if served[a] < 100*largest {
					t.Errorf("%s was served only %d tokens", a, served[a])
				}
			}
			checkInvariants(t, q)
		})
	}
}

// TestWorkConservation checks that a quiet user costs a busy one nothing: all
// tokens are used while any user waits, and the quiet one is served at once.
func TestWorkConservation(t *testing.T) {
	const perStep, steps = 5000, 1000
	q := New()
	n, used := 0, 0
	now := epoch
	add := func(user string) string {
		n++
		key := strconv.Itoa(n)
		q.Upsert(Item{Key: key, Lane: vision, User: user, Arrival: now, Tokens: 1000}, now)
		return key
	}
	for i := range steps {
		now = now.Add(time.Second)
		for q.Len() < 50 {
			add("busy")
		}
		quiet := ""
		if i%20 == 0 {
			quiet = add("quiet")
		}
		for j, key := range takeAll(q, now, perStep/1000) {
			used += 1000
			if key == quiet && j > 1 {
				t.Errorf("step %d: the quiet user was served as number %d, want at the next turn", i, j)
			}
			if key == quiet {
				quiet = ""
			}
		}
		if quiet != "" {
			t.Errorf("step %d: the quiet user waits", i)
		}
	}
	if want := perStep * steps; used != want {
		t.Errorf("used %d tokens, want %d", used, want)
	}
}

func TestNewlyActiveUser(t *testing.T) {
	q := New()
	serve := func(n int) []string { return takeAll(q, epoch, n) }
	for i := range 20 {
		fill(q, scan(fmt.Sprintf("a%02d", i), "a", i))
	}
	serve(5)
	fill(q, scan("b0", "b", 50), scan("b1", "b", 51), scan("b2", "b", 52))
	// b starts at a's level and does not get five turns for its idle time.
	if diff := gocmp.Diff([]string{"a05", "b0", "a06", "b1"}, serve(4)); diff != "" {
		t.Errorf("first time active (-want +got):\n%s", diff)
	}
	q.Remove("b2")
	serve(5)
	fill(q, scan("b3", "b", 60), scan("b4", "b", 61))
	if diff := gocmp.Diff([]string{"a12", "b3", "a13", "b4"}, serve(4)); diff != "" {
		t.Errorf("active again (-want +got):\n%s", diff)
	}
	// A user that is ahead does not gain by being idle either.
	fill(q, scan("c0", "c", 70, tokens(9000)))
	serve(2)
	fill(q, scan("c1", "c", 71))
	if diff := gocmp.Diff([]string{"a15", "a16", "a17", "a18", "a19", "c1"}, serve(9)); diff != "" {
		t.Errorf("active again while ahead (-want +got):\n%s", diff)
	}
}

// TestSuspendedUserIsIdle checks that items out of the order earn no service.
func TestSuspendedUserIsIdle(t *testing.T) {
	tests := map[string]func(*Item){"suspended": suspended, "backing off": after(time.Minute)}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			q := New()
			fill(q, scan("b1", "b", 1, change), scan("b2", "b", 2, change))
			for i := range 9 {
				fill(q, scan(fmt.Sprint("a", i), "a", 10+i))
			}
			takeAll(q, epoch, 5)
			fill(q, scan("b1", "b", 1), scan("b2", "b", 2))
			if diff := gocmp.Diff([]string{"b1", "a5", "b2", "a6"}, takeAll(q, epoch, 4)); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
		})
	}
}

// TestIdleQueueKeepsLevel checks that users are not treated as equal only because
// the queue was empty for a moment.
func TestIdleQueueKeepsLevel(t *testing.T) {
	q := New()
	fill(q, scan("a1", "a", 1, tokens(5000)), scan("b1", "b", 2))
	takeAll(q, epoch, 2)
	fill(q, scan("b2", "b", 4), scan("b3", "b", 5), scan("c1", "c", 6), scan("a2", "a", 3))
	if diff := gocmp.Diff([]string{"b2", "c1", "b3", "a2"}, takeAll(q, epoch, 9)); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestRequeueKeepsPlace(t *testing.T) {
	first := scan("a1", "a", 1)
	give := func(q *Queue) { q.Refund(vision, "a", 1000) }
	steps := map[string]func(q *Queue){
		"Refund then Upsert": func(q *Queue) { give(q); fill(q, first) },
		"Upsert then Refund": func(q *Queue) { fill(q, first); give(q) },
	}
	for name, comeBack := range steps {
		t.Run(name, func(t *testing.T) {
			q := New()
			fill(q, first, scan("b1", "b", 2), scan("b2", "b", 3))
			if diff := gocmp.Diff([]string{"a1", "b1"}, takeAll(q, epoch, 2)); diff != "" {
				t.Fatalf("order (-want +got):\n%s", diff)
			}
			comeBack(q)
			fill(q, scan("c1", "c", 4))
			if diff := gocmp.Diff([]string{"a1", "c1", "b2"}, takeAll(q, epoch, 9)); diff != "" {
				t.Errorf("order after the requeue (-want +got):\n%s", diff)
			}
			checkInvariants(t, q)
		})
	}
}

func TestAdjust(t *testing.T) {
	tests := map[string]struct {
		adjust func(q *Queue)
		want   []string
	}{
		"as estimated":         {func(*Queue) {}, []string{"a2", "b2"}},
		"used more":            {func(q *Queue) { q.Adjust(vision, "a", 1) }, []string{"b2", "a2"}},
		"used less":            {func(q *Queue) { q.Adjust(vision, "b", -1) }, []string{"b2", "a2"}},
		"in another lane":      {func(q *Queue) { q.Adjust(answer, "a", 1) }, []string{"b2", "a2"}},
		"in another domain":    {func(q *Queue) { q.Adjust(other, "a", 1) }, []string{"a2", "b2"}},
		"unknown user":         {func(q *Queue) { q.Refund(vision, "x", 1) }, []string{"a2", "b2"}},
		"unknown domain":       {func(q *Queue) { q.Refund(other, "a", 1) }, []string{"a2", "b2"}},
		"negative refund":      {func(q *Queue) { q.Refund(vision, "a", -5) }, []string{"a2", "b2"}},
		"absurd usage":         {func(q *Queue) { q.Adjust(vision, "a", 1<<62) }, []string{"b2", "a2"}},
		"absurdly little":      {func(q *Queue) { q.Adjust(vision, "b", -1<<62) }, []string{"b2", "a2"}},
		"user that left":       {func(q *Queue) { q.Adjust(vision, "x", 1) }, []string{"a2", "b2"}},
		"user that left, less": {func(q *Queue) { q.Adjust(vision, "x", -1) }, []string{"a2", "b2"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			q := New()
			fill(q, scan("a1", "a", 1), scan("b1", "b", 2), scan("a2", "a", 3), scan("b2", "b", 4))
			takeAll(q, epoch, 2)
			tc.adjust(q)
			checkInvariants(t, q)
			if diff := gocmp.Diff(tc.want, takeAll(q, epoch, 9)); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
		})
	}
}

// TestIdleUsersAreCharged checks that usage above the estimate counts for a user
// whose counter was dropped meanwhile.
func TestIdleUsersAreCharged(t *testing.T) {
	q := New()
	fill(q, scan("a1", "a", 1))
	takeAll(q, epoch, 1)
	takeAll(q, epoch, 1)
	if len(q.domains) != 0 {
		t.Fatalf("%d domains are kept, want the counter dropped", len(q.domains))
	}
	q.Adjust(vision, "a", 500)
	fill(q, scan("b1", "b", 3), scan("a2", "a", 2))
	if diff := gocmp.Diff([]string{"b1", "a2"}, takeAll(q, epoch, 9)); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

// TestIdleCountersAreDropped checks which idle counters are dropped first.
func TestIdleCountersAreDropped(t *testing.T) {
	q := New(WithIdleUsers(3))
	elsewhere := func(n int) Lane { return Lane{Namespace: fmt.Sprint("ns", n), Stage: "vision"} }
	// In every domain "low" and "high" end up idle, both ahead of those active.
	lead := func(lane Lane, keep bool) {
		fill(q,
			scan(lane.Namespace+"/1", "low", 1, in(lane, 0), tokens(100)),
			scan(lane.Namespace+"/2", "high", 2, in(lane, 0), tokens(200)),
			scan(lane.Namespace+"/3", "rest", 3, in(lane, 0), tokens(0)),
		)
		takeAll(q, epoch, 2)
		if !keep {
			q.Remove(lane.Namespace + "/3")
		}
	}
	known := func(lane Lane) (users []string) {
		if d := q.find(lane); d != nil {
			for _, user := range []string{"low", "high"} {
				if d.users[user] != nil {
					users = append(users, user)
				}
			}
		}
		return users
	}
	lead(elsewhere(1), false)
	lead(elsewhere(2), true)
	if got := known(elsewhere(1)); got != nil {
		t.Errorf("the domain without items keeps %v, want its counters dropped first", got)
	}
	if diff := gocmp.Diff([]string{"low", "high"}, known(elsewhere(2))); diff != "" {
		t.Errorf("kept in the domain with items (-want +got):\n%s", diff)
	}
	fill(q, scan("ns2/4", "highest", 1, in(elsewhere(2), 0), tokens(300)), scan("ns2/5", "x", 0, in(elsewhere(2), 0), tokens(400)))
	takeAll(q, epoch, 3)
	if diff := gocmp.Diff([]string{"high"}, known(elsewhere(2))); diff != "" {
		t.Errorf("kept of too many (-want +got):\n%s", diff)
	}
	checkInvariants(t, q)
}

// TestMemoryIsBounded lets very many users pass through, in a queue that is never
// empty and whose floor never rises, and in many domains.
func TestMemoryIsBounded(t *testing.T) {
	const limit = 100
	q := New(WithIdleUsers(limit))
	now := epoch
	for i := range 5000 {
		now = now.Add(time.Second)
		for _, lane := range []Lane{vision, {Namespace: fmt.Sprint("ns", i), Stage: "vision"}} {
			q.Upsert(Item{Key: fmt.Sprint(lane, i), Lane: lane, User: fmt.Sprint("u", i), Arrival: now, Tokens: int64(i % 7 * 100)}, now)
		}
		if i < 10 {
			continue
		}
		takeAll(q, now, 2)
		q.Adjust(Lane{Namespace: fmt.Sprint("late", i)}, "u", 10)
	}
	checkInvariants(t, q)
	accounts := 0
	for _, d := range q.domains {
		accounts += len(d.users)
	}
	if most := limit + q.Len(); accounts > most || len(q.domains) > most {
		t.Errorf("%d accounts, %d domains; want at most %d", accounts, len(q.domains), most)
	}
	for key := range q.index {
		q.Remove(key)
	}
	takeAll(q, now, 1)
	if len(q.lanes) != 0 || len(q.busy) != 0 || q.idleUsers > limit {
		t.Errorf("an empty queue has %d lanes, %d busy domains, %d idle users", len(q.lanes), len(q.busy), q.idleUsers)
	}
	checkInvariants(t, q)
}
