// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscale

import (
	"slices"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
)

var t0 = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

// pool is a pool without budgets, driven through time. A worker holds one call.
type pool struct {
	in      Input
	history History
	changes int
}

func newPool(workers int32, behavior *autoscalingv2.HorizontalPodAutoscalerBehavior) *pool {
	return &pool{in: Input{
		Load: Load{Unmetered: true}, Current: workers, Concurrency: 1, Min: 0, Max: 1000, Behavior: behavior, Now: t0,
	}}
}

// decide decides for a number of calls and applies the decision.
func (p *pool) decide(calls int) Decision {
	p.in.Queued = calls
	d := Decide(p.in, &p.history)
	p.history.Note(d, p.in.Now)
	if d.From != d.Replicas {
		p.changes++
	}
	p.history.Scaled(d.From, d.Replicas, p.in.Now)
	p.in.Current = d.Replicas
	return d
}

func (p *pool) wait(d time.Duration) { p.in.Now = p.in.Now.Add(d) }

func rules(window int32, choice autoscalingv2.ScalingPolicySelect, list ...autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
	r := &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &window, Policies: list}
	if choice != "" {
		r.SelectPolicy = &choice
	}
	return r
}

func pods(n, period int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: n, PeriodSeconds: period}
}

func percent(n, period int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: n, PeriodSeconds: period}
}

func down(r *autoscalingv2.HPAScalingRules) *autoscalingv2.HorizontalPodAutoscalerBehavior {
	return &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: r}
}

func up(r *autoscalingv2.HPAScalingRules) *autoscalingv2.HorizontalPodAutoscalerBehavior {
	return &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: r}
}

// TestBehavior drives pools through the cases of
// https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#configurable-scaling-behavior.
func TestBehavior(t *testing.T) {
	tests := map[string]struct {
		behavior *autoscalingv2.HorizontalPodAutoscalerBehavior
		from     int32
		calls    int
		// every is the time between two decisions.
		every time.Duration
		want  []int32
	}{
		"no behavior: up in one step": {from: 1, calls: 50, every: time.Minute, want: []int32{50}},
		"no behavior: down after five minutes": {
			from: 50, calls: 1, every: 100 * time.Second, want: []int32{50, 50, 50, 1},
		},
		"default policies up: 4 pods or twice as many in 15 s": {
			behavior: up(&autoscalingv2.HPAScalingRules{}), from: 1, calls: 100, every: 15 * time.Second,
			want: []int32{5, 10, 20, 40, 80, 100},
		},
		"the period counts, not the number of decisions": {
			behavior: up(&autoscalingv2.HPAScalingRules{}), from: 1, calls: 100, every: 5 * time.Second,
			want: []int32{5, 5, 5, 10, 10, 10, 20},
		},
		"default policy down: all in 15 s": {
			behavior: down(rules(0, "")), from: 80, calls: 3, every: time.Second, want: []int32{3},
		},
		"10 percent or 4 pods a minute: percent counts above 40, pods below": {
			behavior: down(rules(0, "", pods(4, 60), percent(10, 60))), from: 80, calls: 10, every: time.Minute,
			want: []int32{72, 64, 57, 51, 45, 40, 36, 32, 28, 24, 20, 16, 12, 10},
		},
		"the smaller change with Min": {
			behavior: down(rules(0, autoscalingv2.MinChangePolicySelect, pods(5, 60), percent(10, 60))), from: 80, calls: 10,
			every: time.Minute, want: []int32{75, 70, 65, 60, 55, 50, 45, 40},
		},
		"the smaller change up with Min": {
			behavior: up(rules(0, autoscalingv2.MinChangePolicySelect, pods(4, 15), percent(100, 15))), from: 2, calls: 20,
			every: 15 * time.Second, want: []int32{4, 8, 12, 16, 20},
		},
		"no shrinking with Disabled": {
			behavior: down(rules(0, autoscalingv2.DisabledPolicySelect)), from: 9, calls: 1, every: time.Hour, want: []int32{9, 9, 9},
		},
		"no growing with Disabled": {
			behavior: up(rules(0, autoscalingv2.DisabledPolicySelect)), from: 1, calls: 9, every: time.Hour, want: []int32{1, 1},
		},
		"a window of a minute down": {
			behavior: down(rules(60, "")), from: 10, calls: 2, every: 30 * time.Second, want: []int32{10, 10, 2},
		},
		"a window of a minute up": {
			behavior: up(rules(60, "", percent(900, 15))), from: 1, calls: 9, every: 30 * time.Second, want: []int32{1, 1, 9},
		},
		"percent from zero gives the first worker": {
			behavior: up(rules(0, "", percent(100, 15))), from: 0, calls: 9, every: 15 * time.Second, want: []int32{1, 2, 4, 8, 9},
		},
		"a window up does not delay the first worker": {
			behavior: up(rules(60, "", percent(900, 15))), from: 0, calls: 9, every: 30 * time.Second, want: []int32{1, 1, 9},
		},
		"one pod at a time": {
			behavior: up(rules(0, "", pods(1, 60))), from: 0, calls: 3, every: 20 * time.Second, want: []int32{1, 1, 1, 2, 2, 2, 3},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p := newPool(tc.from, tc.behavior)
			var got []int32
			for range tc.want {
				got = append(got, p.decide(tc.calls).Replicas)
				p.wait(tc.every)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("%v workers, want %v", got, tc.want)
			}
		})
	}
}

