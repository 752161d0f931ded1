// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"sync"
	"sync/atomic"
)

// Stats are the counters since the start or the last reset.
type Stats struct {
	// Requests counts the requests to the provider endpoints, ByEndpoint
	// splits them.
	Requests   int64            `json:"requests"`
	ByEndpoint map[string]int64 `json:"byEndpoint"`
	// Admitted counts the calls that were charged, ByStage and ByModel split
	// them.
	Admitted int64            `json:"admitted"`
	ByStage  map[string]int64 `json:"byStage"`
	ByModel  map[string]int64 `json:"byModel"`
	// Completed counts the calls that were answered.
	Completed int64 `json:"completed"`
	// Disconnected counts the admitted calls whose client left before the end.
	Disconnected int64 `json:"disconnected"`
	// TokensCharged is what admission took from the buckets.
	TokensCharged int64 `json:"tokensCharged"`
	// InputTokens, CachedInputTokens and OutputTokens are what completed calls
	// really used.
	InputTokens       int64 `json:"inputTokens"`
	CachedInputTokens int64 `json:"cachedInputTokens"`
	OutputTokens      int64 `json:"outputTokens"`
	// RateLimited counts the 429 replies by kind: tokens, requests,
	// requests_per_day, project_tokens, too_large, or the code of the others.
	RateLimited map[string]int64 `json:"rateLimited"`
	// Errors counts all other failures by status and code.
	Errors map[string]int64 `json:"errors"`
	// Faults counts the fault rules that fired, by kind.
	Faults map[string]int64 `json:"faults"`
	// InFlight is the number of admitted calls being worked on now,
	// MaxInFlight its highest value.
	InFlight    int64          `json:"inFlight"`
	MaxInFlight int64          `json:"maxInFlight"`
	Payments    PaymentStats   `json:"payments"`
	Accounts    []AccountStats `json:"accounts"`
}

// AccountStats is the state of one account's buckets.
type AccountStats struct {
	Organization      string `json:"organization"`
	Group             string `json:"group"`
	TokensCharged     int64  `json:"tokensCharged"`
	TokenLimit        int64  `json:"tokenLimit"`
	TokensRemaining   int64  `json:"tokensRemaining"`
	RequestLimit      int64  `json:"requestLimit"`
	RequestsRemaining int64  `json:"requestsRemaining"`
}

// RateLimitedTotal is the number of 429 replies of any kind.
func (s *Stats) RateLimitedTotal() int64 {
	total := int64(0)
	for _, n := range s.RateLimited {
		total += n
	}
	return total
}

// counters are the counters behind Stats. All of them are atomic: requests
// meet here and must not wait for each other.
type counters struct {
	endpoints, stages, models       tally
	rateLimited, errors, faults     tally
	admitted, completed             atomic.Int64
	disconnected, charged           atomic.Int64
	inputTokens, cached, outputUsed atomic.Int64
	maxInFlight                     atomic.Int64
	payments                        *payments
}

func newCounters() *counters { return &counters{payments: newPayments()} }

// request counts a request as it arrives.
func (c *counters) request(at endpoint) { c.endpoints.add(string(at)) }

// admit counts a call that was charged.
func (c *counters) admit(call *call, charge int64, clientID string) {
	c.admitted.Add(1)
	c.charged.Add(charge)
	c.stages.add(string(call.stage()))
	c.models.add(call.modelName)
	c.payments.record(clientID, paid)
}

// complete counts an answer.
func (c *counters) complete(a *answer, clientID string) {
	c.completed.Add(1)
	c.inputTokens.Add(a.usage.input)
	c.cached.Add(a.usage.cached)
	c.outputUsed.Add(a.usage.output)
	c.payments.record(clientID, answered)
}

// failed counts an error reply.
func (c *counters) failed(e *apiError) {
	if e.status == 429 {
		c.rateLimited.add(e.statName())
		return
	}
	c.errors.add(e.statName())
}

// stats reads the counters.
func (c *counters) stats() Stats {
	s := Stats{
		ByEndpoint: c.endpoints.read(), ByStage: c.stages.read(), ByModel: c.models.read(),
		Admitted: c.admitted.Load(), Completed: c.completed.Load(), Disconnected: c.disconnected.Load(),
		TokensCharged: c.charged.Load(), InputTokens: c.inputTokens.Load(), CachedInputTokens: c.cached.Load(),
		OutputTokens: c.outputUsed.Load(), RateLimited: c.rateLimited.read(), Errors: c.errors.read(),
		Faults: c.faults.read(), MaxInFlight: c.maxInFlight.Load(), Payments: c.payments.stats(),
	}
	for _, n := range s.ByEndpoint {
		s.Requests += n
	}
	return s
}

// tally counts by name. Names come from small closed sets (codes, models,
// endpoints), so it stays small; counting a known name takes no lock.
type tally struct {
	counts sync.Map // string → *atomic.Int64
}

func (t *tally) add(name string) {
	v, ok := t.counts.Load(name)
	if !ok {
		v, _ = t.counts.LoadOrStore(name, new(atomic.Int64))
	}
	v.(*atomic.Int64).Add(1) //nolint:forcetypeassert // the map holds nothing else
}

func (t *tally) read() map[string]int64 {
	counts := map[string]int64{}
	t.counts.Range(func(name, v any) bool {
		counts[name.(string)] = v.(*atomic.Int64).Load() //nolint:forcetypeassert // the map holds nothing else
		return true
	})
	return counts
}
