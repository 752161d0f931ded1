// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pricing

import (
	"math"
	"unicode/utf8"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// PromptTokens is the provider's estimate of a message by its characters: round(characters/4 + 2). It fits the
// published samples; the tokenizer gives other numbers.
func PromptTokens(text string) int64 {
	return int64(math.Round(float64(utf8.RuneCountInString(text))/4 + 2))
}

// ImageTokens is the price of an image of w × h pixels, by the provider's published formulas. An empty detail
// means low; a model of no known family is priced as MaxImageTokens describes. Sizes below 1 count as 1.
func ImageTokens(model string, detail v1alpha1.ImageDetail, w, h int) int64 {
	return lookUpFamily(model).prices.tokens(detail, max(w, 1), max(h, 1))
}

// MaxImageTokens is the price of the most expensive image a model may be shown at a level of detail, for images
// of unknown size. An empty detail means low. A model of no known family is priced at 10,077 tokens (24,600 at
// auto): the largest published multiplier for the largest images.
//
// At auto, gpt-5.6 looks at images of up to 65,535 × 65,535 pixels in full, so that this bound is five million
// tokens: give pools of such models the detail low or high.
func MaxImageTokens(model string, detail v1alpha1.ImageDetail) int64 {
	return lookUpFamily(model).prices.most(detail)
}

// tilePrices price an image by the tiles of 512 px it is cut into, after it was fitted into 2048 × 2048 px and
// its short side brought down to 768 px. Low detail costs the base alone.
type tilePrices struct{ base, tile int64 }

const (
	tileSide      = 512
	tileLongSide  = 2048
	tileShortSide = 768
)

func (p tilePrices) tokens(detail v1alpha1.ImageDetail, w, h int) int64 {
	if isLow(detail) {
		return p.base
	}
	fw, fh := shrinkTo(float64(w), float64(h), tileLongSide)
	if short := min(fw, fh); short > tileShortSide {
		fw, fh = fw*tileShortSide/short, fh*tileShortSide/short
	}
	return p.base + p.tile*cover(fw, tileSide)*cover(fh, tileSide)
}

func (p tilePrices) most(detail v1alpha1.ImageDetail) int64 {
	return p.tokens(detail, tileLongSide, tileShortSide)
}

// patchSide is the side of a patch in pixels.
const patchSide = 32

// patchLimit is how much of an image a model looks at: side is the longest side in pixels; patches is the most
// patches, zero for no such limit.
type patchLimit struct{ side, patches int64 }

// patchPrices price an image by the patches of 32 px it is cut into: hundredths of a token each.
type patchPrices struct {
	hundredths      int64
	low, high, auto patchLimit
}

// everyLevel prices every level of detail alike.
func everyLevel(hundredths int64, limit patchLimit) patchPrices {
	return patchPrices{hundredths: hundredths, low: limit, high: limit, auto: limit}
}

func (p patchPrices) limit(detail v1alpha1.ImageDetail) patchLimit {
	switch {
	case isLow(detail):
		return p.low
	case detail == v1alpha1.ImageDetailHigh:
		return p.high
	default:
		return p.auto
	}
}

func (p patchPrices) tokens(detail v1alpha1.ImageDetail, w, h int) int64 {
	limit := p.limit(detail)
	fw, fh := shrinkTo(float64(w), float64(h), float64(limit.side))
	n := cover(fw, patchSide) * cover(fh, patchSide)
	if limit.patches > 0 && n > limit.patches {
		// Down to the budget's area, then further until one side is whole patches: the count then stays within
		// the budget, for the other side is no larger than its own whole patches.
		shrink := math.Sqrt(patchSide * patchSide * float64(limit.patches) / (fw * fh))
		across, down := fw*shrink/patchSide, fh*shrink/patchSide
		shrink *= min(math.Floor(across)/across, math.Floor(down)/down)
		n = cover(fw*shrink, patchSide) * cover(fh*shrink, patchSide)
	}
	return p.price(n)
}

func (p patchPrices) most(detail v1alpha1.ImageDetail) int64 {
	limit := p.limit(detail)
	across := cover(float64(limit.side), patchSide)
	n := across * across
	if limit.patches > 0 {
		n = min(n, limit.patches)
	}
	return p.price(n)
}

// price is ceil(patches × multiplier), in whole numbers because 1.2 is none.
func (p patchPrices) price(patches int64) int64 { return (patches*p.hundredths + 99) / 100 }

func isLow(detail v1alpha1.ImageDetail) bool {
	return detail == v1alpha1.ImageDetailLow || detail == ""
}

// shrinkTo fits an image into a square. It never enlarges.
func shrinkTo(w, h, side float64) (fitW, fitH float64) {
	long := max(w, h)
	if long <= side {
		return w, h
	}
	return w * side / long, h * side / long
}

// cover is the number of cells that cover a length. A length that rounding left a hair above a whole number of
// cells does not need another one.
func cover(length float64, cell int64) int64 {
	const hair = 1e-9
	return int64(math.Ceil(length/float64(cell) - hair))
}
