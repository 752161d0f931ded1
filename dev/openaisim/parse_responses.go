// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"encoding/json"
	"fmt"
)

// responsesBody is the body of POST /v1/responses and of its token count.
type responsesBody struct {
	Model           string          `json:"model"`
	Input           json.RawMessage `json:"input"`
	Instructions    *string         `json:"instructions"`
	MaxOutputTokens *int64          `json:"max_output_tokens"`
	Temperature     *float64        `json:"temperature"`
	TopP            *float64        `json:"top_p"`
	ServiceTier     string          `json:"service_tier"`
	Text            struct {
		Format    json.RawMessage `json:"format"`
		Verbosity json.RawMessage `json:"verbosity"`
	} `json:"text"`
	Stream json.RawMessage `json:"stream"`

	// Accepted and without effect on the simulation.
	MaxToolCalls         json.RawMessage `json:"max_tool_calls"`
	ParallelToolCalls    json.RawMessage `json:"parallel_tool_calls"`
	PromptCacheKey       json.RawMessage `json:"prompt_cache_key"`
	PromptCacheRetention json.RawMessage `json:"prompt_cache_retention"`
	PromptCacheOptions   json.RawMessage `json:"prompt_cache_options"`
	SafetyIdentifier     json.RawMessage `json:"safety_identifier"`
	Store                json.RawMessage `json:"store"`
	User                 json.RawMessage `json:"user"`
	Include              json.RawMessage `json:"include"`
	Metadata             json.RawMessage `json:"metadata"`
	Reasoning            json.RawMessage `json:"reasoning"`
	StreamOptions        json.RawMessage `json:"stream_options"`
	ToolChoice           json.RawMessage `json:"tool_choice"`
	TopLogprobs          json.RawMessage `json:"top_logprobs"`
	Truncation           json.RawMessage `json:"truncation"`
	Personality          json.RawMessage `json:"personality"`

	// Known to the provider and not simulated.
	Background         json.RawMessage `json:"background"`
	PreviousResponseID json.RawMessage `json:"previous_response_id"`
	ContextManagement  json.RawMessage `json:"context_management"`
	Conversation       json.RawMessage `json:"conversation"`
	Moderation         json.RawMessage `json:"moderation"`
	Prompt             json.RawMessage `json:"prompt"`
	AccessPrograms     json.RawMessage `json:"access_programs"`
	Tools              json.RawMessage `json:"tools"`
}

// inputItem is one item of a list input; only messages are simulated.
type inputItem struct {
	Type string `json:"type"`
	message
}

// minOutputTokens is the smallest max_output_tokens the responses endpoint
// takes.
const minOutputTokens = 16

// parseResponses reads a request to the responses endpoint.
func parseResponses(c *call, body []byte, s *settings) *apiError {
	var b responsesBody
	if apiErr := c.decode(body, &b, &b.Model, s); apiErr != nil {
		return apiErr
	}
	if apiErr := unsimulated(map[string]json.RawMessage{
		"stream": b.Stream, "background": b.Background, "previous_response_id": b.PreviousResponseID,
		"context_management": b.ContextManagement, "conversation": b.Conversation, "moderation": b.Moderation,
		"prompt": b.Prompt, "access_programs": b.AccessPrograms, "tools": b.Tools,
	}); apiErr != nil {
		return apiErr
	}
	var apiErr *apiError
	if c.maxOutput, apiErr = positive("max_output_tokens", b.MaxOutputTokens, minOutputTokens); apiErr != nil {
		return apiErr
	}
	if apiErr = c.setSampling(b.ServiceTier, b.Temperature, b.TopP); apiErr != nil {
		return apiErr
	}
	if c.format, apiErr = parseResponsesFormat(b.Text.Format); apiErr != nil {
		return apiErr
	}
	if b.Instructions != nil && *b.Instructions != "" {
		c.addMessage(roleInstructions, []part{{text: *b.Instructions}})
	}
	if apiErr = c.addInput(b.Input); apiErr != nil {
		return apiErr
	}
	c.finish()
	return nil
}

// addInput adds the messages of the input: one text, or a list of items.
func (c *call) addInput(raw json.RawMessage) *apiError {
	if len(raw) == 0 || string(raw) == "null" {
		return invalid("input", "missing_required_parameter", "Missing required parameter: 'input'.")
	}
	if raw[0] == '"' {
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return errNotJSON()
		}
		c.addMessage(roleUser, []part{{text: text}})
		return nil
	}
	var items []inputItem
	if err := json.Unmarshal(raw, &items); err != nil {
		return invalid("input", "invalid_type", "Invalid type for 'input': expected one of a string or array of input items.")
	}
	if len(items) == 0 {
		return invalid("input", "empty_array", "Invalid 'input': empty array. Expected an array with minimum length 1, but got an empty array instead.")
	}
	for i := range items {
		at := fmt.Sprintf("input[%d]", i)
		if t := items[i].Type; t != "" && t != "message" {
			return invalid(at+".type", "invalid_value", "Invalid value: '%s'. This simulation only knows 'message'.", t)
		}
		if apiErr := c.add(&items[i].message, at); apiErr != nil {
			return apiErr
		}
	}
	return nil
}
