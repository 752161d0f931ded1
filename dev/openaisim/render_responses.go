// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"time"
)

// responseDocument is the reply of POST /v1/responses.
type responseDocument struct {
	ID                string             `json:"id"`
	Object            string             `json:"object"`
	CreatedAt         int64              `json:"created_at"`
	Status            string             `json:"status"`
	Background        bool               `json:"background"`
	Error             *responseError     `json:"error"`
	IncompleteDetails *incompleteDetails `json:"incomplete_details"`
	MaxOutputTokens   *int64             `json:"max_output_tokens"`
	Model             string             `json:"model"`
	Output            []responseMessage  `json:"output"`
	ParallelToolCalls bool               `json:"parallel_tool_calls"`
	ServiceTier       string             `json:"service_tier"`
	Store             bool               `json:"store"`
	Temperature       float64            `json:"temperature"`
	ToolChoice        string             `json:"tool_choice"`
	Tools             []struct{}         `json:"tools"`
	TopP              float64            `json:"top_p"`
	Truncation        string             `json:"truncation"`
	Usage             *responseUsage     `json:"usage"`
	Metadata          struct{}           `json:"metadata"`
}

type responseError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

type incompleteDetails struct {
	Reason string `json:"reason"`
}

type responseMessage struct {
	ID      string            `json:"id"`
	Type    string            `json:"type"`
	Status  string            `json:"status"`
	Role    string            `json:"role"`
	Content []responseContent `json:"content"`
}

// responseContent is an output_text or a refusal.
type responseContent struct {
	Type        string      `json:"type"`
	Annotations *[]struct{} `json:"annotations,omitempty"`
	Logprobs    *[]struct{} `json:"logprobs,omitempty"`
	Text        *string     `json:"text,omitempty"`
	Refusal     *string     `json:"refusal,omitempty"`
}

type responseUsage struct {
	InputTokens        int64 `json:"input_tokens"`
	InputTokensDetails struct {
		CachedTokens int64 `json:"cached_tokens"`
	} `json:"input_tokens_details"`
	OutputTokens        int64 `json:"output_tokens"`
	OutputTokensDetails struct {
		ReasoningTokens int64 `json:"reasoning_tokens"`
	} `json:"output_tokens_details"`
	TotalTokens int64 `json:"total_tokens"`
}

// newResponse is a response without output.
func newResponse(c *call, now time.Time, status string) *responseDocument {
	d := &responseDocument{
		ID: newID("resp_"), Object: "response", CreatedAt: now.Unix(), Status: status, Model: c.modelName,
		Output: []responseMessage{}, ParallelToolCalls: true, ServiceTier: c.serviceTier, Store: true, Temperature: 1,
		ToolChoice: "auto", Tools: []struct{}{}, TopP: 1, Truncation: "disabled",
	}
	if c.maxOutput > 0 {
		d.MaxOutputTokens = &c.maxOutput
	}
	return d
}

// failedResponse is a 200 that reports a failure in its body.
func failedResponse(c *call, now time.Time, code string) *responseDocument {
	d := newResponse(c, now, "failed")
	d.Error = &responseError{Code: code, Message: "An error occurred while processing your request."}
	return d
}

// response is the document of an answer.
func response(c *call, a *answer, now time.Time) *responseDocument {
	one := a.choices[0]
	d := newResponse(c, now, "completed")
	switch one.finish {
	case finishLength:
		d.Status, d.IncompleteDetails = "incomplete", &incompleteDetails{"max_output_tokens"}
	case finishFilter:
		d.Status, d.IncompleteDetails = "incomplete", &incompleteDetails{"content_filter"}
	case finishStop, finishRefusal:
	}
	content := responseContent{Type: "output_text", Annotations: &[]struct{}{}, Logprobs: &[]struct{}{}, Text: &one.text}
	if one.finish == finishRefusal {
		content = responseContent{Type: "refusal", Refusal: &one.text}
	}
	d.Output = append(d.Output, responseMessage{
		ID: newID("msg_"), Type: "message", Status: d.Status, Role: "assistant", Content: []responseContent{content},
	})
	d.Usage = &responseUsage{
		InputTokens: a.usage.input, OutputTokens: a.usage.output, TotalTokens: a.usage.input + a.usage.output,
	}
	d.Usage.InputTokensDetails.CachedTokens = a.usage.cached
	return d
}
