// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// epoch is a time early in a month, a day and an hour.
var epoch = time.Date(2026, 3, 2, 5, 0, 0, 0, time.UTC)

// reference is the provider's bucket, written independently of the ledger's: it counts what is missing, in
// tokens × nanoseconds of the window.
type reference struct {
	limit   int64
	window  time.Duration
	missing int64
	last    time.Time
}

func newReference(limit int64, now time.Time) *reference {
	return &reference{limit: limit, window: time.Minute, last: now}
}

func (r *reference) refill(now time.Time) {
	gone := min(now.Sub(r.last), r.window)
	r.missing = max(0, r.missing-int64(gone)*r.limit)
	r.last = now
}

func (r *reference) remaining() int64 {
	per := int64(r.window)
	return r.limit - (r.missing+per-1)/per
}

// admit charges n tokens if they are left.
func (r *reference) admit(n int64, now time.Time) bool {
	r.refill(now)
	if n > r.remaining() {
		return false
	}
	r.missing += n * int64(r.window)
	return true
}

func (r *reference) resize(limit int64, now time.Time) {
	r.refill(now)
	r.limit = limit
	r.missing = min(r.missing, limit*int64(r.window))
}

// world is a backlogged client with a ledger, a provider and the delays in between, in virtual time.
type world struct {
	tb       testing.TB
	rng      *rand.Rand
	now      time.Time
	ledger   *Ledger
	server   *reference
	requests *reference

	// size draws the cost of the next call; charge, if set, the provider's charge for it.
	size   func() int64
	charge func(reserved int64) int64
	// delay draws the time from Reserve to admission, sending how much of it is before the call is sent, latency
	// the time from admission to the answer.
	delay, latency func() time.Duration
	headers        bool
	// skew is the error of the workers' clocks. With blind they do not report when they sent a call.
	skew       time.Duration
	blind      bool
	retryAfter bool
	// otherCalls draws the next call of another client and the time to the one after, or is nil.
	otherCalls func() (tokens int64, next time.Duration)
	// loss draws whether a call's worker dies, cancel whether it is never sent.
	loss, cancel func() bool
	// stop is when the client has nothing more to send.
	stop time.Time

	events   eventQueue
	order    int64
	calls    int64
	waiting  int64
	wakeAt   time.Time
	admitted []admission
	rejected []time.Time
	taken    []admission // by other clients
	// objects are the calls as the API server would show them, if they are kept.
	objects map[string]*Reservation
}

type admission struct {
	at     time.Time
	tokens int64
}

type event struct {
	at    time.Time
	order int64
	do    func()
}

type eventQueue []event

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].order < q[j].order
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *eventQueue) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}

// newWorld is a world with the measured latencies, dispatch within 100 ms, and no headers.
func newWorld(tb testing.TB, seed uint64, limits Limits, serverLimit int64) *world {
	tb.Helper()
	rng := rand.New(rand.NewPCG(seed, 7))
	return &world{
		tb: tb, rng: rng, now: epoch, ledger: New(limits, epoch),
		server: newReference(serverLimit, epoch), requests: newReference(limits.RequestsPerMinute, epoch),
		size:       func() int64 { return 1500 + rng.Int64N(2000) },
		delay:      between(rng, 5*time.Millisecond, 100*time.Millisecond),
		latency:    between(rng, 4500*time.Millisecond, 8900*time.Millisecond),
		retryAfter: true,
	}
}

func between(rng *rand.Rand, from, to time.Duration) func() time.Duration {
	return func() time.Duration { return from + time.Duration(rng.Int64N(int64(to-from)+1)) }
}

func (w *world) after(d time.Duration, do func()) {
	w.order++
	heap.Push(&w.events, event{at: w.now.Add(d), order: w.order, do: do})
}

// run lets time pass.
func (w *world) run(d time.Duration) {
	w.tb.Helper()
	end := w.now.Add(d)
	if w.otherCalls != nil && len(w.taken) == 0 {
		w.after(0, w.intrude)
	}
	w.pump()
	for len(w.events) > 0 && !w.events[0].at.After(end) {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.do()
		w.pump()
	}
	w.now = end
}

// intrude makes a call of another client.
func (w *world) intrude() {
	if w.otherCalls == nil {
		return
	}
	tokens, next := w.otherCalls()
	if w.server.admit(tokens, w.now) {
		w.taken = append(w.taken, admission{w.now, tokens})
	}
	w.after(next, w.intrude)
}

