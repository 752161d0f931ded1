// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"math"

	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/budget"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/pipeline/stages"
)

// defaultCallSeconds is the assumed duration of a call before one was observed.
const defaultCallSeconds = 6

// PoolDemand is the work of a pool, and what its budgets supply for it.
type PoolDemand struct {
	// Queued is the number of scans that are ready for a stage of the pool: not backing off and not suspended.
	Queued int
	// QueuedShare is the pool's share of Queued: pools that run the same stage divide its scans.
	QueuedShare int
	// InFlight is the number of scans at the pool's workers. Draining is how many of them are at draining workers,
	// which finish what they have: these scans need no capacity.
	InFlight, Draining int
	// Unmetered is true for a pool whose stages need no tokens, so that no budget bounds it.
	Unmetered bool
	// Supplies has one element for each of the pool's budgets that exists.
	Supplies []BudgetSupply
}

// calls is the number of scans that need a slot at a worker.
func (d *PoolDemand) calls() int { return d.QueuedShare + d.InFlight - d.Draining }

// BudgetSupply is what one budget admits for a pool.
type BudgetSupply struct {
	// TokensPerMinute and RequestsPerMinute are the rates the budget admits. Zero requests means no request limit.
	TokensPerMinute, RequestsPerMinute float64
	// Available is the bucket's present level, in tokens: calls that can start at once.
	Available float64
	// QuotaLeft is the rest of spec.quota, in tokens; negative for a budget without a quota.
	QuotaLeft float64
	// Hold is the reason why the budget admits nothing, if it is held.
	Hold SupplyHold
	// Here is what one scan costs this budget in the pool, Everywhere what it costs in all pools that share it.
	Here, Everywhere CallCost
}

// SupplyHold is the reason why a budget admits nothing.
type SupplyHold int

// The reasons of a held supply.
const (
	// NotHeld: the budget admits calls.
	NotHeld SupplyHold = iota
	// HeldByQuota: the provider's quota is exhausted. Probe calls test it, and a probe needs a worker.
	HeldByQuota
	// HeldByKey: there is no key, or the provider rejects it.
	HeldByKey
	// KeyProbed: the provider rejected the key, and a probe call will test it again.
	KeyProbed
)

// CallCost is what calls cost.
type CallCost struct {
	// Tokens is the charge at admission, Calls the number of calls, Seconds the sum of their durations.
	Tokens, Calls, Seconds float64
}

// add adds a part of another cost.
func (c *CallCost) add(other CallCost, part float64) {
	c.Tokens += other.Tokens * part
	c.Calls += other.Calls * part
	c.Seconds += other.Seconds * part
}

// PoolDemand returns the demand of a pool; ok is false for an unknown pool.
func (s *Scheduler) PoolDemand(name types.NamespacedName) (demand PoolDemand, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pools[name]
	if p == nil {
		return PoolDemand{}, false
	}
	demand = s.workOf(p)
	demand.Unmetered = true
	for _, stage := range p.spec.Stages {
		demand.Unmetered = demand.Unmetered && !pipeline.NeedsTokens(stage)
	}
	for _, ref := range p.spec.Budgets {
		if tb := s.budgets[types.NamespacedName{Namespace: name.Namespace, Name: ref.Name}]; tb != nil && !demand.Unmetered {
			demand.Supplies = append(demand.Supplies, s.supply(p, tb))
		}
	}
	return demand, true
}

// PodLoads returns the number of scans at the workers of a pool, by pod name.
func (s *Scheduler) PodLoads(name types.NamespacedName) map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	loads := map[string]int{}
	if p := s.pools[name]; p != nil {
		for w := range p.workers.all() {
			loads[w.Pod] += w.inFlight
		}
	}
	return loads
}

// workOf counts the scans that are queued for a pool and those that are at its workers. Pools that run the same stage
// share its scans in proportion to the most they can hold.
func (s *Scheduler) workOf(p *pool) (d PoolDemand) {
	for w := range p.workers.all() {
		d.InFlight += w.inFlight
		if w.Draining {
			d.Draining += w.inFlight
		}
	}
	most := func(p *pool) float64 {
		return float64(max(p.spec.MaxReplicas, 1)) * float64(max(p.spec.ConcurrencyPerWorker, 1))
	}
	share := 0.0
	for _, stage := range p.spec.Stages {
		ready := s.queue.Ready(p.name.Namespace, string(stage))
		if ready == 0 {
			continue
		}
		d.Queued += ready
		sum := 0.0
		for _, other := range s.byStage[stageKey{p.name.Namespace, stage}] {
			sum += most(other)
		}
		share += float64(ready) * most(p) / sum
	}
	d.QueuedShare = int(math.Ceil(share))
	return d
}

