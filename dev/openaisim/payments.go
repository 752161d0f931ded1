// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"cmp"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
)

// PaymentStats says whether the same piece of work, as named by the client's
// X-Client-Request-Id, was paid more than once.
type PaymentStats struct {
	// Distinct is the number of different ids among the admitted calls.
	Distinct int64 `json:"distinct"`
	// PaidMoreThanOnce is the number of ids that were admitted, and so charged
	// to a bucket, more than once: retries of failed calls are among them.
	PaidMoreThanOnce int64 `json:"paidMoreThanOnce"`
	// AnsweredMoreThanOnce is the number of ids that got more than one
	// complete answer: money spent twice.
	AnsweredMoreThanOnce int64 `json:"answeredMoreThanOnce"`
	// WithoutID is the number of admitted calls that carried no id.
	WithoutID int64 `json:"withoutId"`
	// Forgotten is the number of ids dropped to bound the memory. Unless it is
	// 0 the other numbers may be too low.
	Forgotten int64 `json:"forgotten"`
	// Repeated lists some ids that were paid more than once, sorted.
	Repeated []RepeatedPayment `json:"repeated,omitempty"`
}

// RepeatedPayment is one id that was paid more than once.
type RepeatedPayment struct {
	ID       string `json:"id"`
	Paid     int64  `json:"paid"`
	Answered int64  `json:"answered"`
}

const (
	paymentShards = 64
	// idsPerShard bounds the ids that are remembered, to a million in all.
	idsPerShard = 1 << 14
	// listedRepeats bounds the ids that are listed by name: enough for a long
	// series of faults, each of which has calls sent again.
	listedRepeats = 10_000
)

// paymentEvent is what happened to a call.
type paymentEvent int

const (
	paid paymentEvent = iota
	answered
)

// payments counts calls by client id, in shards so that calls rarely wait for
// each other. It keeps 64 bits of hash per id, not the id.
type payments struct {
	seed      maphash.Seed
	shards    [paymentShards]paymentShard
	withoutID atomic.Int64

	listing  sync.Mutex
	repeated map[uint64]string
}

type paymentShard struct {
	mu        sync.Mutex
	counts    map[uint64]paymentCount
	order     []uint64 // ring of ids by age, once full
	oldest    int
	forgotten int64
}

type paymentCount struct {
	paid, answered int64
}

func newPayments() *payments {
	p := &payments{seed: maphash.MakeSeed(), repeated: map[uint64]string{}}
	for i := range p.shards {
		p.shards[i].counts = map[uint64]paymentCount{}
	}
	return p
}

// record counts one event of an id.
func (p *payments) record(id string, event paymentEvent) {
	if id == "" {
		if event == paid {
			p.withoutID.Add(1)
		}
		return
	}
	hash := maphash.String(p.seed, id)
	if p.shards[hash%paymentShards].record(hash, event) {
		p.list(hash, id)
	}
}

// record reports whether the id has just been paid again.
func (s *paymentShard) record(hash uint64, event paymentEvent) (again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	count, known := s.counts[hash]
	if event == answered {
		if known {
			count.answered++
			s.counts[hash] = count
		}
		return false
	}
	if !known {
		s.rememberLocked(hash)
	}
	count.paid++
	s.counts[hash] = count
	return count.paid == 2
}

// rememberLocked makes room for a new id by forgetting the oldest.
func (s *paymentShard) rememberLocked(hash uint64) {
	if len(s.order) < idsPerShard {
		s.order = append(s.order, hash)
		return
	}
	delete(s.counts, s.order[s.oldest])
	s.forgotten++
	s.order[s.oldest] = hash
	s.oldest = (s.oldest + 1) % idsPerShard
}

// list remembers the name of a repeated id.
func (p *payments) list(hash uint64, id string) {
	p.listing.Lock()
	defer p.listing.Unlock()
	if len(p.repeated) < listedRepeats {
		p.repeated[hash] = id
	}
}

// stats adds the shards up.
func (p *payments) stats() PaymentStats {
	out := PaymentStats{WithoutID: p.withoutID.Load()}
	p.listing.Lock()
	defer p.listing.Unlock()
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		out.Distinct += int64(len(s.counts))
		out.Forgotten += s.forgotten
		for hash, count := range s.counts {
			if count.answered > 1 {
				out.AnsweredMoreThanOnce++
			}
			if count.paid < 2 {
				continue
			}
			out.PaidMoreThanOnce++
			if id, ok := p.repeated[hash]; ok {
				out.Repeated = append(out.Repeated, RepeatedPayment{ID: id, Paid: count.paid, Answered: count.answered})
			}
		}
		s.mu.Unlock()
	}
	slices.SortFunc(out.Repeated, func(a, b RepeatedPayment) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
