// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

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

// History is what was recommended and done for one pool. The zero value is for a new pool.
// It is not safe for concurrent use.
type History struct {
	started bool
	// current is the recommendation in force.
	current int32
	// highs and lows are the earlier recommendations that can still be the highest or lowest within a window.
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

// Note records a decision. Call it for every decision, including those that change nothing.
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

// Scaled records a change of the number of workers.
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

// dropWhile drops expired recommendations from the beginning, and those that the new one supersedes from the end.
func dropWhile(list []recommendation, superseded func(recommendation) bool, cutoff time.Time) []recommendation {
	first := 0
	for first < len(list) && !list[first].until.After(cutoff) {
		first++
	}
	list = list[first:]
	for len(list) > 0 && superseded(list[len(list)-1]) {
		list = list[:len(list)-1]
	}
	return list
}

// stabilization is a question about the recommendations within a stabilization window before now.
type stabilization struct {
	// next is the present recommendation. start is the number of workers, which counts as the earlier recommendation
	// while there is none.
	next, start int32
	window      time.Duration
	now         time.Time
}

// highest is the highest recommendation in force within the window, and when it leaves the window; never (zero) for
// the present one.
func (h *History) highest(s stabilization) (replicas int32, leaves time.Time) {
	return h.extreme(h.highs, s, func(a, b int32) bool { return a > b })
}

// lowest is the lowest recommendation in force within the window, likewise.
func (h *History) lowest(s stabilization) (replicas int32, leaves time.Time) {
	return h.extreme(h.lows, s, func(a, b int32) bool { return a < b })
}

func (h *History) extreme(past []recommendation, s stabilization, beats func(a, b int32) bool) (replicas int32, leaves time.Time) {
	replicas = s.next
	if s.window <= 0 {
		return replicas, leaves
	}
	current := s.start
	if h.started {
		current = h.current
	}
	if beats(current, replicas) {
		replicas, leaves = current, s.now.Add(s.window)
	}
	for _, r := range past { // the first one within the window is the most extreme
		if end := r.until.Add(s.window); end.After(s.now) {
			if beats(r.replicas, replicas) {
				replicas, leaves = r.replicas, end
			}
			break
		}
	}
	return replicas, leaves
}

// changed sums up the changes within the period before now, and returns when the first of them leaves it.
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

// bound is how far the policies of a direction let the number of workers change, and when they allow more.
func (h *History) bound(from int32, b behavior, now time.Time) (limit int32, again time.Time) {
	policy := b.selectPolicy()
	if policy == autoscalingv2.DisabledPolicySelect {
		return from, time.Time{}
	}
	for i, p := range b.policies() {
		added, removed, leaves := h.changed(time.Duration(p.PeriodSeconds)*time.Second, now)
		proposed := b.proposal(from-added+removed, p)
		// Max is the policy with the largest change: the highest number when growing, the lowest when shrinking.
		if i == 0 || (proposed > limit) == ((b.direction == scaleUp) == (policy == autoscalingv2.MaxChangePolicySelect)) {
			limit = proposed
		}
		if leaves.IsZero() { // a change now leaves the period at its end
			leaves = now.Add(time.Duration(p.PeriodSeconds) * time.Second)
		}
		if again.IsZero() || leaves.Before(again) {
			again = leaves
		}
	}
	if b.direction == scaleUp {
		return max(limit, from), again
	}
	return max(min(limit, from), 0), again
}