// TestAgain decides only at the times in Decision.Again. The pool must reach the same number of workers as with
// continuous decisions.
func TestAgain(t *testing.T) {
	tests := map[string]struct {
		behavior  *autoscalingv2.HorizontalPodAutoscalerBehavior
		from      int32
		calls     int
		wantAfter []time.Duration
		want      int32
	}{
		"nothing to do":         {from: 3, calls: 3, want: 3},
		"stabilization":         {from: 3, calls: 1, wantAfter: []time.Duration{300 * time.Second}, want: 1},
		"stabilization upwards": {behavior: up(rules(30, "", pods(9, 15))), from: 1, calls: 3, wantAfter: []time.Duration{30 * time.Second}, want: 3},
		"policies": {
			behavior: up(rules(0, "", pods(2, 15))), from: 1, calls: 6,
			wantAfter: []time.Duration{15 * time.Second, 15 * time.Second}, want: 6,
		},
		"both": {
			behavior: down(rules(60, "", pods(1, 15))), from: 3, calls: 1,
			wantAfter: []time.Duration{60 * time.Second, 15 * time.Second}, want: 1,
		},
		"disabled": {behavior: down(rules(0, autoscalingv2.DisabledPolicySelect)), from: 3, calls: 1, want: 3},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p := newPool(tc.from, tc.behavior)
			var after []time.Duration
			d := p.decide(tc.calls)
			for d.Again > 0 && len(after) < 10 {
				after = append(after, d.Again)
				p.wait(d.Again)
				d = p.decide(tc.calls)
			}
			if !slices.Equal(after, tc.wantAfter) || d.Replicas != tc.want {
				t.Errorf("%d workers after %v, want %d after %v", d.Replicas, after, tc.want, tc.wantAfter)
			}
		})
	}
}

// TestStabilizationKeepsTheHighest shows that a recommendation counts until the end of its time in force, however
// rarely decisions are made: there is none while nothing changes.
func TestStabilizationKeepsTheHighest(t *testing.T) {
	p := newPool(5, nil)
	p.decide(9)
	p.wait(time.Hour) // nothing changed
	if got := p.decide(2).Replicas; got != 9 {
		t.Fatalf("%d workers at once, want 9 for five minutes more", got)
	}
	p.wait(100 * time.Second)
	p.decide(6)
	p.wait(200 * time.Second)
	if got := p.decide(2).Replicas; got != 6 {
		t.Errorf("%d workers when the 9 had left the window, want 6", got)
	}
	p.wait(299 * time.Second)
	if got := p.decide(1).Replicas; got != 6 {
		t.Errorf("%d workers while the 6 is in the window, want 6", got)
	}
	p.wait(time.Second)
	if got := p.decide(1).Replicas; got != 2 {
		t.Errorf("%d workers when the 6 had left the window, want 2", got)
	}
}

func TestTolerance(t *testing.T) {
	tenth := resource.MustParse("0.1")
	behavior := up(&autoscalingv2.HPAScalingRules{Tolerance: &tenth})
	p := newPool(20, behavior)
	if got := p.decide(21).Replicas; got != 20 {
		t.Errorf("%d workers for a load 5 %% above, want 20", got)
	}
	if got := p.decide(23).Replicas; got != 23 {
		t.Errorf("%d workers for a load 15 %% above, want 23", got)
	}
}

// TestBurstThatTakesAMoment checks that a burst causes two changes: the first worker at once, and one step for the rest.
func TestBurstThatTakesAMoment(t *testing.T) {
	p := newPool(0, nil)
	p.in.Concurrency, p.in.Max = 100, 100
	for i := range 100 {
		p.decide(10 * (i + 1))
		p.wait(10 * time.Millisecond)
	}
	d := p.decide(1000)
	if d.Replicas != 10 || p.changes != 2 {
		t.Errorf("%d workers after %d changes, want 10 after 2", d.Replicas, p.changes)
	}
}

// TestNoFlapping drives a pool with a load that swings between nothing and a lot, in periods that are shorter and
// longer than the stabilization window.
func TestNoFlapping(t *testing.T) {
	tests := map[string]struct {
		period    time.Duration
		wantAtMax int // changes in an hour
	}{
		"10 s": {period: 10 * time.Second, wantAtMax: 1},
		"1 m":  {period: time.Minute, wantAtMax: 1},
		"9 m":  {period: 9 * time.Minute, wantAtMax: 1},
		"30 m": {period: 30 * time.Minute, wantAtMax: 8},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p := newPool(0, nil)
			for at := time.Duration(0); at < time.Hour; at += time.Second {
				calls := 0
				if at%tc.period < tc.period/2 {
					calls = 40
				}
				p.decide(calls)
				p.wait(time.Second)
			}
			if p.changes > tc.wantAtMax {
				t.Errorf("%d changes in an hour, want at most %d", p.changes, tc.wantAtMax)
			}
		})
	}
}

// TestHistoryIsBounded feeds a history for hours with changes each second.
func TestHistoryIsBounded(t *testing.T) {
	p := newPool(0, down(rules(0, "")))
	for i := range 20_000 {
		p.decide(i * 7919 % 1000)
		p.wait(time.Second)
	}
	if n := len(p.history.highs) + len(p.history.lows) + len(p.history.scalings); n > 4000 {
		t.Errorf("%d entries are kept, want no more than half an hour of scalings and two falling lists", n)
	}
}
