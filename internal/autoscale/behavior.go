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

// rulesOf are a direction's rules; nil where spec.behavior says nothing about the direction. A pool then grows in one
// step, unlike a HorizontalPodAutoscaler, and shrinks as one does.
func rulesOf(b *autoscalingv2.HorizontalPodAutoscalerBehavior, up bool) *autoscalingv2.HPAScalingRules {
	switch {
	case b == nil:
		return nil
	case up:
		return b.ScaleUp
	default:
		return b.ScaleDown
	}
}

// window is a direction's stabilization window.
func window(rules *autoscalingv2.HPAScalingRules, up bool) time.Duration {
	switch {
	case rules != nil && rules.StabilizationWindowSeconds != nil:
		return time.Duration(*rules.StabilizationWindowSeconds) * time.Second
	case up:
		return defaultUpWindow
	default:
		return defaultDownWindow
	}
}

// tolerated says whether the calls differ so little from what the present workers hold that nothing is changed.
func tolerated(rules *autoscalingv2.HPAScalingRules, fill float64) bool {
	return rules != nil && rules.Tolerance != nil && math.Abs(fill-1) <= rules.Tolerance.AsApproximateFloat64()
}

func selectPolicy(rules *autoscalingv2.HPAScalingRules) autoscalingv2.ScalingPolicySelect {
	if rules == nil || rules.SelectPolicy == nil {
		return autoscalingv2.MaxChangePolicySelect
	}
	return *rules.SelectPolicy
}

// policies are a direction's policies.
func policies(rules *autoscalingv2.HPAScalingRules, up bool) []autoscalingv2.HPAScalingPolicy {
	percent := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: defaultPercent, PeriodSeconds: defaultPeriod}
	switch {
	case rules != nil && len(rules.Policies) > 0:
		return rules.Policies
	case up && rules == nil:
		return []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PodsScalingPolicy, Value: math.MaxInt32, PeriodSeconds: defaultPeriod}}
	case up:
		return []autoscalingv2.HPAScalingPolicy{
			{Type: autoscalingv2.PodsScalingPolicy, Value: defaultUpPods, PeriodSeconds: defaultPeriod}, percent,
		}
	default:
		return []autoscalingv2.HPAScalingPolicy{percent}
	}
}

// proposal is the number of workers a policy allows, from the number at the beginning of its period. A percentage is
// rounded up when growing and down when shrinking, which is what a HorizontalPodAutoscaler does.
func proposal(start int32, p autoscalingv2.HPAScalingPolicy, up bool) int32 {
	change := int64(p.Value)
	sign := int64(-1)
	if up {
		sign = 1
	}
	if p.Type == autoscalingv2.PercentScalingPolicy {
		result := int64(start) * (100 + sign*change)
		if up {
			result += 99
		}
		return clampInt32(result / 100)
	}
	return clampInt32(int64(start) + sign*change)
}

func clampInt32(v int64) int32 { return int32(min(max(v, math.MinInt32), math.MaxInt32)) }
