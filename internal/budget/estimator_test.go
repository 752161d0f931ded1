// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestEstimatorCharge(t *testing.T) {
	t.Parallel()
	repeat := func(n int, charged ...int64) []int64 {
		list := make([]int64, 0, n*len(charged))
		for range n {
			list = append(list, charged...)
		}
		return list
	}
	tests := map[string]struct {
		charged []int64 // by the provider, for a formula of 1000
		formula int64
		want    int64
	}{
		"no proofs":                          {formula: 1000, want: 1000},
		"too few proofs":                     {charged: repeat(3, 700), formula: 1000, want: 1000},
		"less is charged":                    {charged: repeat(4, 700), formula: 1000, want: 700},
		"more is charged":                    {charged: repeat(4, 1300), formula: 1000, want: 1300},
		"rounded up":                         {charged: repeat(4, 700), formula: 1, want: 1},
		"never below a half":                 {charged: repeat(9, 1), formula: 1000, want: 500},
		"never above four times":             {charged: repeat(9, 1_000_000), formula: 1000, want: 4000},
		"one outlier among many":             {charged: append(repeat(9, 1000), 9000), formula: 1000, want: 1000},
		"prompts differ: the upper quartile": {charged: repeat(4, 600, 700, 800, 900), formula: 1000, want: 900},
		"old proofs are forgotten":           {charged: append(repeat(16, 2000), repeat(16, 1000)...), formula: 1000, want: 1000},
		"calls that proved nothing":          {charged: repeat(9, 0), formula: 1000, want: 1000},
		"no formula":                         {charged: repeat(9, 1300), formula: -3, want: 0},
	}
	for name, test := range tests {
		e := NewEstimator()
		for _, charged := range test.charged {
			e.Observe("vision", "m", Sample{Formula: 1000, Charged: charged})
		}
		if got := e.Charge("vision", "m", test.formula); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
		if got := e.Charge("answer", "m", 1000); got != 1000 {
			t.Errorf("%s: another stage learned it too: %d", name, got)
		}
	}
}

