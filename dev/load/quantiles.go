// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"fmt"
	"slices"
	"time"
)

// Quantiles formats P50, P95, P99, the maximum and the number of durations.
func Quantiles(d []time.Duration) string {
	if len(d) == 0 {
		return "none"
	}
	d = slices.Sorted(slices.Values(d))
	at := func(q float64) time.Duration { return d[int(q*float64(len(d)-1))].Round(100 * time.Microsecond) }
	return fmt.Sprintf("P50 %s  P95 %s  P99 %s  max %s  (%d)", at(0.5), at(0.95), at(0.99), at(1), len(d))
}

// Prediction is an estimated wait and the time at which it was made.
type Prediction struct {
	At   time.Time
	Wait time.Duration
}

// Predictions compares estimated waits with those that followed. The zero value is empty.
type Predictions struct {
	errors       []time.Duration
	bias, waited time.Duration
}

// Add adds an estimate, and the time at which the scan's first stage began.
func (p *Predictions) Add(estimate Prediction, began time.Time) {
	actual := max(began.Sub(estimate.At), 0)
	p.errors = append(p.errors, (estimate.Wait - actual).Abs())
	p.bias += estimate.Wait - actual
	p.waited += actual
}

// String formats the mean wait, the bias and the quantiles of the absolute error.
func (p *Predictions) String() string {
	n := time.Duration(len(p.errors))
	if n == 0 {
		return "none"
	}
	return fmt.Sprintf("mean wait %s, bias %s, error %s", (p.waited / n).Round(time.Millisecond),
		(p.bias / n).Round(time.Millisecond), Quantiles(p.errors))
}
