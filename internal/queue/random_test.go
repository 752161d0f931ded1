// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// pair drives a queue and its model with the same operations.
type pair struct {
	t     *testing.T
	queue *Queue
	model *model
	now   time.Time
	// refunds is whether anything is refunded.
	refunds bool
	// taken holds the items that were taken.
	taken []Item
	// next is the source of choices, from 0 to n-1.
	next func(n int) int
}

func (p *pair) item(key string) Item {
	stage := p.next(2)
	it := Item{
		Key:        key,
		Lane:       Lane{Namespace: []string{"a", "b"}[p.next(2)], Stage: []string{"vision", "answer"}[stage], Model: []string{"m", "n"}[p.next(2)]},
		StageIndex: []int{0, 2}[stage],
		Priority:   []int32{0, 0, 0, 7}[p.next(4)],
		User:       fmt.Sprintf("u%d", p.next(6)),
		Arrival:    epoch.Add(time.Duration(p.next(50)) * time.Second),
		Tokens:     []int64{0, 100, 100, 500, 900, 4000}[p.next(6)],
		Suspended:  p.next(8) == 0,
	}
	if p.next(4) == 0 {
		it.NotBefore = p.now.Add(time.Duration(p.next(5)-1) * time.Second)
	}
	return it
}

func (p *pair) step() {
	p.now = p.now.Add(time.Duration(p.next(3)) * 500 * time.Millisecond)
	key := fmt.Sprintf("a/k%d", p.next(40))
	switch p.next(10) {
	case 0, 1, 2, 3:
		it := p.item(key)
		p.queue.Upsert(it, p.now)
		p.model.Upsert(it, p.now)
	case 4:
		if it, ok := p.queue.Get(key); ok {
			it.Suspended = p.next(3) == 0
			if p.next(2) == 0 {
				it.Tokens = int64(p.next(1000))
			}
			p.queue.Upsert(it, p.now)
			p.model.Upsert(it, p.now)
		}
	case 5:
		if got, want := p.queue.Remove(key), p.model.Remove(key); got != want {
			p.t.Fatalf("Remove(%s) = %v, want %v", key, got, want)
		}
	case 6, 7, 8:
		p.pick()
	case 9:
		p.correct()
	}
}

// pick compares a whole Pick, with decisions that depend only on the item and
// the number of the offer.
func (p *pair) pick() {
	type offer struct {
		Item     Item
		Decision Decision
	}
	salt, budget := p.next(1<<16), int64(p.next(5000))
	recorder := func(offers *[]offer) func(Item) Decision {
		left := budget
		return func(it Item) Decision {
			h := fnv.New32a()
			fmt.Fprintf(h, "%d/%s", salt, it.Key)
			var d Decision
			switch roll := h.Sum32() >> 8 % 40; {
			case roll == 0:
				d = Drop
			case roll == 1 || len(*offers) > 60:
				d = Stop
			case roll < 5:
				d = SkipLane
			case it.Tokens > left:
				d = Skip
			default:
				d = Take
				left -= it.Tokens
			}
			*offers = append(*offers, offer{it, d})
			return d
		}
	}
	var got, want []offer
	p.model.Pick(p.now, recorder(&want))
	p.queue.Pick(p.now, recorder(&got))
	if diff := cmp.Diff(want, got); diff != "" {
		p.t.Fatalf("offers differ (-want +got):\n%s", diff)
	}
	for _, o := range got {
		if o.Decision == Take {
			p.taken = append(p.taken, o.Item)
		}
	}
}

