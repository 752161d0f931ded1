// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscale

import (
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// The defaults of a HorizontalPodAutoscaler's behavior, for what a spec.behavior leaves out:
// https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#default-behavior
const (
	defaultDownWindow = 300 * time.Second
	defaultUpWindow   = 0
	defaultPeriod     = 15
	defaultUpPods     = 4
	defaultPercent    = 100
)

// direction is the direction of a change.
type direction int64

const (
	scaleUp   direction = 1
	scaleDown direction = -1
)

// behavior is one direction of a spec.behavior. Its rules are nil if spec.behavior does not define the direction: the
// pool then grows in one step, unlike with a HorizontalPodAutoscaler, and shrinks as with one.
type behavior struct {
	direction direction
	rules     *autoscalingv2.HPAScalingRules
}

func behaviorOf(b *autoscalingv2.HorizontalPodAutoscalerBehavior, d direction) behavior {
	switch {
	case b == nil:
		return behavior{direction: d}
	case d == scaleUp:
		return behavior{direction: d, rules: b.ScaleUp}
	default:
		return behavior{direction: d, rules: b.ScaleDown}
	}
}

// window is the stabilization window.
func (b behavior) window() time.Duration {
	switch {
	case b.rules != nil && b.rules.StabilizationWindowSeconds != nil:
		return time.Duration(*b.rules.StabilizationWindowSeconds) * time.Second
	case b.direction == scaleUp:
		return defaultUpWindow
	default:
		return defaultDownWindow
	}
}

// tolerates reports whether the calls differ so little from the capacity of the present workers that nothing changes.
func (b behavior) tolerates(fill float64) bool {
	return b.rules != nil && b.rules.Tolerance != nil && math.Abs(fill-1) <= b.rules.Tolerance.AsApproximateFloat64()
}

func (b behavior) selectPolicy() autoscalingv2.ScalingPolicySelect {
	if b.rules == nil || b.rules.SelectPolicy == nil {
		return autoscalingv2.MaxChangePolicySelect
	}
	return *b.rules.SelectPolicy
}

func (b behavior) policies() []autoscalingv2.HPAScalingPolicy {
	percent := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: defaultPercent, PeriodSeconds: defaultPeriod}
	switch {
	case b.rules != nil && len(b.rules.Policies) > 0:
		return b.rules.Policies
	case b.direction == scaleDown:
		return []autoscalingv2.HPAScalingPolicy{percent}
	case b.rules == nil:
		return []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PodsScalingPolicy, Value: math.MaxInt32, PeriodSeconds: defaultPeriod}}
	default:
		return []autoscalingv2.HPAScalingPolicy{
			{Type: autoscalingv2.PodsScalingPolicy, Value: defaultUpPods, PeriodSeconds: defaultPeriod}, percent,
		}
	}
}

// proposal is the number of workers that a policy allows, given the number at the beginning of its period. A
// percentage is rounded up when growing and down when shrinking, as in a HorizontalPodAutoscaler.
func (b behavior) proposal(start int32, p autoscalingv2.HPAScalingPolicy) int32 {
	change := int64(b.direction) * int64(p.Value)
	if p.Type != autoscalingv2.PercentScalingPolicy {
		return clampInt32(int64(start) + change)
	}
	result := int64(start) * (100 + change)
	if b.direction == scaleUp {
		result += 99
	}
	return clampInt32(result / 100)
}

func clampInt32(v int64) int32 { return int32(min(max(v, math.MinInt32), math.MaxInt32)) }
