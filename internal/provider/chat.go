// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"encoding/json"
	"fmt"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/shared"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/clip"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/stages"
)

// chatParams converts a call to parameters of the Chat Completions API.
func chatParams(call stages.Call) openai.ChatCompletionNewParams {
	user := openai.UserMessage(call.Text)
	if call.ImageURL != "" {
		user = openai.UserMessage([]openai.ChatCompletionContentPartUnionParam{
			openai.TextContentPart(call.Text),
			openai.ImageContentPart(openai.ChatCompletionContentPartImageImageURLParam{URL: call.ImageURL, Detail: detailOf(call)}),
		})
	}
	params := openai.ChatCompletionNewParams{
		Model:               call.Model,
		MaxCompletionTokens: openai.Int(int64(call.MaxOutputTokens)),
		Store:               openai.Bool(false),
		Messages:            []openai.ChatCompletionMessageParamUnion{openai.SystemMessage(call.Instructions), user},
		ResponseFormat: openai.ChatCompletionNewParamsResponseFormatUnion{OfJSONSchema: &shared.ResponseFormatJSONSchemaParam{
			JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{
				Name: call.SchemaName, Schema: call.Schema, Strict: openai.Bool(true),
			},
		}},
	}
	if call.CacheKey != "" {
		params.PromptCacheKey = openai.String(call.CacheKey)
	}
	if call.ReasoningEffort != "" {
		params.ReasoningEffort = shared.ReasoningEffort(call.ReasoningEffort)
	}
	return params
}

// readChat reads a response of the Chat Completions API. Most failures have a usage too.
func readChat(raw []byte, key string) (string, v1alpha1.TokenUsage, *pipeline.Failure) {
	var c openai.ChatCompletion
	if err := json.Unmarshal(raw, &c); err != nil {
		return "", v1alpha1.TokenUsage{}, outputFailure("the provider's answer is not a chat completion", err.Error())
	}
	usage := usageOf(c.Usage.PromptTokens, c.Usage.PromptTokensDetails.CachedTokens, c.Usage.CompletionTokens)
	if len(c.Choices) == 0 {
		// Some compatible providers report errors with status 200.
		if e := parseError(raw); e != (providerError{}) {
			return "", usage, inBandFailure(e, key)
		}
		return "", usage, outputFailure("the provider's answer has no choices", "")
	}
	choice := c.Choices[0]
	switch {
	case choice.Message.Refusal != "":
		return "", usage, refusedFailure("refusal", choice.Message.Refusal, key)
	case choice.FinishReason == "content_filter":
		return "", usage, refusedFailure("content_filter", "the provider's content filter stopped the answer", key)
	case choice.FinishReason == "length":
		return "", usage, truncatedFailure()
	case choice.Message.Content == "":
		return "", usage, outputFailure("the provider's answer is empty",
			fmt.Sprintf("it finished with %q", clip.Bytes(scrub(choice.FinishReason, key), maxCode)))
	}
	return choice.Message.Content, usage, nil
}
