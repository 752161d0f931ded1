// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"context"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// The bounds of v1alpha1.Answer.
const (
	maxAnswerItems = 12
	maxAnswerItem  = 512
	maxUserAnswer  = 2000
)

// adviceSchema is the strict JSON schema of the answer stage's answer. It is never changed.
var adviceSchema = map[string]any{
	"type": "object",
	"properties": map[string]any{
		"disposal_steps":  map[string]any{"type": "array", "items": map[string]any{"type": "string"}},
		"insufficiencies": map[string]any{"type": "array", "items": map[string]any{"type": "string"}},
		"user_answer":     map[string]any{"type": "string"},
	},
	"required":             []any{"disposal_steps", "insufficiencies", "user_answer"},
	"additionalProperties": false,
}

// answer has the advice written. Without a rule there is nothing to ground it in: the fixed answer stands, as
// it does when the rule stage itself finds none.
func (r *Runner) answer(ctx context.Context, scan Scan) pipeline.Outcome {
	if scan.Result.Classification != nil && scan.Result.DisposalRules == nil {
		return pipeline.Outcome{
			State: v1alpha1.StageSkipped, Reason: v1alpha1.ReasonNoRuleFound, Message: noRuleMessage,
			Result: v1alpha1.ScanResult{Answer: noRuleAnswer(r.pack, scan)},
		}
	}
	text, outcome := r.call(ctx, scan, v1alpha1.StageAnswer)
	if outcome.Failure != nil {
		return outcome
	}
	advice, failure := parseAnswer(text)
	if failure != nil {
		outcome.Failure, outcome.Message = failure, failure.Message
		return outcome
	}
	outcome.Result.Answer = advice
	return outcome
}

// parseAnswer reads and validates the answer stage's answer.
func parseAnswer(text string) (*v1alpha1.Answer, *pipeline.Failure) {
	var answer struct {
		DisposalSteps   []string `json:"disposal_steps"`
		Insufficiencies []string `json:"insufficiencies"`
		UserAnswer      string   `json:"user_answer"`
	}
	if failure := decodeAnswer(text, &answer); failure != nil {
		return nil, failure
	}
	advice := &v1alpha1.Answer{
		DisposalSteps:   cleanList(answer.DisposalSteps, maxAnswerItems, maxAnswerItem),
		Insufficiencies: cleanList(answer.Insufficiencies, maxAnswerItems, maxAnswerItem),
		UserAnswer:      clean(answer.UserAnswer, maxUserAnswer),
	}
	if advice.UserAnswer == "" {
		return nil, invalidOutput("the answer has no text for the user")
	}
	return advice, nil
}
