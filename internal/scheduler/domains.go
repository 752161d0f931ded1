package scheduler

import (
	"maps"

	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/queue"
)

// domain names the group of budgets that a lane's calls draw on: scans of all stages and models that are paid from the
// same limits compete with each other, so that their users are served alike and the small ones of one model cannot keep
// the large ones of another waiting for ever. Stages that need no tokens compete with nothing.
func (s *Scheduler) domain(lane queue.Lane) string {
	stage := v1alpha1.StageName(lane.Stage)
	if !pipeline.NeedsTokens(stage) {
		return lane.Namespace + "/stage/" + lane.Stage
	}
	for _, p := range s.byStage[stageKey{lane.Namespace, stage}] {
		for _, ref := range p.spec.Budgets {
			name := types.NamespacedName{Namespace: lane.Namespace, Name: ref.Name}
			if tb := s.budgets[name]; tb != nil && tb.serves(lane.Model) {
				return lane.Namespace + "/budget/" + s.groups[name].Name
			}
		}
	}
	return lane.Namespace + "/model/" + lane.Model // nothing pays for it yet
}

// regroup finds the groups of budgets anew and says whether they have changed. Budgets that may pay for the same calls
// are in one group, which has the name of its first one.
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
		paying := map[string]types.NamespacedName{} // a budget for each model of the stage
		for _, p := range pools {
			for _, ref := range p.spec.Budgets {
				name := types.NamespacedName{Namespace: key.namespace, Name: ref.Name}
				tb := s.budgets[name]
				if tb == nil {
					continue
				}
				for model := range tb.models {
					other, ok := paying[model]
					if !ok {
						paying[model] = name
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