// pump sends as much as the ledger allows, then sleeps until the verdict's RetryAt.
func (w *world) pump() {
	if !w.stop.IsZero() && !w.now.Before(w.stop) {
		return
	}
	for {
		if w.waiting == 0 {
			w.waiting = w.size()
		}
		id := fmt.Sprint("call-", w.calls)
		v := w.ledger.Reserve(id, w.waiting, w.now)
		if !v.OK {
			if v.Dimension == TooLarge {
				w.tb.Fatalf("too large: %+v", v)
			}
			w.wake(v)
			return
		}
		w.dispatch(id, w.waiting)
		w.calls++
		w.waiting = 0
	}
}

// wake schedules pump at a verdict's RetryAt.
func (w *world) wake(v Verdict) {
	if v.RetryAt.IsZero() {
		return
	}
	if !v.RetryAt.After(w.now) {
		w.tb.Fatalf("denied until now or earlier: %+v at %v", v, w.now)
	}
	if w.wakeAt.After(w.now) && !v.RetryAt.Before(w.wakeAt) {
		return
	}
	w.wakeAt = v.RetryAt
	w.after(v.RetryAt.Sub(w.now), func() {})
}

func (w *world) dispatch(id string, tokens int64) {
	delay := w.delay()
	if w.cancel != nil && w.cancel() {
		w.after(delay, func() { w.ledger.Cancel(id, w.now) })
		return
	}
	sent := w.now.Add(delay * 9 / 10)
	if w.objects != nil {
		w.objects[id] = &Reservation{ID: id, Tokens: tokens, At: w.now}
	}
	lost := w.loss != nil && w.loss()
	if lost {
		w.after(delay/2, func() { w.ledger.Lost(id, w.now) })
	}
	charge := tokens
	if w.charge != nil {
		charge = w.charge(tokens)
	}
	w.after(delay, func() {
		ok := w.requests.admit(1, w.now) && w.server.admit(charge, w.now)
		r := Result{}
		if w.headers {
			r.Observation = w.observation(sent)
		}
		latency := w.latency()
		if !ok {
			w.rejected = append(w.rejected, w.now)
			latency = 5 * time.Millisecond
			r.Class = v1alpha1.FailureRateLimited
			if w.retryAfter {
				short := charge - w.server.remaining()
				wait := time.Duration(float64(short) / float64(w.server.limit) * float64(time.Minute))
				r.RetryAfter = wait.Truncate(time.Second) + time.Second
			}
		} else {
			w.admitted = append(w.admitted, admission{w.now, charge})
			r.Usage = v1alpha1.TokenUsage{Input: tokens / 2, Output: tokens / 4}
		}
		if !lost {
			w.after(latency, func() {
				w.ledger.Settle(id, r, w.now)
				if o, ok := w.objects[id]; ok {
					o.Done = true
				}
			})
		}
	})
}

func (w *world) observation(sent time.Time) *v1alpha1.RateLimitObservation {
	level := func(r *reference) (limit, remaining, reset int64) {
		used := r.limit - r.remaining()
		return r.limit, r.remaining(), used * r.window.Milliseconds() / r.limit
	}
	var o v1alpha1.RateLimitObservation
	if !w.blind {
		o.SentAt = metav1.NewMicroTime(sent.Add(w.skew))
	}
	o.LimitTokens, o.RemainingTokens, _ = level(w.server)
	o.LimitRequests, o.RemainingRequests, o.ResetRequestsMilliseconds = level(w.requests)
	return &o
}

// sum is what the provider admitted from this client in a span.
func (w *world) sum(from, to time.Duration) int64 {
	var total int64
	for _, a := range w.admitted {
		if since := a.at.Sub(epoch); since >= from && since < to {
			total += a.tokens
		}
	}
	return total
}

// takenAfterFirstMinute is what other clients used.
func (w *world) takenAfterFirstMinute() int64 {
	var total int64
	for _, a := range w.taken {
		if a.at.Sub(epoch) >= time.Minute {
			total += a.tokens
		}
	}
	return total
}

// rejectedIn counts rejections in a span.
func (w *world) rejectedIn(from, to time.Duration) int {
	n := 0
	for _, at := range w.rejected {
		if since := at.Sub(epoch); since >= from && since < to {
			n++
		}
	}
	return n
}

// share is the admitted tokens of a span as a part of what limit × percent refills in it.
func (w *world) share(limit int64, percent int32, from, to time.Duration) float64 {
	return float64(w.sum(from, to)) / (float64(limit) * float64(percent) / 100 * (to - from).Minutes())
}
