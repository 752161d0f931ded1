// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"k8s.io/utils/clock"
)

// LatencyDistribution is the shape of a latency between its bounds.
type LatencyDistribution string

// The distributions.
const (
	// LatencyUniform spreads evenly.
	LatencyUniform LatencyDistribution = "uniform"
	// LatencyLogNormal has its median at the geometric mean of the bounds,
	// which lie two standard deviations away; what falls outside is put on the
	// bound.
	LatencyLogNormal LatencyDistribution = "lognormal"
)

// Latency is how long a call takes before Speed divides it, in milliseconds.
type Latency struct {
	MinMillis    int64               `json:"minMillis"`
	MaxMillis    int64               `json:"maxMillis"`
	Distribution LatencyDistribution `json:"distribution,omitempty"`
}

// validate reports bounds that are out of order.
func (l Latency) validate(name string) error {
	const hour = 3600 * 1000
	if err := between(name+".minMillis", l.MinMillis, 1, hour); err != nil {
		return err
	}
	if err := between(name+".maxMillis", l.MaxMillis, l.MinMillis, hour); err != nil {
		return err
	}
	if l.Distribution != LatencyUniform && l.Distribution != LatencyLogNormal {
		return fmt.Errorf("%s.distribution: %q is neither %q nor %q", name, l.Distribution, LatencyUniform, LatencyLogNormal)
	}
	return nil
}

// draw picks a latency.
func (l Latency) draw(rng *rand.Rand, speed float64) time.Duration {
	low, high := float64(l.MinMillis), float64(l.MaxMillis)
	millis := low + rng.Float64()*(high-low)
	if l.Distribution == LatencyLogNormal {
		middle, sigma := math.Sqrt(low*high), math.Log(high/low)/4
		millis = min(high, max(low, middle*math.Exp(sigma*rng.NormFloat64())))
	}
	return time.Duration(millis / speed * float64(time.Millisecond))
}

// pause waits on the clock. It reports false when the context ended first.
func pause(ctx context.Context, clk clock.Clock, d time.Duration) bool {
	if d < time.Microsecond {
		// Below what a timer resolves: a speed this high means "no latency".
		return ctx.Err() == nil
	}
	timer := clk.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
