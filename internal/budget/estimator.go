// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"cmp"
	"math"
	"slices"
	"time"
)

const (
	// estimatorKeys bounds the number of pairs of stage and model.
	estimatorKeys = 32
	// ratioSamples is how many proven charges are kept for each pair, ratioNeeded the number from which on they count.
	ratioSamples = 16
	ratioNeeded  = 4
	// ratioLeast and ratioMost clamp the ratio, in thousandths of the formula.
	ratioLeast = 500
	ratioMost  = 4000
	// averagedOver is the number of calls that averages cover.
	averagedOver = 64
	// permille is the resolution at which ratios are kept.
	permille = 1000
)

// Sample is what was observed of one call.
type Sample struct {
	// Formula is the result of the provider's published formula: prompt, image and output limit.
	Formula int64
	// Charged is the charge that the provider's headers prove (Settlement.Charged), or zero.
	Charged int64
	// Input and Output are the tokens the provider reported, or zero.
	Input, Output int64
	// Seconds is how long the call took, or zero.
	Seconds float64
	// At is when the call ended.
	At time.Time
}

// Expectation is what a call of one stage and model usually costs. Averages are over the latest calls.
type Expectation struct {
	// Charge is what a call is charged at admission, in tokens.
	Charge float64
	// Input and Output are what the provider reports, in tokens.
	Input, Output float64
	// Seconds is how long a call takes.
	Seconds float64
	// Samples is the number of calls observed.
	Samples int64
}

// Estimate is what was learned about one stage and model.
type Estimate struct {
	Stage, Model string
	// Ratio is what is reserved for a call, in thousandths of the formula.
	Ratio int64
	// Proofs is the number of proven charges behind Ratio; with too few, Ratio is 1000.
	Proofs int
	// Usual is what a call usually costs.
	Usual Expectation
	// At is when the latest observed call ended.
	At time.Time
}

type estimatorKey struct{ stage, model string }

// learned is what was learned about one stage and model.
type learned struct {
	// ratios are the latest proven charges, in thousandths of the formula; the newest comes last.
	ratios []int64
	usual  Expectation
	at     time.Time
	// used is the value of Estimator.clock at the latest call.
	used int64
}

// Estimator learns what calls cost, by stage and model. It is not safe for concurrent use.
//
// Reservations follow the proven charges (Sample.Charged), which are known for calls that found a full bucket.
// Another client on the same key can only make a proof too high, and prompts differ, so the upper quartile of the
// latest proofs counts: reserving too much costs a little time, too little a rejection. Without proofs the formula
// counts. Reported usage determines expectations (spending, waiting times), not reservations: the provider charges
// its own estimate at admission, before it has counted.
type Estimator struct {
	known map[estimatorKey]*learned
	// clock counts the observations.
	clock int64
}

// NewEstimator returns an estimator that has learned nothing.
func NewEstimator() *Estimator { return &Estimator{known: make(map[estimatorKey]*learned)} }

// Charge is what to reserve for a call, given the result of the published formula: between half of it and four times
// of it, and more than the formula only if headers proved a higher charge.
func (e *Estimator) Charge(stage, model string, formula int64) int64 {
	k, ok := e.known[estimatorKey{stage, model}]
	if !ok || formula <= 0 {
		return max(0, formula)
	}
	return int64(math.Ceil(float64(formula) * float64(k.ratio()) / permille))
}

// ratio is the upper quartile of the proven charges, in thousandths of the formula.
func (k *learned) ratio() int64 {
	if len(k.ratios) < ratioNeeded {
		return permille
	}
	sorted := slices.Sorted(slices.Values(k.ratios))
	return min(max(sorted[len(sorted)*3/4], ratioLeast), ratioMost)
}

