// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pricing

import (
	"encoding/csv"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

const (
	low  = v1alpha1.ImageDetailLow
	high = v1alpha1.ImageDetailHigh
	auto = v1alpha1.ImageDetailAuto
)

// TestImageTokensMatchThePublishedTable reads the table that the simulated provider is tested against, too.
func TestImageTokensMatchThePublishedTable(t *testing.T) {
	file, err := os.Open(filepath.Join("testdata", "image_tokens.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	table := csv.NewReader(file)
	table.Comment = '#'
	rows, err := table.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) < 2 {
		t.Fatal("the table is empty")
	}
	for _, row := range rows[1:] { // after the header
		w, errW := strconv.Atoi(row[2])
		h, errH := strconv.Atoi(row[3])
		want, errWant := strconv.ParseInt(row[4], 10, 64)
		if err := errors.Join(errW, errH, errWant); err != nil {
			t.Fatalf("row %q: %v", row, err)
		}
		if got := ImageTokens(row[0], v1alpha1.ImageDetail(row[1]), w, h); got != want {
			t.Errorf("%s %s %dx%d: got %d tokens, want %d", row[0], row[1], w, h, got, want)
		}
	}
}

func TestFamilies(t *testing.T) {
	tests := map[string]struct {
		model      string
		wantHigh   int64 // of 1024 × 1024
		wantEffort string
	}{
		"gpt-5.6":                   {"gpt-5.6", 1229, "low"},
		"gpt-5.6 variant":           {"gpt-5.6-terra", 1229, "low"},
		"gpt-5.4 mini":              {"gpt-5.4-mini", 1229, "none"},
		"gpt-5.4 nano, dated":       {"gpt-5.4-nano-2026-03-17", 1229, "none"},
		"gpt-5.2":                   {"gpt-5.2", 1229, "none"},
		"gpt-5.1":                   {"gpt-5.1", 630, "none"},
		"gpt-5":                     {"gpt-5", 630, "minimal"},
		"gpt-5 mini":                {"gpt-5-mini", 1229, "minimal"},
		"gpt-5 nano":                {"gpt-5-nano", 1536, "minimal"},
		"gpt-5 pro, its own effort": {"gpt-5-pro", 630, ""},
		"gpt-5 chat, no reasoning":  {"gpt-5-chat-latest", 630, ""},
		"gpt-4.1":                   {"gpt-4.1", 765, ""},
		"gpt-4.1 mini":              {"gpt-4.1-mini", 1659, ""},
		"gpt-4.1 nano":              {"gpt-4.1-nano-2025-04-14", 2520, ""},
		"gpt-4o, dated":             {"gpt-4o-2024-08-06", 765, ""},
		"gpt-4o mini, dated":        {"gpt-4o-mini-2024-07-18", 25501, ""},
		"o1 pro":                    {"o1-pro", 675, ""},
		"o3":                        {"o3", 675, "low"},
		"o4 mini":                   {"o4-mini", 1762, "low"},
		"behind a vendor's name":    {"openai/gpt-4o", 765, ""},
		"fine-tuned":                {"ft:gpt-4o-2024-08-06:acme::abc123", 765, ""},
		"not yet known":             {"gpt-7", 2520, ""},
		"a version not yet known":   {"gpt-5.9", 2520, ""},
		"another provider's":        {"qwen2.5-vl-72b", 2520, ""},
		"empty":                     {"", 2520, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := ImageTokens(tc.model, high, 1024, 1024); got != tc.wantHigh {
				t.Errorf("an image costs %d tokens, want %d", got, tc.wantHigh)
			}
			if got := lookUpFamily(tc.model).effort; got != tc.wantEffort {
				t.Errorf("the reasoning effort is %q, want %q", got, tc.wantEffort)
			}
		})
	}
}

func TestMaxImageTokens(t *testing.T) {
	tests := map[string]struct {
		model  string
		detail v1alpha1.ImageDetail
		want   int64
	}{
		"tiles, low":          {"gpt-4o", low, 85},
		"tiles, high":         {"gpt-4o", high, 85 + 8*170},
		"no detail is low":    {"gpt-4o", "", 85},
		"patches, low":        {"gpt-5.6", low, 308},
		"patches, high":       {"gpt-5.6", high, 3000},
		"patches, side alone": {"gpt-5.4", low, 4916},
		"patches, original":   {"gpt-5.5", auto, 12000},
		"no limit":            {"gpt-5.6", auto, 5033165},
		"unknown, low":        {"gpt-7", low, 10077},
		"unknown, auto":       {"gpt-7", auto, 24600},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := MaxImageTokens(tc.model, tc.detail); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}

// No image, of whatever shape, costs more than the bound.
func TestNoImageCostsMoreThanTheMost(t *testing.T) {
	sides := []int{-1, 0, 1, 31, 32, 33, 511, 512, 513, 767, 768, 769, 1500, 2047, 2048, 2049, 3001, 6000, 6001, 9973, 65535}
	models := []string{"gpt-7"}
	for model := range families {
		models = append(models, model)
	}
	for _, model := range models {
		for _, detail := range []v1alpha1.ImageDetail{"", low, high, auto} {
			most := MaxImageTokens(model, detail)
			reached := false
			for _, w := range sides {
				for _, h := range sides {
					got := ImageTokens(model, detail, w, h)
					if got < 1 || got > most {
						t.Errorf("%s %q %dx%d costs %d tokens, the most is %d", model, detail, w, h, got, most)
					}
					reached = reached || got >= most*9/10
				}
			}
			if !reached {
				t.Errorf("%s %q: nothing costs nearly as much as %d tokens", model, detail, most)
			}
		}
	}
}

// The published samples: characters of the prompt and what was charged for it.
func TestPromptTokens(t *testing.T) {
	tests := map[string]int64{
		"":                       2,
		"a":                      2,
		"ab":                     3,
		"Who is Jimi Hendrix?":   7,
		"Who is Joseph Conrad?":  7,
		"Who was Joseph Conrad?": 8,
		"페트병은 어떻게 버리나요?":         6,
	}
	for text, want := range tests {
		if got := PromptTokens(text); got != want {
			t.Errorf("%q (%d characters): got %d, want %d", text, len([]rune(text)), got, want)
		}
	}
}
