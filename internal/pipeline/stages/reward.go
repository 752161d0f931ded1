// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"slices"
	"strings"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
)

// maxMatchReason is the bound of v1alpha1.Reward.
const maxMatchReason = 256

// matchReward matches a character of the catalog. There is one for recyclables with a rule, when the photo
// shows the thing to be ready for disposal.
func matchReward(pack *knowledge.Pack, scan Scan) pipeline.Outcome {
	class, answer := scan.Result.Classification, scan.Result.Answer
	switch {
	case class == nil || answer == nil:
		return pipeline.Failed(internalFailure("the reward stage was assigned before vision and answer had results"))
	case !pack.Recyclable(class.MajorCategory):
		return skipped("rewards are for recyclables")
	case scan.Result.DisposalRules == nil:
		return skipped("rewards need a disposal rule")
	case len(answer.Insufficiencies) > 0:
		return skipped("the thing is not ready for disposal yet")
	}
	character := bestCharacter(pack.Characters, class)
	if character == nil {
		return skipped("no character of the catalog matches")
	}
	item := class.MinorCategory
	if item == "" {
		item = class.MiddleCategory
	}
	return pipeline.Outcome{
		State:   v1alpha1.StageSucceeded,
		Message: character.Name,
		Result: v1alpha1.ScanResult{Reward: &v1alpha1.Reward{
			Name: character.Name, Type: character.Type, Dialog: character.Dialog,
			MatchReason: clean(pack.RewardReason(scan.Spec.UserInput, class.MiddleCategory, item), maxMatchReason),
		}},
	}
}

// bestCharacter is the character with the longest keyword in the item's name, because a longer keyword is more specific;
// without one, the first that stands for the kind of waste. Equals are decided by the catalog's order.
func bestCharacter(characters []knowledge.Character, class *v1alpha1.Classification) *knowledge.Character {
	var best *knowledge.Character
	bestScore := 0
	name := strings.ToLower(class.MinorCategory)
	for i := range characters {
		score := 0
		if slices.Contains(characters[i].Middles, class.MiddleCategory) {
			score = 1
		}
		for _, keyword := range characters[i].Keywords {
			if strings.Contains(name, strings.ToLower(keyword)) {
				score = max(score, 1+len(keyword))
			}
		}
		if score > bestScore {
			best, bestScore = &characters[i], score
		}
	}
	return best
}

// skipped is the outcome of a stage that had nothing to do.
func skipped(message string) pipeline.Outcome {
	return pipeline.Outcome{State: v1alpha1.StageSkipped, Message: message}
}
