// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"maps"

	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/queue"
)

// domain names the group of budgets that a lane's calls draw on. Scans of all stages and models on the same limits
// compete with each other: their users share fairly, and small scans of one model cannot starve large scans of
// another. Stages that need no tokens compete with nothing.
func (s *Scheduler) domain(lane queue.Lane) string {
	stage := v1alpha1.StageName(lane.Stage)
	if !pipeline.NeedsTokens(stage) {
		return lane.Namespace + "/stage/" + lane.Stage
	}
	for _, p := range s.byStage[stageKey{lane.Namespace, stage}] {
		for _, ref := range p.spec.Budgets {
			name := p.budget(ref)
			if tb := s.budgets[name]; tb != nil && tb.serves(lane.Model) {
				return lane.Namespace + "/budget/" + s.groups[name].Name
			}
		}
	}
	return lane.Namespace + "/model/" + lane.Model // no budget serves it yet
}

// regroup recomputes the groups of budgets and reports whether they changed. Budgets that can serve the same calls are
// in one group, which is named after its first budget.
func (s *Scheduler) regroup() bool {
	first := map[types.NamespacedName]types.NamespacedName{}
	for name := range s.budgets {
		first[name] = name
	}
	groupOf := func(name types.NamespacedName) types.NamespacedName {
		for first[name] != name {
			name = first[name]
		}
		return name
	}
	for key, pools := range s.byStage {
		if !pipeline.NeedsTokens(key.stage) {
			continue
		}
		serving := map[string]types.NamespacedName{} // one budget for each model of the stage
		for _, p := range pools {
			for _, ref := range p.spec.Budgets {
				name := p.budget(ref)
				tb := s.budgets[name]
				if tb == nil {
					continue
				}
				for model := range tb.models {
					other, ok := serving[model]
					if !ok {
						serving[model] = name
						continue
					}
					a, b := groupOf(name), groupOf(other)
					if a.Name > b.Name {
						a, b = b, a
					}
					first[b] = a
				}
			}
		}
	}
	for name := range first {
		first[name] = groupOf(name)
	}
	if maps.Equal(s.groups, first) {
		return false
	}
	s.groups = first
	return true
}
