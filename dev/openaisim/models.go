// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"math"
	"regexp"
)

// imagePricing turns an image of w × h pixels at a level of detail into
// tokens.
type imagePricing func(w, h int64, detail string) int64

// model is what the simulation knows about one model.
type model struct {
	name  string
	image imagePricing
	// reasoning models refuse max_tokens on chat completions.
	reasoning bool
	// fixedSampling models refuse temperature and top_p other than 1.
	fixedSampling bool
}

// snapshotSuffix is the date at the end of a dated model name, which shares
// everything with the undated one.
var snapshotSuffix = regexp.MustCompile(`-\d{4}-\d{2}-\d{2}$`)

// catalog is the built-in list of models. [Config.Models] adds to it.
var catalog = buildCatalog()

func buildCatalog() map[string]*model {
	low := func(long float64) patchLimit { return patchLimit{long: long} }
	uniform := func(percent int64) imagePricing {
		every := patchLimit{long: 2048, patches: 6144}
		return patches(percent, every, every, every, every)
	}
	gpt56 := patches(120, low(512), patchLimit{2048, 2500}, low(65535), low(65535))
	gpt55 := patches(120, low(512), patchLimit{2048, 2500}, patchLimit{6000, 10000}, patchLimit{6000, 10000})
	gpt54 := patches(120, patchLimit{2048, 6144}, patchLimit{2048, 2500}, patchLimit{6000, 10000}, patchLimit{2048, 2500})

	all := []*model{
		{name: "gpt-5.6", image: gpt56, reasoning: true},
		{name: "gpt-5.6-sol", image: gpt56, reasoning: true},
		{name: "gpt-5.6-terra", image: gpt56, reasoning: true},
		{name: "gpt-5.6-luna", image: gpt56, reasoning: true},
		{name: "gpt-5.5", image: gpt55, reasoning: true},
		{name: "gpt-5.4", image: gpt54, reasoning: true},
		{name: "gpt-5.4-mini", image: gpt54, reasoning: true},
		{name: "gpt-5.4-nano", image: gpt54, reasoning: true},
		{name: "gpt-5.2", image: uniform(120), reasoning: true},
		{name: "gpt-5.1", image: tiles(70, 140), reasoning: true},
		{name: "gpt-5", image: tiles(70, 140), reasoning: true, fixedSampling: true},
		{name: "gpt-5-mini", image: uniform(120), reasoning: true, fixedSampling: true},
		{name: "gpt-5-nano", image: uniform(150), reasoning: true, fixedSampling: true},
		{name: "gpt-4.1", image: tiles(85, 170)},
		{name: "gpt-4.1-mini", image: uniform(162)},
		{name: "gpt-4.1-nano", image: uniform(246)},
		{name: "gpt-4o", image: tiles(85, 170)},
		{name: "gpt-4o-mini", image: tiles(2833, 5667)},
		{name: "o1", image: tiles(75, 150), reasoning: true, fixedSampling: true},
		{name: "o1-pro", image: tiles(75, 150), reasoning: true, fixedSampling: true},
		{name: "o3", image: tiles(75, 150), reasoning: true, fixedSampling: true},
		{name: "o4-mini", image: uniform(172), reasoning: true, fixedSampling: true},
	}
	byName := make(map[string]*model, len(all))
	for _, m := range all {
		byName[m.name] = m
	}
	return byName
}

// The levels of detail a request may ask for. Absent means auto.
const (
	detailLow      = "low"
	detailHigh     = "high"
	detailOriginal = "original"
	detailAuto     = "auto"
)

// tiles prices the models that cut an image into 512 px tiles: base tokens for
// the thumbnail, which is all that low detail sees, and per tokens for each
// tile after fitting the image into 2048 × 2048 and its short side into 768.
func tiles(base, per int64) imagePricing {
	return func(w, h int64, detail string) int64 {
		if detail == detailLow {
			return base
		}
		fw, fh := fitLong(float64(w), float64(h), 2048)
		if short := min(fw, fh); short > 768 {
			fw, fh = fw*768/short, fh*768/short
		}
		return base + per*cells(fw, 512)*cells(fh, 512)
	}
}

// patchLimit is the largest image that the patch models look at: its long
// side in pixels and its number of 32 px patches. Zero patches is no limit.
type patchLimit struct {
	long    float64
	patches int64
}

// patches prices the models that cut an image into 32 px patches, each worth
// percent/100 tokens, with a limit for each level of detail.
func patches(percent int64, low, high, original, auto patchLimit) imagePricing {
	return func(w, h int64, detail string) int64 {
		limit := auto
		switch detail {
		case detailLow:
			limit = low
		case detailHigh:
			limit = high
		case detailOriginal:
			limit = original
		}
		n := limit.count(float64(w), float64(h))
		return (n*percent + 99) / 100
	}
}

// count is the number of patches of an image within the limit.
func (l patchLimit) count(w, h float64) int64 {
	const side = 32
	w, h = fitLong(w, h, l.long)
	n := cells(w, side) * cells(h, side)
	if l.patches == 0 || n <= l.patches {
		return n
	}
	shrink := math.Sqrt(side * side * float64(l.patches) / (w * h))
	across, down := w*shrink/side, h*shrink/side
	shrink *= min(math.Floor(across)/across, math.Floor(down)/down)
	return cells(w*shrink, side) * cells(h*shrink, side)
}

// fitLong scales an image down so that its long side is at most limit. It
// multiplies before it divides: exact sizes stay exact.
func fitLong(w, h, limit float64) (fitW, fitH float64) {
	long := max(w, h)
	if long <= limit {
		return w, h
	}
	return w * limit / long, h * limit / long
}

// cells is the number of cells of the given side that cover a length. A length
// that floating point left a hair above a whole cell does not open a new one.
func cells(length, side float64) int64 {
	const hair = 1e-9
	return int64(math.Ceil(length/side - hair))
}