// correct refunds or adjusts.
func (p *pair) correct() {
	if len(p.taken) == 0 {
		return
	}
	i := p.next(len(p.taken))
	it := p.taken[i]
	if !p.refunds {
		// Without refunds only charges to active users are sure to find a counter
		// that was not dropped.
		if u := p.model.domain(it.Lane).users[it.User]; u != nil && u.active {
			delta := int64(p.next(1000))
			p.queue.Adjust(it.Lane, it.User, delta)
			p.model.Adjust(it.Lane, it.User, delta)
		}
		return
	}
	switch p.next(4) {
	case 0:
		p.queue.Refund(it.Lane, it.User, it.Tokens)
		p.model.Refund(it.Lane, it.User, it.Tokens)
	case 1:
		p.queue.Refund(it.Lane, it.User, it.Tokens)
		p.model.Refund(it.Lane, it.User, it.Tokens)
		if _, ok := p.queue.Get(it.Key); !ok {
			p.queue.Upsert(it, p.now)
			p.model.Upsert(it, p.now)
		}
	default:
		delta := int64(p.next(2000) - 1000)
		p.queue.Adjust(it.Lane, it.User, delta)
		p.model.Adjust(it.Lane, it.User, delta)
	}
	p.taken = slices.Delete(p.taken, i, i+1)
}

func (p *pair) compare() {
	p.t.Helper()
	checkInvariants(p.t, p.queue)
	if p.queue.Len() != len(p.model.items) {
		p.t.Fatalf("Len() = %d, want %d", p.queue.Len(), len(p.model.items))
	}
	for name, d := range p.model.domains {
		for user, u := range d.users {
			if !u.active {
				continue
			}
			// The counters of a dropped domain start again at zero.
			got := p.queue.domains[name]
			if got, want := got.users[user].counter-got.floor(), u.counter-d.floor(); got != want {
				p.t.Fatalf("%s leads the least served user of %s by %d, want %d", user, name, got, want)
			}
		}
	}
	for _, it := range p.model.items {
		got, _ := p.queue.Get(it.Key)
		if diff := cmp.Diff(it.Item, got); diff != "" {
			p.t.Fatalf("Get(%s) (-want +got):\n%s", it.Key, diff)
		}
		if got, want := p.queue.LenDomain(it.Lane), p.model.count(it.Lane); got != want {
			p.t.Fatalf("LenDomain(%v) = %+v, want %+v", it.Lane, got, want)
		}
		gotPos, _ := p.queue.Position(it.Key)
		if wantPos, _ := p.model.Position(it.Key); gotPos != wantPos {
			p.t.Fatalf("Position(%s) = %+v, want %+v", it.Key, gotPos, wantPos)
		}
	}
}

// variant is one way to configure both.
func (p *pair) variant(n int) {
	var opts []Option
	if n&1 != 0 {
		p.model.weight = func(user string) int64 { return int64(user[1]-'0')%3 + 1 }
		opts = append(opts, WithWeight(p.model.weight))
	}
	if n&2 != 0 {
		p.model.domainOf = func(l Lane) string { return l.Namespace }
		opts = append(opts, WithDomain(p.model.domainOf))
	}
	if n&4 != 0 {
		p.model.maxSkip, p.model.maxPass, p.model.lookAhead = 2*time.Second, 1500, 2
		opts = append(opts, WithAging(2*time.Second, 1500), WithLookAhead(2))
	}
	p.refunds = n&8 != 0
	p.model.forgets = p.refunds
	p.queue = New(opts...)
}

func TestAgainstModel(t *testing.T) {
	for seed := range uint64(32) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			p := &pair{t: t, model: newModel(), now: epoch, next: r.IntN}
			p.variant(int(seed))
			for i := range 1500 {
				p.step()
				if i%5 == 0 {
					p.compare()
				}
			}
		})
	}
}

func FuzzOperations(f *testing.F) {
	r := rand.New(rand.NewPCG(7, 7))
	for n := range 16 {
		seed := make([]byte, 150)
		for i := range seed {
			seed[i] = byte(r.IntN(256))
		}
		seed[0] = byte(n)
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, ops []byte) {
		p := &pair{t: t, model: newModel(), now: epoch}
		p.next = func(n int) int {
			if len(ops) == 0 {
				return 0
			}
			c := int(ops[0])
			ops = ops[1:]
			if n > 256 && len(ops) > 0 {
				c = c<<8 | int(ops[0])
				ops = ops[1:]
			}
			return c % n
		}
		p.variant(p.next(16))
		for i := 0; len(ops) > 0; i++ {
			p.step()
			if i%4 == 0 {
				p.compare()
			}
		}
		p.compare()
	})
}
