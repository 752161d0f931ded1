// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
)

// The bounds of v1alpha1.Classification and v1alpha1.ScanResult.
const (
	maxMinorCategory = 256
	maxSituationTags = 16
)

// vision has the image classified.
func (r *Runner) vision(ctx context.Context, scan Scan) pipeline.Outcome {
	text, outcome := r.call(ctx, scan, v1alpha1.StageVision)
	if outcome.Failure != nil {
		return outcome
	}
	class, tags, failure := parseVision(r.pack, text)
	if failure != nil {
		outcome.Failure, outcome.Message = failure, failure.Message
		return outcome
	}
	outcome.Result.Classification, outcome.Result.SituationTags = class, tags
	outcome.Message = categoryOf(class)
	return outcome
}

// visionAnswer is the vision stage's answer, of the pack's VisionSchema.
type visionAnswer struct {
	Classification *struct {
		MajorCategory  string `json:"major_category"`
		MiddleCategory string `json:"middle_category"`
		MinorCategory  string `json:"minor_category"`
	} `json:"classification"`
	SituationTags []string `json:"situation_tags"`
}

// parseVision reads and validates the vision stage's answer. A provider that honors strict schemas can send
// nothing else than the taxonomy; others can, and any model can say that it is none of the classes.
func parseVision(pack *knowledge.Pack, text string) (*v1alpha1.Classification, []string, *pipeline.Failure) {
	var answer visionAnswer
	if failure := decodeAnswer(text, &answer); failure != nil {
		return nil, nil, failure
	}
	if answer.Classification == nil || answer.Classification.MajorCategory == "" {
		return nil, nil, invalidOutput("the answer names no class of waste")
	}
	major := answer.Classification.MajorCategory
	if major == pack.Unclassifiable {
		return nil, nil, &pipeline.Failure{
			Class: v1alpha1.FailureNotClassifiable,
			Message: "the photo shows nothing that the knowledge pack has a class for; " +
				"take a photo of the thing itself, near and in good light",
		}
	}
	class := &v1alpha1.Classification{
		MajorCategory:  major,
		MiddleCategory: answer.Classification.MiddleCategory,
		MinorCategory:  clean(answer.Classification.MinorCategory, maxMinorCategory),
	}
	if !pack.Contains(class.MajorCategory, class.MiddleCategory) {
		return nil, nil, &pipeline.Failure{
			Class: v1alpha1.FailureNotClassifiable,
			Message: fmt.Sprintf("the model's class %q is outside the taxonomy of the knowledge pack; "+
				"use a model that honors strict JSON schemas, or add the class to taxonomy.yaml", clean(categoryOf(class), maxMinorCategory)),
		}
	}
	var tags []string
	for _, tag := range answer.SituationTags {
		if len(tags) < maxSituationTags && slices.Contains(pack.SituationTags, tag) && !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return class, tags, nil
}

// decodeAnswer reads a model's JSON. Fields it does not know are ignored: they do no harm.
func decodeAnswer(text string, into any) *pipeline.Failure {
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return invalidOutput("the answer is not the JSON that was asked for: %v", err)
	}
	return nil
}

// invalidOutput is an unusable answer. Another attempt may succeed.
func invalidOutput(format string, args ...any) *pipeline.Failure {
	return &pipeline.Failure{
		Class:   v1alpha1.FailureInvalidOutput,
		Message: fmt.Sprintf(format, args...) + "; if this is frequent, use a model that honors strict JSON schemas",
	}
}
