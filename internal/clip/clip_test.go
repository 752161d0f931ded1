// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clip

import "testing"

func TestBytes(t *testing.T) {
	tests := map[string]struct {
		text  string
		limit int
		want  string
	}{
		"fits":               {"가나다", 9, "가나다"},
		"between characters": {"가나다라", 11, "가나…"},
		"on a character":     {"abcdef", 5, "ab…"},
		"no room for a mark": {"가나", 2, ""},
		"nothing":            {"가나", 0, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Bytes(tc.text, tc.limit); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestRunes(t *testing.T) {
	for limit, want := range map[int]string{0: "", 1: "가", 2: "가b", 3: "가b다", 4: "가b다"} {
		if got := Runes("가b다", limit); got != want {
			t.Errorf("%d characters: got %q, want %q", limit, got, want)
		}
	}
}
