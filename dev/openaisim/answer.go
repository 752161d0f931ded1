// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import "unicode/utf8"

// finish is why an answer ended.
type finish int

const (
	finishStop finish = iota
	finishLength
	finishFilter
	finishRefusal
)

// choice is one of the answers to a call.
type choice struct {
	text   string
	finish finish
}

// answer is what the model produced, before an endpoint gives it its form.
type answer struct {
	choices []choice
	usage   usage
}

// usage is what a call really used, in tokens.
type usage struct {
	input, cached, image, output int64
}

const (
	refusalText       = "I'm sorry, but I can't help with that request."
	refusalTextKorean = "죄송하지만 그 요청은 도와드릴 수 없습니다."
)

// newAnswer generates the answers to a call, spoiled by a fault.
func newAnswer(c *call, config *Config, fault FaultKind, cached int64) *answer {
	a := &answer{usage: usage{input: c.inputTokens, cached: min(cached, c.inputTokens)}}
	for _, img := range c.images {
		a.usage.image += img.tokens
	}
	for i := range c.choices {
		one := newChoice(c, generateAnswer(c, config, uint64(i)), fault)
		a.usage.output += countTokens(one.text)
		a.choices = append(a.choices, one)
	}
	return a
}

// newChoice applies a fault and the output limit to a generated text.
func newChoice(c *call, text string, fault FaultKind) choice {
	one := choice{text: text}
	switch fault {
	case FaultMalformed:
		one.text = firstPart(text, 2, 3)
	case FaultTruncated:
		one = choice{truncateTokens(text, max(1, countTokens(text)/2)), finishLength}
	case FaultRefusal:
		one = choice{refusalText, finishRefusal}
		if c.korean() {
			one.text = refusalTextKorean
		}
	case FaultContentFilter:
		one = choice{"", finishFilter}
	}
	if c.maxOutput > 0 && countTokens(one.text) > c.maxOutput {
		one.text = truncateTokens(one.text, c.maxOutput)
		if one.finish == finishStop {
			one.finish = finishLength
		}
	}
	return one
}

// firstPart is the first part of a text, numerator/denominator of its bytes,
// cut between runes. Of an object that leaves no valid JSON.
func firstPart(text string, numerator, denominator int) string {
	end := len(text) * numerator / denominator
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}