func TestEstimatorExpect(t *testing.T) {
	t.Parallel()
	e := NewEstimator()
	if _, ok := e.Expect("vision", "m"); ok {
		t.Error("an expectation without any observation")
	}
	e.Observe("vision", "m", Sample{Formula: 1000, Input: 100, Output: 20, Seconds: 4})
	e.Observe("vision", "m", Sample{Formula: 2000, Charged: 3000, Input: 300, Output: 40, Seconds: 6})
	for _, bad := range []Sample{
		{},
		{Formula: 5, Charged: -1},
		{Formula: 5, Input: -1},
		{Formula: 5, Output: -1},
		{Formula: 5, Seconds: math.NaN()},
		{Formula: 5, Seconds: math.Inf(1)},
		{Formula: 5, Seconds: -1},
	} {
		e.Observe("vision", "m", bad)
	}
	got, _ := e.Expect("vision", "m")
	if diff := cmp.Diff(Expectation{Charge: 2000, Input: 200, Output: 30, Seconds: 5, Samples: 2}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for range 10 * averagedOver {
		e.Observe("vision", "m", Sample{Formula: 500, Input: 50, Output: 10, Seconds: 1})
	}
	if got, _ := e.Expect("vision", "m"); math.Abs(got.Seconds-1) > 0.01 || math.Abs(got.Charge-500) > 5 {
		t.Errorf("does not follow: %+v", got)
	}
}

// TestEstimatorIsBounded checks that the number of entries is bounded and that entries in use are kept.
func TestEstimatorIsBounded(t *testing.T) {
	t.Parallel()
	e := NewEstimator()
	for i := range 1000 {
		e.Observe("vision", fmt.Sprintf("model-%d", i), Sample{Formula: 1000})
		e.Observe("answer", "in-use", Sample{Formula: 1000, Charged: 800})
	}
	if got := len(e.Snapshot()); got != estimatorKeys {
		t.Errorf("%d estimates, want %d", got, estimatorKeys)
	}
	if got := e.Charge("answer", "in-use", 1000); got != 800 {
		t.Errorf("an entry in use was evicted: %d, want 800", got)
	}
}

func TestEstimatorSnapshotRoundTrip(t *testing.T) {
	t.Parallel()
	e := NewEstimator()
	for i := range 20 {
		at := epoch.Add(time.Duration(i) * time.Second)
		e.Observe("vision", "m", Sample{Formula: 1000, Charged: int64(700 + 10*(i%4)), Input: 100, Output: 20, Seconds: 4.5, At: at})
		e.Observe("answer", "m", Sample{Formula: 500, Input: 300, Output: 90, Seconds: 6, At: at.Add(-time.Hour)})
	}
	e.Observe("vision", "m", Sample{Formula: 1000, Charged: 700, At: epoch}) // a call whose end was seen late
	snap := e.Snapshot()
	want := []Estimate{
		{Stage: "vision", Model: "m", Ratio: 730, Proofs: 16, At: epoch.Add(19 * time.Second)},
		{Stage: "answer", Model: "m", Ratio: 1000, At: epoch.Add(19*time.Second - time.Hour)},
	}
	if diff := cmp.Diff(want, snap, cmpopts.IgnoreFields(Estimate{}, "Usual")); diff != "" {
		t.Errorf("snapshot (-want +got):\n%s", diff)
	}

	fresh := NewEstimator()
	fresh.Restore(snap)
	if diff := cmp.Diff(snap, fresh.Snapshot()); diff != "" {
		t.Errorf("restored (-want +got):\n%s", diff)
	}
	for _, one := range snap {
		if got, want := fresh.Charge(one.Stage, one.Model, 777), e.Charge(one.Stage, one.Model, 777); got != want {
			t.Errorf("%s: a call of 777 is reserved %d after a restart, want %d", one.Stage, got, want)
		}
	}
	for range ratioSamples {
		fresh.Observe("vision", "m", Sample{Formula: 1000, Charged: 600})
	}
	if got := fresh.Charge("vision", "m", 1000); got != 600 {
		t.Errorf("the restored ratio still counts after %d newer proofs: %d, want 600", ratioSamples, got)
	}
}

func TestEstimatorRestore(t *testing.T) {
	t.Parallel()
	at := func(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }
	usual := Expectation{Charge: 900, Input: 300, Output: 100, Seconds: 5, Samples: 40}
	tests := map[string]struct {
		list []Estimate
		want []Estimate
	}{
		"the latest of several, in any order": {
			list: []Estimate{
				{Stage: "vision", Model: "m", Ratio: 900, Proofs: 9, Usual: usual, At: at(2)},
				{Stage: "vision", Model: "m", Ratio: 700, Proofs: 9, At: at(1)},
				{Stage: "answer", Model: "m", Ratio: 800, Proofs: 9, At: at(3)},
			},
			want: []Estimate{
				{Stage: "answer", Model: "m", Ratio: 800, Proofs: 9, At: at(3)},
				{Stage: "vision", Model: "m", Ratio: 900, Proofs: 9, Usual: usual, At: at(2)},
			},
		},
		"too few proofs do not count": {
			list: []Estimate{{Stage: "vision", Model: "m", Ratio: 700, Proofs: ratioNeeded - 1, Usual: usual}},
			want: []Estimate{{Stage: "vision", Model: "m", Ratio: 1000, Proofs: ratioNeeded - 1, Usual: usual}},
		},
		"too large numbers are clamped": {
			list: []Estimate{{Stage: "vision", Model: "m", Ratio: 9000, Proofs: 1 << 40, Usual: Expectation{
				Charge: math.Inf(1), Input: 1e300, Output: math.NaN(), Seconds: 1e9, Samples: 3,
			}}},
			want: []Estimate{{Stage: "vision", Model: "m", Ratio: 4000, Proofs: ratioSamples, Usual: Expectation{
				Charge: maxLimit, Input: maxLimit, Seconds: 86_400, Samples: 3,
			}}},
		},
		"too small numbers are clamped": {
			list: []Estimate{{Stage: "vision", Model: "m", Ratio: -9, Proofs: ratioNeeded, Usual: Expectation{Charge: -1, Seconds: -1, Samples: -1}}},
			want: []Estimate{{Stage: "vision", Model: "m", Ratio: 500, Proofs: ratioNeeded}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := NewEstimator()
			e.Observe("reward", "forgotten", Sample{Formula: 1})
			e.Restore(test.list)
			if diff := cmp.Diff(test.want, e.Snapshot()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}

	var many []Estimate
	for i := range 3 * estimatorKeys {
		many = append(many, Estimate{Stage: "vision", Model: strconv.Itoa(i), At: at((i * 7) % (3 * estimatorKeys))})
	}
	e := NewEstimator()
	e.Restore(many)
	snap := e.Snapshot()
	if len(snap) != estimatorKeys || !snap[0].At.Equal(at(3*estimatorKeys-1)) || !snap[estimatorKeys-1].At.Equal(at(2*estimatorKeys)) {
		t.Errorf("%d of %d estimates were restored, from %v to %v; want the latest %d", len(snap), len(many), snap[0].At, snap[len(snap)-1].At, estimatorKeys)
	}
}
