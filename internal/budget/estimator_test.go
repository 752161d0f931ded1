package budget

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
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
		"nothing known":                      {formula: 1000, want: 1000},
		"too little known":                   {charged: repeat(3, 700), formula: 1000, want: 1000},
		"less is charged":                    {charged: repeat(4, 700), formula: 1000, want: 700},
		"more is charged":                    {charged: repeat(4, 1300), formula: 1000, want: 1300},
		"rounded up":                         {charged: repeat(4, 700), formula: 1, want: 1},
		"never below a half":                 {charged: repeat(9, 1), formula: 1000, want: 500},
		"never above four times":             {charged: repeat(9, 1_000_000), formula: 1000, want: 4000},
		"one stranger among many":            {charged: append(repeat(9, 1000), 9000), formula: 1000, want: 1000},
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
		t.Error("something is known of nothing")
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

// TestEstimatorIsBounded: however many models come by, the snapshot stays small, and the ones in use stay.
func TestEstimatorIsBounded(t *testing.T) {
	t.Parallel()
	e := NewEstimator()
	for i := range 1000 {
		for range ratioSamples + 1 {
			e.Observe("vision", fmt.Sprintf("a-model-with-quite-a-long-name-%06d", i), Sample{Formula: 1_000_000, Charged: 3_999_999, Input: 999_999, Output: 99_999, Seconds: 59.123456789})
		}
		e.Observe("answer", "in-use", Sample{Formula: 1000, Charged: 800})
	}
	snap := e.Snapshot()
	text, err := json.Marshal(snap)
	if err != nil {
		t.Fatal(err)
	}
	if len(snap) != estimatorKeys || len(text) > 10_000 {
		t.Errorf("%d estimates in %d bytes, want %d in at most 10000", len(snap), len(text), estimatorKeys)
	}
	if got := e.Charge("answer", "in-use", 1000); got != 800 {
		t.Errorf("what is in use was forgotten: %d, want 800", got)
	}
	var read []Estimate
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	fresh := NewEstimator()
	fresh.Restore(read)
	for _, one := range snap {
		if got, want := fresh.Charge(one.Stage, one.Model, 777), e.Charge(one.Stage, one.Model, 777); got != want {
			t.Errorf("%s %s: %d after a restart, want %d", one.Stage, one.Model, got, want)
		}
		got, _ := fresh.Expect(one.Stage, one.Model)
		if diff := cmp.Diff(one.Usual, got); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", one.Stage, one.Model, diff)
		}
	}
}