// supply is what a budget admits for a pool.
func (s *Scheduler) supply(p *pool, tb *budgetState) BudgetSupply {
	stats := tb.ledger.Stats(s.clk.Now())
	tokens := tokenCapacity(&stats, 0)
	supply := BudgetSupply{
		TokensPerMinute:   tokens.rate * 60,
		RequestsPerMinute: stats.Requests.PerSecond(stats.RatePercent) * 60,
		Available:         tokens.level,
		QuotaLeft:         -1,
		Hold:              supplyHold(&stats, tb.key),
	}
	if q := tb.spec.Quota; q != nil {
		supply.QuotaLeft = float64(max(q.Tokens-stats.QuotaUsed-stats.ReservedTokens, 0))
	}
	for _, stage := range pipeline.Stages {
		sharing := s.sharing(p.name.Namespace, stage, tb)
		if len(sharing) == 0 || !pipeline.NeedsTokens(stage) {
			continue
		}
		for _, other := range sharing {
			cost := s.usualCost(other, stage, tb)
			supply.Everywhere.add(cost, 1/float64(len(sharing)))
			if other == p {
				supply.Here.add(cost, 1/float64(len(sharing)))
			}
		}
	}
	return supply
}

func supplyHold(stats *budget.Stats, key KeyState) SupplyHold {
	switch {
	case key.Ready && stats.Hold == budget.HoldUnauthorized && !stats.ResumeAt.IsZero():
		return KeyProbed
	case !key.Ready || stats.Hold == budget.HoldUnauthorized:
		return HeldByKey
	case stats.Hold == budget.HoldQuotaExhausted:
		return HeldByQuota
	case stats.Hold == budget.HoldUnreachable, stats.Hold == budget.HoldRetryAfter:
		// An outage ends by itself, and what has queued up needs its workers then.
		return NotHeld
	default:
		return NotHeld
	}
}

// sharing returns the pools that run a stage on a budget.
func (s *Scheduler) sharing(namespace string, stage v1alpha1.StageName, tb *budgetState) (pools []*pool) {
	for _, p := range s.byStage[stageKey{namespace, stage}] {
		for _, ref := range p.spec.Budgets {
			if ref.Name == tb.name.Name {
				pools = append(pools, p)
			}
		}
	}
	return pools
}

// usualCost is what a stage of a scan without spec.model costs a budget.
func (s *Scheduler) usualCost(p *pool, stage v1alpha1.StageName, tb *budgetState) CallCost {
	model := s.model(p, &v1alpha1.ScanRequestSpec{})
	if !tb.serves(model) && len(tb.spec.Models) > 0 {
		model = tb.spec.Models[0]
	}
	return s.costOf(p, stage, model)
}

// costOf is what a call of a stage with a model costs in a pool: the learned cost, otherwise the provider's formula
// for a short call. A stage that needs no tokens costs only time.
func (s *Scheduler) costOf(p *pool, stage v1alpha1.StageName, model string) CallCost {
	if !pipeline.NeedsTokens(stage) {
		return CallCost{Seconds: defaultCallSeconds}
	}
	if e, ok := s.estimator.Expect(string(stage), model); ok && e.Charge > 0 && e.Seconds > 0 {
		return CallCost{Tokens: e.Charge, Calls: 1, Seconds: e.Seconds}
	}
	d := &p.spec.StageDefaults
	scan := usualScan(s.opts.Pack)
	scan.Assignment = v1alpha1.Assignment{Stage: stage, Model: model, MaxOutputTokens: d.MaxOutputTokens, ImageDetail: d.ImageDetail}
	formula := max(stages.EstimateStage(s.opts.Pack, scan), int64(d.MaxOutputTokens))
	return CallCost{
		Tokens: float64(s.estimator.Charge(string(stage), model, formula)), Calls: 1, Seconds: defaultCallSeconds,
	}
}

// usualScan is a scan without user input, with the result that it has when its answer is due: the rule in the middle
// of the knowledge pack.
func usualScan(pack *knowledge.Pack) stages.Scan {
	scan := stages.Scan{Spec: v1alpha1.ScanRequestSpec{ImageURL: "https://images.example.org/photo.jpg"}}
	if n := len(pack.Rules); n > 0 {
		rule := &pack.Rules[n/2]
		scan.Result.Classification = &v1alpha1.Classification{MajorCategory: rule.Title}
		scan.Result.DisposalRules = &v1alpha1.DisposalRules{ID: rule.ID, Title: rule.Title, Steps: rule.Steps, Exclusions: rule.Exclusions}
	}
	return scan
}

// signalScaleUp reports the pools whose calls need more workers than at the last cycle. A lower number is only
// recorded: scaling down is driven by time, not by events.
func (s *Scheduler) signalScaleUp() {
	for _, p := range s.pools {
		perWorker := max(int(p.spec.ConcurrencyPerWorker), 1)
		work := s.workOf(p)
		workers := (work.calls() + perWorker - 1) / perWorker
		if workers > p.signaledWorkers {
			s.opts.ScaleUp(p.name)
		}
		p.signaledWorkers = workers
	}
}
