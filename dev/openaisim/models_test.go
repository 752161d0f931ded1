package openaisim

import "testing"

// TestImageTokens is the published table of image tokens.
func TestImageTokens(t *testing.T) {
	columns := []struct{ model, detail string }{
		{"gpt-4o", "low"},
		{"gpt-4o", "high"},
		{"gpt-4o-mini", "high"},
		{"gpt-5.1", "high"},
		{"gpt-5.4", "high"},
		{"gpt-5.4", "low"},
		{"gpt-5.5", "low"},
		{"gpt-5.6", "low"},
		{"gpt-5.6", "auto"},
	}
	for _, row := range []struct {
		w, h int64
		want [9]int64
	}{
		{800, 600, [9]int64{85, 765, 25501, 630, 570, 570, 231, 231, 570}},
		{1024, 1024, [9]int64{85, 765, 25501, 630, 1229, 1229, 308, 308, 1229}},
		{1080, 1920, [9]int64{85, 1105, 36835, 910, 2448, 2448, 173, 173, 2448}},
		{4000, 3000, [9]int64{85, 765, 25501, 630, 2942, 3687, 231, 231, 14100}},
	} {
		for i, c := range columns {
			if got := catalog[c.model].image(row.w, row.h, c.detail); got != row.want[i] {
				t.Errorf("%dx%d %s %s: %d tokens, want %d", row.w, row.h, c.model, c.detail, got, row.want[i])
			}
		}
	}
}

// TestImageTokensBounded checks that no size gives nonsense.
func TestImageTokensBounded(t *testing.T) {
	for name, m := range catalog {
		for _, detail := range []string{detailLow, detailHigh, detailAuto, detailOriginal} {
			for _, size := range [][2]int64{{1, 1}, {1, maxSide}, {maxSide, 1}, {maxSide, maxSide}, {33, 31}} {
				if got := m.image(size[0], size[1], detail); got < 1 {
					t.Errorf("%s %s %v: %d tokens, want at least one", name, detail, size, got)
				}
			}
		}
	}
}
