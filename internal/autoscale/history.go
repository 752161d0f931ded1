package autoscale

import (
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

const (
	// maxWindow and maxPeriod are the longest stabilization window and the longest period of a policy that the API
	// of HorizontalPodAutoscalers allows. Nothing older is remembered.
	maxWindow = time.Hour
	maxPeriod = 30 * time.Minute
)

// History is what was recommended and done for one pool. The zero value is that of a pool seen for the first time.
// It is not safe for concurrent use.
type History struct {
	started bool
	// current is the recommendation in force.
	current int32
	// highs and lows are the earlier recommendations that can still be the highest or the lowest of a window.
	highs, lows []recommendation
	scalings    []scaling
}

// recommendation is a number of workers, and until when it was in force.
type recommendation struct {
	replicas int32
	until    time.Time
}

// scaling is a change of the number of workers.
type scaling struct {
	delta int32
	at    time.Time
}

// Note remembers a decision. Call it for each one, also when it changes nothing.
func (h *History) Note(d Decision, now time.Time) {
	if !h.started {
		h.started, h.current = true, d.From
	}
	if d.Recommended == h.current {
		return
	}
	cutoff := now.Add(-maxWindow)
	old := recommendation{h.current, now}
	h.highs = append(dropWhile(h.highs, func(r recommendation) bool { return r.replicas <= old.replicas }, cutoff), old)
	h.lows = append(dropWhile(h.lows, func(r recommendation) bool { return r.replicas >= old.replicas }, cutoff), old)
	h.current = d.Recommended
}

// Scaled remembers that the number of workers was changed.
func (h *History) Scaled(from, to int32, now time.Time) {
	if from == to {
		return
	}
	first := 0
	for first < len(h.scalings) && now.Sub(h.scalings[first].at) > maxPeriod {
		first++
	}
	h.scalings = append(h.scalings[first:], scaling{to - from, now})
}

// dropWhile drops what is too old from the beginning, and what the new one makes pointless from the end.
func dropWhile(list []recommendation, pointless func(recommendation) bool, cutoff time.Time) []recommendation {
	first := 0
	for first < len(list) && !list[first].until.After(cutoff) {
		first++
	}
	list = list[first:]
	for len(list) > 0 && pointless(list[len(list)-1]) {
		list = list[:len(list)-1]
	}
	return list
}

// highest is the highest recommendation that was in force within the window before now, next included, and when it
// leaves the window; never (zero) for next itself.
func (h *History) highest(next, start int32, window time.Duration, now time.Time) (replicas int32, leaves time.Time) {
	return h.extreme(h.highs, next, start, window, now, func(a, b int32) bool { return a > b })
}

// lowest is the lowest one, likewise.
func (h *History) lowest(next, start int32, window time.Duration, now time.Time) (replicas int32, leaves time.Time) {
	return h.extreme(h.lows, next, start, window, now, func(a, b int32) bool { return a < b })
}

func (h *History) extreme(past []recommendation, next, start int32, window time.Duration, now time.Time, beats func(a, b int32) bool) (replicas int32, leaves time.Time) {
	replicas = next
	if window <= 0 {
		return replicas, leaves
	}
	current := start // as if the present number had been recommended so far
	if h.started {
		current = h.current
	}
	if beats(current, replicas) {
		replicas, leaves = current, now.Add(window)
	}
	for _, r := range past { // the first within the window is the most extreme
		if end := r.until.Add(window); end.After(now) {
			if beats(r.replicas, replicas) {
				replicas, leaves = r.replicas, end
			}
			break
		}
	}
	return replicas, leaves
}

// changed sums the changes within the period before now, and says when the first of them leaves it.
func (h *History) changed(period time.Duration, now time.Time) (added, removed int32, leaves time.Time) {
	for _, s := range h.scalings {
		end := s.at.Add(period)
		if !end.After(now) {
			continue
		}
		if leaves.IsZero() {
			leaves = end
		}
		if s.delta > 0 {
			added += s.delta
		} else {
			removed -= s.delta
		}
	}
	return added, removed, leaves
}

// lastGrowth is when the pool last grew.
func (h *History) lastGrowth() (at time.Time) {
	for _, s := range h.scalings {
		if s.delta > 0 {
			at = s.at
		}
	}
	return at
}

// bound is how far a direction's policies let the number of workers go, and when they let it go further.
func (h *History) bound(from int32, rules *autoscalingv2.HPAScalingRules, up bool, now time.Time) (limit int32, again time.Time) {
	policy := selectPolicy(rules)
	if policy == autoscalingv2.DisabledPolicySelect {
		return from, time.Time{}
	}
	for i, p := range policies(rules, up) {
		added, removed, leaves := h.changed(time.Duration(p.PeriodSeconds)*time.Second, now)
		proposed := proposal(from-added+removed, p, up)
		// Max is the policy that changes most: the highest when growing, the lowest when shrinking.
		if i == 0 || (proposed > limit) == (up == (policy == autoscalingv2.MaxChangePolicySelect)) {
			limit = proposed
		}
		if leaves.IsZero() { // what is changed now leaves the period at its end
			leaves = now.Add(time.Duration(p.PeriodSeconds) * time.Second)
		}
		if again.IsZero() || leaves.Before(again) {
			again = leaves
		}
	}
	if up {
		return max(limit, from), again
	}
	return max(min(limit, from), 0), again
}
