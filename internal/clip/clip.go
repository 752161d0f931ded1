// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package clip cuts text to a limit, between characters.
package clip

import "unicode/utf8"

const ellipsis = "…"

// Bytes cuts a text to at most limit bytes, with an ellipsis at the end if there is room for one.
func Bytes(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	end := max(limit-len(ellipsis), 0)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	if limit < len(ellipsis) {
		return text[:end]
	}
	return text[:end] + ellipsis
}

// Runes cuts a text to at most limit characters, as the API server counts them.
func Runes(text string, limit int) string {
	n := 0
	for i := range text {
		if n == limit {
			return text[:i]
		}
		n++
	}
	return text
}
