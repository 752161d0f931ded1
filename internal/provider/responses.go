// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"encoding/json"
	"fmt"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/clip"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/stages"
)

// responsesParams converts a call to parameters of the Responses API.
func responsesParams(call stages.Call) responses.ResponseNewParams {
	var content responses.ResponseInputMessageContentListParam
	if call.Text != "" || call.ImageURL == "" {
		content = append(content, responses.ResponseInputContentParamOfInputText(call.Text))
	}
	if call.ImageURL != "" {
		content = append(content, responses.ResponseInputContentUnionParam{OfInputImage: &responses.ResponseInputImageParam{
			ImageURL: openai.String(call.ImageURL), Detail: responses.ResponseInputImageDetail(detailOf(call)),
		}})
	}
	params := responses.ResponseNewParams{
		Model:           call.Model,
		Instructions:    openai.String(call.Instructions),
		MaxOutputTokens: openai.Int(int64(call.MaxOutputTokens)),
		Store:           openai.Bool(false),
		Input: responses.ResponseNewParamsInputUnion{OfInputItemList: responses.ResponseInputParam{
			responses.ResponseInputItemParamOfMessage(content, responses.EasyInputMessageRoleUser),
		}},
		Text: responses.ResponseTextConfigParam{Format: responses.ResponseFormatTextConfigUnionParam{
			OfJSONSchema: &responses.ResponseFormatTextJSONSchemaConfigParam{
				Name: call.SchemaName, Schema: call.Schema, Strict: openai.Bool(true),
			},
		}},
	}
	if call.CacheKey != "" {
		params.PromptCacheKey = openai.String(call.CacheKey)
	}
	if call.ReasoningEffort != "" {
		params.Reasoning = shared.ReasoningParam{Effort: shared.ReasoningEffort(call.ReasoningEffort)}
	}
	return params
}

// detailOf returns the image detail of a call. Without one it is low, because the provider's default costs more.
func detailOf(call stages.Call) string {
	if call.ImageDetail == "" {
		return string(v1alpha1.ImageDetailLow)
	}
	return string(call.ImageDetail)
}

// readResponse reads a response of the Responses API. Most failures have a usage too.
func readResponse(raw []byte, key string) (string, v1alpha1.TokenUsage, *pipeline.Failure) {
	var r responses.Response
	if err := json.Unmarshal(raw, &r); err != nil {
		return "", v1alpha1.TokenUsage{}, outputFailure("the provider's answer is not a response object", err.Error())
	}
	usage := usageOf(r.Usage.InputTokens, r.Usage.InputTokensDetails.CachedTokens, r.Usage.OutputTokens)
	if refusal, ok := refusalIn(&r); ok {
		return "", usage, refusedFailure("refusal", refusal, key)
	}
	switch r.Status {
	case responses.ResponseStatusCompleted:
	case responses.ResponseStatusFailed:
		return "", usage, inBandFailure(providerError{message: r.Error.Message, code: string(r.Error.Code)}, key)
	case responses.ResponseStatusIncomplete:
		if r.IncompleteDetails.Reason == "content_filter" {
			return "", usage, refusedFailure("content_filter", "the provider's content filter stopped the answer", key)
		}
		return "", usage, truncatedFailure()
	default:
		return "", usage, outputFailure("the provider's answer is not finished", fmt.Sprintf("its status is %q", clip.Bytes(scrub(string(r.Status), key), maxCode)))
	}
	text := r.OutputText()
	if text == "" {
		return "", usage, outputFailure("the provider's answer is empty", "")
	}
	return text, usage, nil
}

// refusalIn returns the text of a refusal.
func refusalIn(r *responses.Response) (string, bool) {
	for i := range r.Output {
		for j := range r.Output[i].Content {
			if part := &r.Output[i].Content[j]; part.Type == "refusal" {
				return part.Refusal, true
			}
		}
	}
	return "", false
}

// usageOf returns the tokens that a call used. Values out of range count as zero.
func usageOf(input, cached, output int64) v1alpha1.TokenUsage {
	count := func(n int64) int64 {
		if n < 0 || n > maxCount {
			return 0
		}
		return n
	}
	return v1alpha1.TokenUsage{Input: count(input), CachedInput: min(count(cached), count(input)), Output: count(output)}
}