// Observe learns from a call that ended with an answer. It ignores samples without a formula and with impossible
// values.
func (e *Estimator) Observe(stage, model string, s Sample) {
	if s.Formula <= 0 || s.Charged < 0 || s.Input < 0 || s.Output < 0 || !(s.Seconds >= 0) || math.IsInf(s.Seconds, 1) {
		return
	}
	k := e.learned(estimatorKey{stage, model})
	if s.At.After(k.at) {
		k.at = s.At
	}
	charge := float64(s.Formula) * float64(k.ratio()) / permille
	if s.Charged > 0 {
		charge = float64(s.Charged)
		k.ratios = append(k.ratios, int64(math.Ceil(min(charge*permille/float64(s.Formula), ratioMost))))
		if extra := len(k.ratios) - ratioSamples; extra > 0 {
			k.ratios = slices.Delete(k.ratios, 0, extra)
		}
	}
	u := &k.usual
	u.Samples++
	weight := 1 / float64(min(u.Samples, averagedOver))
	u.Charge += (charge - u.Charge) * weight
	u.Input += (float64(s.Input) - u.Input) * weight
	u.Output += (float64(s.Output) - u.Output) * weight
	u.Seconds += (s.Seconds - u.Seconds) * weight
}

// learned returns the entry of a pair. A new one replaces the least recently used one if there are too many.
func (e *Estimator) learned(key estimatorKey) *learned {
	e.clock++
	k, ok := e.known[key]
	if !ok {
		if len(e.known) >= estimatorKeys {
			e.evictOldest()
		}
		k = &learned{}
		e.known[key] = k
	}
	k.used = e.clock
	return k
}

func (e *Estimator) evictOldest() {
	var oldest estimatorKey
	least := int64(math.MaxInt64)
	for key, k := range e.known {
		if k.used < least {
			oldest, least = key, k.used
		}
	}
	delete(e.known, oldest)
}

// Expect is what a call of a stage and model usually costs; false if none was observed.
func (e *Estimator) Expect(stage, model string) (Expectation, bool) {
	k, ok := e.known[estimatorKey{stage, model}]
	if !ok {
		return Expectation{}, false
	}
	return k.usual, true
}

// Snapshot returns what was learned, the latest first.
func (e *Estimator) Snapshot() []Estimate {
	list := make([]Estimate, 0, len(e.known))
	for key, k := range e.known {
		list = append(list, Estimate{
			Stage: key.stage, Model: key.model, Ratio: k.ratio(), Proofs: len(k.ratios), Usual: k.usual, At: k.at,
		})
	}
	slices.SortFunc(list, func(a, b Estimate) int {
		return cmp.Compare(e.known[estimatorKey{b.Stage, b.Model}].used, e.known[estimatorKey{a.Stage, a.Model}].used)
	})
	return list
}

// Restore replaces everything learned by snapshots, in any order. The latest of several estimates of one stage and
// model counts; the oldest ones beyond the bound are dropped. Out-of-range values are clamped. Of the proofs only their
// number and ratio are restored: that ratio is in force until as many new proofs have replaced them.
func (e *Estimator) Restore(list []Estimate) {
	*e = *NewEstimator()
	ordered := slices.Clone(list)
	slices.SortStableFunc(ordered, func(a, b Estimate) int { return a.At.Compare(b.At) })
	for _, one := range ordered {
		k := e.learned(estimatorKey{one.Stage, one.Model})
		k.at = one.At
		k.ratios = slices.Repeat([]int64{min(max(one.Ratio, ratioLeast), ratioMost)}, min(max(one.Proofs, 0), ratioSamples))
		k.usual = Expectation{
			Charge: clampTo(one.Usual.Charge, maxLimit), Input: clampTo(one.Usual.Input, maxLimit),
			Output: clampTo(one.Usual.Output, maxLimit), Seconds: clampTo(one.Usual.Seconds, day.Seconds()),
			Samples: max(one.Usual.Samples, 0),
		}
	}
}

// clampTo clamps a number to [0, most]; NaN becomes zero.
func clampTo(n, most float64) float64 {
	if !(n > 0) {
		return 0
	}
	return min(n, most)
}
