// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"testing"
	"time"
)

func TestQuantiles(t *testing.T) {
	var hundred []time.Duration
	for i := range 101 {
		hundred = append(hundred, time.Duration(100-i)*time.Millisecond)
	}
	for name, tc := range map[string]struct {
		in   []time.Duration
		want string
	}{
		"none":    {want: "none"},
		"one":     {in: []time.Duration{time.Second}, want: "P50 1s  P95 1s  P99 1s  max 1s  (1)"},
		"hundred": {in: hundred, want: "P50 50ms  P95 95ms  P99 99ms  max 100ms  (101)"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Quantiles(tc.in); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	if hundred[0] != 100*time.Millisecond {
		t.Error("the input was sorted in place")
	}
}

func TestPredictions(t *testing.T) {
	var p Predictions
	if got := p.String(); got != "none" {
		t.Errorf("without predictions: %q", got)
	}
	p.Add(Prediction{At: t0, Wait: 4 * time.Second}, t0.Add(2*time.Second))
	p.Add(Prediction{At: t0, Wait: time.Second}, t0.Add(5*time.Second))
	p.Add(Prediction{At: t0, Wait: time.Second}, t0.Add(-time.Second)) // it had begun already
	want := "mean wait 2.333s, bias -333ms, error P50 2s  P95 2s  P99 2s  max 4s  (3)"
	if got := p.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
