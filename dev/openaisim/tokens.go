// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"unicode"
	"unicode/utf8"
)

// What a call really uses is counted by a tokenizer of this file's own. It
// follows the shape of the byte pair encodings in use, not their tables:
//
//   - a run of Latin letters is one token per started 6 letters, and swallows
//     the space before it;
//   - a run of digits is one token per started 3 digits;
//   - a Hangul syllable is 0.75 tokens, so that Korean text costs three times
//     what characters/4 says; other letters (Han, kana, …) are one each;
//   - a run of up to 4 punctuation marks is one token, a run of white space
//     that no word swallows likewise.
//
// It reproduces the prompt token counts of the published samples (12, 13, 12).
const (
	// quarters per token: the unit in which texts are measured.
	quarter        = 4
	hangulQuarters = 3

	lettersPerToken = 6
	digitsPerToken  = 3
	marksPerToken   = 4

	// messageOverhead and replyOverhead are the tokens that wrap each message
	// and prime the reply.
	messageOverhead = 4
	replyOverhead   = 3
)

// runeClass is how the tokenizer sees a rune.
type runeClass int

const (
	classNone runeClass = iota
	classLatin
	classDigit
	classHangul
	classOther
	classMark
	classSpace
)

func classify(r rune) runeClass {
	switch {
	case r < utf8.RuneSelf:
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z':
			return classLatin
		case r >= '0' && r <= '9':
			return classDigit
		case r == ' ', r >= '\t' && r <= '\r':
			return classSpace
		}
		return classMark
	case r >= 0xAC00 && r <= 0xD7A3:
		return classHangul
	case unicode.Is(unicode.Latin, r):
		return classLatin
	case unicode.IsSpace(r):
		return classSpace
	case unicode.IsLetter(r):
		return classOther
	default:
		return classMark
	}
}

// fit measures a text from its start and stops before it exceeds limit
// quarters of a token (a negative limit never stops). It returns the length in
// bytes of what fits and its quarters.
func fit(text string, limit int64) (length int, quarters int64) {
	previous, run := classNone, 0
	for i, r := range text {
		class := classify(r)
		if class == previous {
			run++
		} else {
			run = 1
		}
		var cost int64
		switch class {
		case classLatin:
			cost = everyNth(run, lettersPerToken)
		case classDigit:
			cost = everyNth(run, digitsPerToken)
		case classMark:
			cost = everyNth(run, marksPerToken)
		case classHangul:
			cost = hangulQuarters
		case classOther:
			cost = quarter
		case classSpace:
			// The first space belongs to the word after it.
			if run == 2 {
				cost = quarter
			}
		case classNone:
		}
		if limit >= 0 && quarters+cost > limit {
			return i, quarters
		}
		quarters += cost
		previous = class
	}
	return len(text), quarters
}

// everyNth charges a token for the first of every n runes of a run.
func everyNth(run, n int) int64 {
	if run%n == 1 {
		return quarter
	}
	return 0
}

// countTokens is the number of tokens in a text, rounded up.
func countTokens(text string) int64 {
	_, quarters := fit(text, -1)
	return wholeTokens(quarters)
}

// wholeTokens rounds quarters up to tokens.
func wholeTokens(quarters int64) int64 { return (quarters + quarter - 1) / quarter }

// truncateTokens cuts a text down to at most n tokens.
func truncateTokens(text string, n int64) string {
	length, _ := fit(text, n*quarter)
	return text[:length]
}

// estimateMessage is the provider's estimate of one message's text at
// admission, from its number of characters alone: round(chars/4) + 2.
func estimateMessage(chars int64) int64 { return (chars+2)/4 + 2 }
