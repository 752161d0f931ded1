package budget

import (
	"cmp"
	"math"
	"slices"
)

const (
	// estimatorKeys bounds how many pairs of stage and model are remembered: a snapshot stays below 8 kB.
	estimatorKeys = 32
	// ratioSamples is how many proven charges are remembered of each pair, ratioNeeded how many it takes before
	// they count.
	ratioSamples = 16
	ratioNeeded  = 4
	// ratioLeast and ratioMost bound what is believed, as parts of the formula.
	ratioLeast = 0.5
	ratioMost  = 4.0
	// averagedOver is the number of calls that averages reach back over.
	averagedOver = 64
	// permille is the resolution at which ratios are kept.
	permille = 1000
)

// Sample is what one call taught.
type Sample struct {
	// Formula is what the provider's published formula gave for the call: prompt, image and output limit.
	Formula int64
	// Charged is what the provider's headers prove it charged (Settlement.Charged), or zero.
	Charged int64
	// Input and Output are the tokens the provider reported, or zero.
	Input, Output int64
	// Seconds is how long the call took, or zero.
	Seconds float64
}

// Expectation is what a call of one stage and model usually costs. Averages are over the latest calls.
type Expectation struct {
	// Charge is what a call is charged at admission, in tokens.
	Charge float64 `json:"charge"`
	// Input and Output are what the provider reports, in tokens.
	Input  float64 `json:"input"`
	Output float64 `json:"output"`
	// Seconds is how long a call takes.
	Seconds float64 `json:"seconds"`
	// Samples is how many calls taught it.
	Samples int64 `json:"samples"`
}

// Estimate is what is known of one stage and model.
type Estimate struct {
	Stage string `json:"stage"`
	Model string `json:"model"`
	// Ratios are the latest proven charges, in thousandths of what the formula gave; the newest comes last.
	Ratios []int64 `json:"ratios,omitempty"`
	// Usual is what a call usually costs.
	Usual Expectation `json:"usual"`
	// Used orders the estimates by their latest call.
	Used int64 `json:"used"`
}

type estimatorKey struct{ stage, model string }

// Estimator learns what calls cost, by stage and model. It is not safe for concurrent use.
//
// What is reserved follows what the provider is proved to charge (Sample.Charged), which is known of calls that
// found a full bucket. A stranger on the same key can only make such a proof too high, and prompts differ, so the
// upper quartile of the latest proofs counts: too much reserved costs a little time, too little a rejection.
// Without proofs the formula stands. What the model really used teaches what to expect (spending, waiting times),
// not what to reserve: the provider charges its estimate, before it has counted.
type Estimator struct {
	estimates map[estimatorKey]*Estimate
	clock     int64
}

// NewEstimator returns an estimator that has learned nothing.
func NewEstimator() *Estimator { return &Estimator{estimates: make(map[estimatorKey]*Estimate)} }

// Charge is what to reserve for a call for which the published formula gives the number formula: between a half
// and four times of it, and more than it only where headers proved that more is charged.
func (e *Estimator) Charge(stage, model string, formula int64) int64 {
	known, ok := e.estimates[estimatorKey{stage, model}]
	if !ok || formula <= 0 {
		return max(0, formula)
	}
	return int64(math.Ceil(float64(formula) * known.ratio()))
}

// ratio is the upper quartile of the proven charges, as a part of the formula.
func (e *Estimate) ratio() float64 {
	if len(e.Ratios) < ratioNeeded {
		return 1
	}
	sorted := slices.Sorted(slices.Values(e.Ratios))
	return min(max(float64(sorted[len(sorted)*3/4])/permille, ratioLeast), ratioMost)
}

// Observe learns from a call that ended with an answer. Samples without a formula, and numbers that cannot be, are
// ignored.
func (e *Estimator) Observe(stage, model string, s Sample) {
	if s.Formula <= 0 || s.Charged < 0 || s.Input < 0 || s.Output < 0 || !(s.Seconds >= 0) || math.IsInf(s.Seconds, 1) {
		return
	}
	known := e.estimate(estimatorKey{stage, model})
	charge := float64(s.Formula) * known.ratio()
	if s.Charged > 0 {
		charge = float64(s.Charged)
		known.Ratios = append(known.Ratios, int64(math.Ceil(min(charge/float64(s.Formula), ratioMost)*permille)))
		if extra := len(known.Ratios) - ratioSamples; extra > 0 {
			known.Ratios = slices.Delete(known.Ratios, 0, extra)
		}
	}
	u := &known.Usual
	u.Samples++
	weight := 1 / float64(min(u.Samples, averagedOver))
	u.Charge += (charge - u.Charge) * weight
	u.Input += (float64(s.Input) - u.Input) * weight
	u.Output += (float64(s.Output) - u.Output) * weight
	u.Seconds += (s.Seconds - u.Seconds) * weight
}

// estimate returns what is known of a pair, and makes room for a new one by forgetting the one unused longest.
func (e *Estimator) estimate(key estimatorKey) *Estimate {
	e.clock++
	known, ok := e.estimates[key]
	if !ok {
		if len(e.estimates) >= estimatorKeys {
			e.forgetOldest()
		}
		known = &Estimate{Stage: key.stage, Model: key.model}
		e.estimates[key] = known
	}
	known.Used = e.clock
	return known
}

func (e *Estimator) forgetOldest() {
	var oldest *Estimate
	for _, one := range e.estimates {
		if oldest == nil || one.Used < oldest.Used {
			oldest = one
		}
	}
	delete(e.estimates, estimatorKey{oldest.Stage, oldest.Model})
}

// Expect is what a call of a stage and model usually costs; false where nothing is known of it.
func (e *Estimator) Expect(stage, model string) (Expectation, bool) {
	known, ok := e.estimates[estimatorKey{stage, model}]
	if !ok {
		return Expectation{}, false
	}
	return known.Usual, true
}

// Snapshot is everything learned, in a fixed order and of bounded size, fit for JSON.
func (e *Estimator) Snapshot() []Estimate {
	list := make([]Estimate, 0, len(e.estimates))
	for _, one := range e.estimates {
		c := *one
		c.Ratios = slices.Clone(one.Ratios)
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Estimate) int {
		return cmp.Or(cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Model, b.Model))
	})
	return list
}

// Restore replaces everything learned by a snapshot. What does not fit the bounds is dropped, the oldest first.
func (e *Estimator) Restore(list []Estimate) {
	*e = *NewEstimator()
	ordered := slices.Clone(list)
	slices.SortFunc(ordered, func(a, b Estimate) int { return cmp.Compare(a.Used, b.Used) })
	for _, one := range ordered {
		known := e.estimate(estimatorKey{one.Stage, one.Model})
		known.Usual = one.Usual
		first := max(0, len(one.Ratios)-ratioSamples)
		known.Ratios = slices.Clone(one.Ratios[first:])
	}
}
