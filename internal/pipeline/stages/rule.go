// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
)

// noRuleMessage explains to users why answer and reward are skipped.
const noRuleMessage = "the knowledge pack has no rule for this class; the user got the fixed answer"

// lookUpRule finds the rule for the class that vision saw. No rule is an outcome, not a failure: the scan
// succeeds with a fixed answer.
func lookUpRule(pack *knowledge.Pack, scan Scan) pipeline.Outcome {
	class := scan.Result.Classification
	if class == nil {
		return pipeline.Failed(internalFailure("the rule stage was assigned before vision had a result"))
	}
	rule, ok := pack.Rule(class.MajorCategory, class.MiddleCategory)
	if !ok {
		return pipeline.Outcome{State: v1alpha1.StageSucceeded, Reason: v1alpha1.ReasonNoRuleFound, Message: noRuleMessage}
	}
	return pipeline.Outcome{
		State:   v1alpha1.StageSucceeded,
		Message: rule.Title,
		Result: v1alpha1.ScanResult{DisposalRules: &v1alpha1.DisposalRules{
			ID: rule.ID, Title: rule.Title, Steps: rule.Steps, Exclusions: rule.Exclusions,
		}},
	}
}

// noRuleAnswer is the fixed answer for a class without a rule.
func noRuleAnswer(pack *knowledge.Pack, scan Scan) *v1alpha1.Answer {
	category := ""
	if class := scan.Result.Classification; class != nil {
		category = categoryOf(class)
	}
	return &v1alpha1.Answer{UserAnswer: clean(pack.NoRuleFound(scan.Spec.UserInput, category), maxUserAnswer)}
}
