package budget

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

// Expectation is what a call of one stage and model usually costs.
type Expectation struct {
	// Charge is what a call is charged at admission, in tokens.
	Charge float64
	// Input and Output are what the provider reports, in tokens.
	Input, Output float64
	// Seconds is how long a call takes.
	Seconds float64
	// Samples is how many calls taught it.
	Samples int64
}

// Estimator learns what calls cost, by stage and model. It is not safe for concurrent use.
type Estimator struct{}

// NewEstimator returns an estimator that has learned nothing.
func NewEstimator() *Estimator { return &Estimator{} }

// Charge is what to reserve for a call for which the published formula gives the number formula.
func (e *Estimator) Charge(_, _ string, formula int64) int64 { return formula }

// Observe learns from a call that ended.
func (e *Estimator) Observe(_, _ string, _ Sample) {}

// Expect is what a call of a stage and model usually costs; false where nothing is known of it.
func (e *Estimator) Expect(_, _ string) (Expectation, bool) { return Expectation{}, false }
