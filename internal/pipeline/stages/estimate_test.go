// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"fmt"
	"strings"
	"testing"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
)

func TestEstimateCall(t *testing.T) {
	call := Call{Instructions: strings.Repeat("a", 400), Text: strings.Repeat("가", 40), MaxOutputTokens: 300}
	want := Estimate{Prompt: 102 + 12, Output: 300}
	if got := EstimateCall(call); got != want {
		t.Errorf("without an image: got %+v, want %+v", got, want)
	}
	call.ImageURL, call.Model, call.ImageDetail = "https://images.example/1.jpg", "gpt-4o", v1alpha1.ImageDetailHigh
	want.Image = 1445
	if got := EstimateCall(call); got != want {
		t.Errorf("with an image: got %+v, want %+v", got, want)
	}
	if got := EstimateCall(call).Total(); got != 102+12+1445+300 {
		t.Errorf("the total is %d", got)
	}
}

// The scheduler reserves the price of the call that the worker sends.
func TestEstimateStageIsThePriceOfTheCall(t *testing.T) {
	pack := knowledge.Default()
	scan := classifiedScan()
	for _, stage := range pipeline.Stages {
		scan.Assignment.Stage = stage
		want := int64(0)
		if call, ok := StageCall(pack, scan); ok {
			want = EstimateCall(call).Total()
		}
		if got := EstimateStage(pack, scan); got != want {
			t.Errorf("%s: estimated %d, the call is priced %d", stage, got, want)
		}
		if pipeline.NeedsTokens(stage) != (want > 0) {
			t.Errorf("%s is priced %d", stage, want)
		}
	}
	scan.Result.DisposalRules, scan.Assignment.Stage = nil, v1alpha1.StageAnswer
	if got := EstimateStage(pack, scan); got != 0 {
		t.Errorf("an answer without a rule sends no call, but is priced %d", got)
	}
}

// The scheduler estimates each scan it looks at.
func BenchmarkEstimateStage(b *testing.B) {
	pack, scan := knowledge.Default(), classifiedScan()
	for _, stage := range []v1alpha1.StageName{v1alpha1.StageVision, v1alpha1.StageAnswer} {
		scan.Assignment = v1alpha1.Assignment{Stage: stage, Model: "gpt-5.4-mini", MaxOutputTokens: 800, ImageDetail: v1alpha1.ImageDetailLow}
		b.Run(string(stage), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if EstimateStage(pack, scan) == 0 {
					b.Fatal("no price")
				}
			}
		})
	}
}

func ExampleEstimateCall() {
	call := Call{Model: "gpt-4o", Instructions: "Classify.", ImageURL: "https://images.example/1.jpg", MaxOutputTokens: 300}
	e := EstimateCall(call)
	fmt.Printf("prompt %d + image %d + output %d = %d", e.Prompt, e.Image, e.Output, e.Total())
	// Output: prompt 6 + image 85 + output 300 = 391
}
