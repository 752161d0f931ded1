// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/pipeline/pricing"
)

// Estimate is what a call is charged at admission, in tokens.
type Estimate struct {
	// Prompt is for the messages' characters, Image for the image, Output for the output limit.
	Prompt, Image, Output int64
}

// Total is the whole charge: the sum of the parts, as observed charges show, although the provider's guide describes it
// as their maximum.
func (e Estimate) Total() int64 { return e.Prompt + e.Image + e.Output }

// EstimateCall estimates what the provider charges a call at admission. It is an upper bound: the image's size
// is unknown, so the largest is assumed.
func EstimateCall(call Call) Estimate {
	e := Estimate{
		Prompt: pricing.PromptTokens(call.Instructions) + pricing.PromptTokens(call.Text),
		Output: int64(max(call.MaxOutputTokens, 0)),
	}
	if call.ImageURL != "" {
		e.Image = pricing.MaxImageTokens(call.Model, call.ImageDetail)
	}
	return e
}

// EstimateStage estimates what the call of a scan's assigned stage is charged at admission, in tokens. Of the
// assignment it reads stage, model, output limit and image detail (empty means low). It is zero for a stage that
// sends no call.
func EstimateStage(pack *knowledge.Pack, scan Scan) int64 {
	call, ok := StageCall(pack, scan)
	if !ok {
		return 0
	}
	return EstimateCall(call).Total()
}
