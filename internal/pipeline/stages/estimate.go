package stages

import (
	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/pipeline/pricing"
)

// Estimate is what a call is charged at admission, in tokens.
type Estimate struct {
	// Prompt is for the messages' characters, Image for the image, Output for the output limit.
	Prompt, Image, Output int64
}

// Total is the whole charge: the parts add up, as the samples show, though the provider's guide speaks of the
// maximum.
func (e Estimate) Total() int64 { return e.Prompt + e.Image + e.Output }

// EstimateCall estimates what the provider charges a call at admission. It is an upper bound: the image's size
// is unknown, so it is taken to be the most expensive one.
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

// EstimateStage estimates what the call of a scan's stage is charged at admission, in tokens. It is zero for a
// stage that sends no call. An empty detail means low.
func EstimateStage(pack *knowledge.Pack, spec v1alpha1.ScanRequestSpec, result v1alpha1.ScanResult, stage v1alpha1.StageName,
	model string, maxOutput int32, detail v1alpha1.ImageDetail,
) int64 {
	call, ok := StageCall(pack, Scan{Spec: spec, Result: result, Assignment: v1alpha1.Assignment{
		Stage: stage, Model: model, MaxOutputTokens: maxOutput, ImageDetail: detail,
	}})
	if !ok {
		return 0
	}
	return EstimateCall(call).Total()
}
