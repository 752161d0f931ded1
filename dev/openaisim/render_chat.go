// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"encoding/json"
	"time"
)

// chatDocument is the reply of POST /v1/chat/completions.
type chatDocument struct {
	ID                string       `json:"id"`
	Object            string       `json:"object"`
	Created           int64        `json:"created"`
	Model             string       `json:"model"`
	Choices           []chatChoice `json:"choices"`
	Usage             chatUsage    `json:"usage"`
	ServiceTier       string       `json:"service_tier"`
	SystemFingerprint string       `json:"system_fingerprint"`
}

type chatChoice struct {
	Index        int             `json:"index"`
	Message      chatReply       `json:"message"`
	Logprobs     json.RawMessage `json:"logprobs"`
	FinishReason *string         `json:"finish_reason"`
}

type chatReply struct {
	Role        string     `json:"role"`
	Content     *string    `json:"content"`
	Refusal     *string    `json:"refusal"`
	Annotations []struct{} `json:"annotations"`
}

type chatUsage struct {
	PromptTokens        int64 `json:"prompt_tokens"`
	CompletionTokens    int64 `json:"completion_tokens"`
	TotalTokens         int64 `json:"total_tokens"`
	PromptTokensDetails struct {
		CachedTokens int64 `json:"cached_tokens"`
		AudioTokens  int64 `json:"audio_tokens"`
		ImageTokens  int64 `json:"image_tokens"`
	} `json:"prompt_tokens_details"`
	CompletionTokensDetails struct {
		ReasoningTokens          int64 `json:"reasoning_tokens"`
		AudioTokens              int64 `json:"audio_tokens"`
		AcceptedPredictionTokens int64 `json:"accepted_prediction_tokens"`
		RejectedPredictionTokens int64 `json:"rejected_prediction_tokens"`
	} `json:"completion_tokens_details"`
}

// jsonNull is an explicit null.
var jsonNull = json.RawMessage("null")

// chatUsageOf is the usage of an answer as this endpoint writes it.
func chatUsageOf(a *answer) chatUsage {
	u := chatUsage{
		PromptTokens: a.usage.input, CompletionTokens: a.usage.output, TotalTokens: a.usage.input + a.usage.output,
	}
	u.PromptTokensDetails.CachedTokens = a.usage.cached
	u.PromptTokensDetails.ImageTokens = a.usage.image
	return u
}

// reason is the name of a finish on this endpoint. A refusal ends like any other
// message.
func (f finish) reason() *string {
	reason := "stop"
	switch f {
	case finishLength:
		reason = "length"
	case finishFilter:
		reason = "content_filter"
	case finishStop, finishRefusal:
	}
	return &reason
}

// chatCompletion is the document of an answer.
func chatCompletion(c *call, a *answer, now time.Time) *chatDocument {
	d := chatDocument{
		ID: newID("chatcmpl-"), Object: "chat.completion", Created: now.Unix(), Model: c.modelName, Choices: []chatChoice{},
		Usage: chatUsageOf(a), ServiceTier: c.serviceTier, SystemFingerprint: "fp_simulated",
	}
	for i := range a.choices {
		one := &a.choices[i]
		message := chatReply{Role: "assistant", Content: &one.text, Annotations: []struct{}{}}
		if one.finish == finishRefusal {
			message.Content, message.Refusal = nil, &one.text
		}
		d.Choices = append(d.Choices, chatChoice{Index: i, Message: message, Logprobs: jsonNull, FinishReason: one.finish.reason()})
	}
	return &d
}
