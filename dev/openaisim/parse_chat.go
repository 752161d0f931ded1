// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"encoding/json"
	"fmt"
)

// chatBody is the body of POST /v1/chat/completions.
type chatBody struct {
	Model               string          `json:"model"`
	Messages            []chatMessage   `json:"messages"`
	MaxCompletionTokens *int64          `json:"max_completion_tokens"`
	MaxTokens           *int64          `json:"max_tokens"`
	N                   *int64          `json:"n"`
	Temperature         *float64        `json:"temperature"`
	TopP                *float64        `json:"top_p"`
	ServiceTier         string          `json:"service_tier"`
	ResponseFormat      json.RawMessage `json:"response_format"`

	// Accepted and without effect on the simulation.
	FrequencyPenalty     json.RawMessage `json:"frequency_penalty"`
	PresencePenalty      json.RawMessage `json:"presence_penalty"`
	PromptCacheKey       json.RawMessage `json:"prompt_cache_key"`
	PromptCacheRetention json.RawMessage `json:"prompt_cache_retention"`
	PromptCacheOptions   json.RawMessage `json:"prompt_cache_options"`
	SafetyIdentifier     json.RawMessage `json:"safety_identifier"`
	Seed                 json.RawMessage `json:"seed"`
	Store                json.RawMessage `json:"store"`
	ParallelToolCalls    json.RawMessage `json:"parallel_tool_calls"`
	User                 json.RawMessage `json:"user"`
	Metadata             json.RawMessage `json:"metadata"`
	ReasoningEffort      json.RawMessage `json:"reasoning_effort"`
	Verbosity            json.RawMessage `json:"verbosity"`
	ToolChoice           json.RawMessage `json:"tool_choice"`

	// Known to the provider and not simulated.
	Stream           json.RawMessage `json:"stream"`
	StreamOptions    json.RawMessage `json:"stream_options"`
	Logprobs         json.RawMessage `json:"logprobs"`
	TopLogprobs      json.RawMessage `json:"top_logprobs"`
	LogitBias        json.RawMessage `json:"logit_bias"`
	Stop             json.RawMessage `json:"stop"`
	Audio            json.RawMessage `json:"audio"`
	Modalities       json.RawMessage `json:"modalities"`
	Moderation       json.RawMessage `json:"moderation"`
	FunctionCall     json.RawMessage `json:"function_call"`
	Functions        json.RawMessage `json:"functions"`
	Prediction       json.RawMessage `json:"prediction"`
	Tools            json.RawMessage `json:"tools"`
	WebSearchOptions json.RawMessage `json:"web_search_options"`
}

// chatMessage is one message of a chat.
type chatMessage struct {
	message
	Name    string  `json:"name"`
	Refusal *string `json:"refusal"`
}

// maxChoices bounds n.
const maxChoices = 128

// parseChat reads a request to the chat completions endpoint.
func parseChat(c *call, body []byte, s *settings) *apiError {
	var b chatBody
	if apiErr := c.decode(body, &b, &b.Model, s); apiErr != nil {
		return apiErr
	}
	if apiErr := unsimulated(map[string]json.RawMessage{
		"stream": b.Stream, "stream_options": b.StreamOptions, "logprobs": b.Logprobs, "top_logprobs": b.TopLogprobs, "logit_bias": b.LogitBias, "stop": b.Stop, "audio": b.Audio,
		"moderation": b.Moderation, "function_call": b.FunctionCall, "functions": b.Functions, "prediction": b.Prediction,
		"tools": b.Tools, "web_search_options": b.WebSearchOptions,
	}); apiErr != nil {
		return apiErr
	}
	if m := string(b.Modalities); isSet(b.Modalities) && m != `["text"]` {
		return invalid("modalities", "invalid_value", "Invalid value for 'modalities': this simulation only knows [\"text\"].")
	}
	if apiErr := c.parseChatLimits(&b); apiErr != nil {
		return apiErr
	}
	if apiErr := c.setSampling(b.ServiceTier, b.Temperature, b.TopP); apiErr != nil {
		return apiErr
	}
	var apiErr *apiError
	if c.format, apiErr = parseChatFormat(b.ResponseFormat); apiErr != nil {
		return apiErr
	}
	return c.addChatMessages(b.Messages)
}

// parseChatLimits reads the output limit, under either of its names, and n.
func (c *call) parseChatLimits(b *chatBody) *apiError {
	name, value := "max_completion_tokens", b.MaxCompletionTokens
	if b.MaxTokens != nil {
		switch {
		case c.model.reasoning:
			return invalid("max_tokens", "unsupported_parameter",
				"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.")
		case value != nil:
			return invalid("max_tokens", "invalid_parameter_combination",
				"Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.")
		}
		name, value = "max_tokens", b.MaxTokens
	}
	var apiErr *apiError
	if c.maxOutput, apiErr = positive(name, value, 1); apiErr != nil {
		return apiErr
	}
	if b.N != nil {
		if c.choices, apiErr = positive("n", b.N, 1); apiErr != nil {
			return apiErr
		}
		if c.choices > maxChoices {
			return invalid("n", "integer_above_max_value",
				"Invalid 'n': integer above maximum value. Expected a value <= %d, but got %d instead.", maxChoices, c.choices)
		}
	}
	return nil
}

// addChatMessages adds the conversation to the prompt.
func (c *call) addChatMessages(messages []chatMessage) *apiError {
	if len(messages) == 0 {
		return invalid("messages", "empty_array", "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.")
	}
	for i := range messages {
		if apiErr := c.add(&messages[i].message, fmt.Sprintf("messages[%d]", i)); apiErr != nil {
			return apiErr
		}
	}
	c.finish()
	return nil
}
