// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"hash/fnv"
	"slices"
	"strings"
	"unicode/utf8"
)

// endpoint is one provider operation.
type endpoint string

const (
	endpointResponses   endpoint = "/v1/responses"
	endpointChat        endpoint = "/v1/chat/completions"
	endpointInputTokens endpoint = "/v1/responses/input_tokens"
	endpointModels      endpoint = "/v1/models"
)

// role of a message. Only the distinction between the user and the rest
// matters: answers are written in the user's language.
type role byte

const (
	roleUser role = iota + 1
	roleInstructions
	roleAssistant
)

// part is a piece of the prompt: text or an image.
type part struct {
	role  role
	text  string
	image *imageRef
}

// call is a parsed request, whichever endpoint it came to.
type call struct {
	endpoint     endpoint
	key          string
	organization string
	modelName    string
	model        *model

	parts  []part
	images []*imageRef
	format *outputFormat
	// maxOutput is the output limit in tokens, 0 for none.
	maxOutput   int64
	choices     int64
	serviceTier string

	// hash identifies the request body; it is the same in every run.
	hash uint64

	// promptEstimate is what admission charges for the prompt, images
	// included; inputTokens is what the prompt really uses.
	promptEstimate int64
	inputTokens    int64
}

// stage is vision for a call that shows an image.
func (c *call) stage() Stage {
	if len(c.images) > 0 {
		return StageVision
	}
	return StageAnswer
}

// addMessage puts one message into the prompt and counts it.
func (c *call) addMessage(r role, parts []part) {
	chars, quarters := int64(0), int64(0)
	for _, p := range parts {
		p.role = r
		c.parts = append(c.parts, p)
		if p.image != nil {
			p.image.tokens = c.model.image(p.image.width, p.image.height, p.image.detail)
			c.promptEstimate += p.image.tokens
			c.inputTokens += p.image.tokens
			c.images = append(c.images, p.image)
			continue
		}
		chars += int64(utf8.RuneCountInString(p.text))
		_, q := fit(p.text, -1)
		quarters += q
	}
	c.promptEstimate += estimateMessage(chars)
	c.inputTokens += wholeTokens(quarters) + messageOverhead
}

// finish counts what does not belong to one message.
func (c *call) finish() {
	c.inputTokens += replyOverhead
	if c.format != nil {
		c.inputTokens += countTokens(string(c.format.raw))
	}
}

// charge is what the call costs at admission.
func (c *call) charge(mode ChargeMode) int64 {
	output := c.maxOutput * c.choices
	if mode == ChargeMax {
		return max(c.promptEstimate, output)
	}
	return c.promptEstimate + output
}

// korean reports whether the last user message is written in Hangul.
func (c *call) korean() bool {
	for _, p := range slices.Backward(c.parts) {
		if p.role == roleUser && p.image == nil {
			return strings.ContainsFunc(p.text, func(r rune) bool { return classify(r) == classHangul })
		}
	}
	return false
}

// hints are the values that generated enums should show: the classification
// that the last image carries, from most to least specific.
func (c *call) hints(classes []string) []string {
	if len(c.images) == 0 {
		return nil
	}
	img := c.images[len(c.images)-1]
	class := img.class
	if class == "" && len(classes) > 0 {
		class = classes[hashBytes([]byte(img.url))%uint64(len(classes))]
	}
	if class == "" {
		return nil
	}
	hints := []string{class}
	levels := strings.Split(class, "/")
	for _, level := range slices.Backward(levels) {
		hints = append(hints, strings.TrimSpace(level))
	}
	return hints
}

// hashBytes is a hash that is the same in every run.
func hashBytes(b []byte) uint64 {
	h := fnv.New64a()
	h.Write(b)
	return h.Sum64()
}
