package scheduler

import (
	"math"

	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/autoscale"
	"github.com/eco2-team/scan-operator/internal/budget"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/pipeline/stages"
)

// usualSeconds is how long a call is taken to last before any was seen.
const usualSeconds = 6

// PoolDemand returns what the number of a pool's workers is decided from; ok is false for a pool that is not known.
func (s *Scheduler) PoolDemand(name types.NamespacedName) (load autoscale.Load, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pools[name]
	if p == nil {
		return autoscale.Load{}, false
	}
	load.Queued, load.InFlight = s.queuedFor(p), p.workers.inFlight()
	load.Unmetered = true
	for _, stage := range p.spec.Stages {
		load.Unmetered = load.Unmetered && !pipeline.NeedsTokens(stage)
	}
	for _, ref := range p.spec.Budgets {
		if tb := s.budgets[types.NamespacedName{Namespace: name.Namespace, Name: ref.Name}]; tb != nil && !load.Unmetered {
			load.Feeds = append(load.Feeds, s.feed(p, tb))
		}
	}
	return load, true
}

// PodLoads returns how many scans the workers of a pool have, by the names of their pods.
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

// inFlight counts the scans of the workers that take more. What draining workers finish needs no place.
func (f *workerSet) inFlight() (n int) {
	for w := range f.all() {
		if !w.Draining {
			n += w.inFlight
		}
	}
	return n
}

// queuedFor is the pool's part of the scans that are ready for its stages. Pools that run the same stage share them in
// proportion to what they can hold at most.
func (s *Scheduler) queuedFor(p *pool) int {
	most := func(p *pool) float64 {
		return float64(max(p.spec.MaxReplicas, 1)) * float64(max(p.spec.ConcurrencyPerWorker, 1))
	}
	queued := 0.0
	for _, stage := range p.spec.Stages {
		ready := s.queue.Ready(p.name.Namespace, string(stage))
		if ready == 0 {
			continue
		}
		sum := 0.0
		for _, other := range s.byStage[stageKey{p.name.Namespace, stage}] {
			sum += most(other)
		}
		queued += float64(ready) * most(p) / sum
	}
	return int(math.Ceil(queued))
}

// feed is what a budget can pay for in a pool.
func (s *Scheduler) feed(p *pool, tb *budgetState) autoscale.Feed {
	stats := tb.ledger.Stats(s.clk.Now())
	tokens := tokensOf(&stats, 0)
	f := autoscale.Feed{
		TokensPerMinute:   tokens.rate * 60,
		RequestsPerMinute: stats.Requests.PerSecond(stats.RatePercent) * 60,
		Available:         tokens.level,
		QuotaLeft:         -1,
	}
	if q := tb.spec.Quota; q != nil {
		f.QuotaLeft = float64(max(q.Tokens-stats.QuotaUsed-stats.ReservedTokens, 0))
	}
	switch {
	case tb.key.Ready && stats.Hold == budget.HoldUnauthorized && !stats.ResumeAt.IsZero():
		f.Hold = autoscale.KeyProbed
	case !tb.key.Ready || stats.Hold == budget.HoldUnauthorized:
		f.Hold = autoscale.HeldByKey
	case stats.Hold == budget.HoldQuotaExhausted:
		f.Hold = autoscale.HeldByQuota
	}
	for _, stage := range pipeline.Stages {
		sharing := s.sharing(p.name.Namespace, stage, tb)
		if len(sharing) == 0 || !pipeline.NeedsTokens(stage) {
			continue
		}
		for _, other := range sharing {
			cost := s.usualCost(other, stage, tb)
			add(&f.Everywhere, cost, 1/float64(len(sharing)))
			if other == p {
				add(&f.Here, cost, 1/float64(len(sharing)))
			}
		}
	}
	return f
}

// sharing are the pools that run a stage and have a budget pay for it.
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

// usualCost is what a stage of one scan that names no model costs a budget.
func (s *Scheduler) usualCost(p *pool, stage v1alpha1.StageName, tb *budgetState) autoscale.Cost {
	model := s.model(p, &v1alpha1.ScanRequestSpec{})
	if !tb.serves(model) && len(tb.spec.Models) > 0 {
		model = tb.spec.Models[0]
	}
	return s.costOf(p, stage, model)
}

// costOf is what a call of a stage with a model costs in a pool: as learned, else by the provider's formula for a short
// call. A stage that needs no tokens costs the time alone.
func (s *Scheduler) costOf(p *pool, stage v1alpha1.StageName, model string) autoscale.Cost {
	if !pipeline.NeedsTokens(stage) {
		return autoscale.Cost{Seconds: usualSeconds}
	}
	if e, ok := s.estimator.Expect(string(stage), model); ok && e.Charge > 0 && e.Seconds > 0 {
		return autoscale.Cost{Tokens: e.Charge, Calls: 1, Seconds: e.Seconds}
	}
	d := &p.spec.StageDefaults
	spec, result := usualScan(s.opts.Pack)
	formula := stages.EstimateStage(s.opts.Pack, spec, result, stage, model, d.MaxOutputTokens, d.ImageDetail)
	return autoscale.Cost{
		Tokens: float64(s.estimator.Charge(string(stage), model, max(formula, int64(d.MaxOutputTokens)))), Calls: 1, Seconds: usualSeconds,
	}
}

// usualScan is a scan without a text of its user, and what is found out about it by the time its answer is due: the
// rule in the middle of the knowledge pack.
func usualScan(pack *knowledge.Pack) (spec v1alpha1.ScanRequestSpec, result v1alpha1.ScanResult) {
	spec.ImageURL = "https://images.example.org/photo.jpg"
	if n := len(pack.Rules); n > 0 {
		rule := &pack.Rules[n/2]
		result.Classification = &v1alpha1.Classification{MajorCategory: rule.Title}
		result.DisposalRules = &v1alpha1.DisposalRules{ID: rule.ID, Title: rule.Title, Steps: rule.Steps, Exclusions: rule.Exclusions}
	}
	return spec, result
}

func add(sum *autoscale.Cost, c autoscale.Cost, part float64) {
	sum.Tokens += c.Tokens * part
	sum.Calls += c.Calls * part
	sum.Seconds += c.Seconds * part
}

// signalScaleUp says which pools' calls want more workers than they were last said to. Fewer are only noted: the number
// of workers falls by time, not by events.
func (s *Scheduler) signalScaleUp() {
	for _, p := range s.pools {
		perWorker := max(int(p.spec.ConcurrencyPerWorker), 1)
		wanted := (s.queuedFor(p) + p.workers.inFlight() + perWorker - 1) / perWorker
		if wanted > p.signaledWorkers {
			s.opts.ScaleUp(p.name)
		}
		p.signaledWorkers = wanted
	}
}
