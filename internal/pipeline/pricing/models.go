// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pricing

import (
	"strings"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// family is what a family of models has in common, as far as this package cares.
type family struct {
	// prices turns an image into tokens.
	prices imagePrices
	// effort is the least reasoning effort the family accepts; empty for models that do not reason. Reasoning
	// counts as output, and neither stage has a use for it: at the default of "medium" it may use up the whole
	// output limit before the answer begins.
	effort string
}

// The families and their prices, from the provider's vision guide. The longest name that a model's name begins
// with counts. Levels the guide does not mention have the family's largest one.
var (
	// all2048 is 2048 px and 6144 patches at every level.
	all2048 = patchLimit{side: 2048, patches: 6144}
	// original is what the newest families allow at "original".
	original = patchLimit{side: 6000, patches: 10000}
	high2500 = patchLimit{side: 2048, patches: 2500}

	gpt56 = patchPrices{hundredths: 120, low: patchLimit{side: 512}, high: high2500, auto: patchLimit{side: 65535}}
	gpt55 = patchPrices{hundredths: 120, low: patchLimit{side: 512}, high: high2500, auto: original}
	gpt54 = patchPrices{hundredths: 120, low: all2048, high: high2500, auto: original}

	families = map[string]family{
		"gpt-5.6":      {gpt56, "low"},
		"gpt-5.5":      {gpt55, "low"},
		"gpt-5.4":      {gpt54, "none"},
		"gpt-5.2":      {everyLevel(120, all2048), "none"},
		"gpt-5.1":      {tilePrices{70, 140}, "none"},
		"gpt-5":        {tilePrices{70, 140}, "minimal"},
		"gpt-5-mini":   {everyLevel(120, all2048), "minimal"},
		"gpt-5-nano":   {everyLevel(150, all2048), "minimal"},
		"gpt-4.1":      {tilePrices{85, 170}, ""},
		"gpt-4.1-mini": {everyLevel(162, all2048), ""},
		"gpt-4.1-nano": {everyLevel(246, all2048), ""},
		"gpt-4o":       {tilePrices{85, 170}, ""},
		"gpt-4o-mini":  {tilePrices{2833, 5667}, ""},
		"o1":           {tilePrices{75, 150}, "low"},
		"o3":           {tilePrices{75, 150}, "low"},
		"o4-mini":      {everyLevel(172, all2048), "low"},
	}

	// unknownFamily prices a model that no family is known for: the largest patch multiplier that was ever
	// published, and the largest images. It reserves too much rather than too little; the ledger learns the
	// real charge from the provider's headers.
	unknownFamily = family{prices: patchPrices{hundredths: 246, low: all2048, high: all2048, auto: original}}
)

// sizes are the members of a family that take its reasoning effort like the plain name does. Others ("-pro",
// "-chat-latest", "-codex") have rules of their own, and get no effort.
var sizes = []string{"-mini", "-nano", "-sol", "-terra", "-luna"}

// takesEffort reports whether the rest of a model's name, after its family's, is a size, a snapshot date, or both.
func takesEffort(rest string) bool {
	for _, size := range sizes {
		if cut, ok := strings.CutPrefix(rest, size); ok {
			rest = cut
			break
		}
	}
	if rest == "" {
		return true
	}
	_, err := time.Parse("-"+time.DateOnly, rest)
	return err == nil
}

// ReasoningEffort is the least reasoning effort that a model accepts; empty for models that do not reason or whose
// rules are not known.
func ReasoningEffort(model string) string { return lookUpFamily(model).effort }

// lookUpFamily finds a model's family. It sees through a vendor prefix ("openai/gpt-4o") and the name of a
// fine-tuned model ("ft:gpt-4o-2024-08-06:org::id").
func lookUpFamily(model string) family {
	model = model[strings.LastIndexByte(model, '/')+1:]
	if tuned, ok := strings.CutPrefix(model, "ft:"); ok {
		model, _, _ = strings.Cut(tuned, ":")
	}
	for end := len(model); end > 0; end = strings.LastIndexByte(model[:end], '-') {
		if f, ok := families[model[:end]]; ok {
			if !takesEffort(model[end:]) {
				f.effort = ""
			}
			return f
		}
	}
	return unknownFamily
}

// imagePrices turns images into tokens.
type imagePrices interface {
	// tokens is the price of an image of w × h pixels.
	tokens(detail v1alpha1.ImageDetail, w, h int) int64
	// most is the price of the most expensive image there is.
	most(detail v1alpha1.ImageDetail) int64
}
