// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"strings"
	"testing"
	"time"
)

func mustParse(t *testing.T, at endpoint, body string) *call {
	t.Helper()
	c, apiErr := parseCall(at, []byte(body), newSettings(Config{}, 1, epoch))
	if apiErr != nil {
		t.Fatalf("parsing %s: %v", body, apiErr)
	}
	return c
}

// TestCharge reproduces the charges that published headers reveal, and states
// the rest of the rule.
func TestCharge(t *testing.T) {
	const image = `{"role":"user","content":[{"type":"input_text","text":"abcd"},{"type":"input_image","image_url":"https://x.test/a?w=800&h=600"%s}]}`
	for _, tc := range []struct {
		name      string
		at        endpoint
		body      string
		mode      ChargeMode
		want      int64
		wantInput int64
	}{
		{
			"21 characters and 512 output tokens", endpointChat,
			`{"model":"gpt-4o","max_tokens":512,"messages":[{"role":"user","content":"Who is Joseph Conrad?"}]}`, ChargeSum, 519, 12,
		},
		{
			"20 characters", endpointChat,
			`{"model":"gpt-4.1","messages":[{"role":"user","content":"Who is Jimi Hendrix?"}]}`, ChargeSum, 7, 13,
		},
		{
			"22 characters", endpointChat,
			`{"model":"gpt-4.1","messages":[{"role":"user","content":"Who was Joseph Conrad?"}]}`, ChargeSum, 8, 12,
		},
		{
			"max instead of sum", endpointChat,
			`{"model":"gpt-4o","max_tokens":512,"messages":[{"role":"user","content":"Who is Joseph Conrad?"}]}`, ChargeMax, 512, 12,
		},
		{
			"characters are runes, not bytes", endpointChat,
			`{"model":"gpt-4o","max_completion_tokens":10,"messages":[{"role":"user","content":"페트병은어떻게버려"}]}`, ChargeSum, 14, 14,
		},
		{
			"each message by itself", endpointChat,
			`{"model":"gpt-4o","messages":[{"role":"system","content":"ab"},{"role":"user","content":"ab"}]}`, ChargeSum, 6, 13,
		},
		{
			"n answers", endpointChat,
			`{"model":"gpt-4o","n":3,"max_completion_tokens":100,"messages":[{"role":"user","content":"ab"}]}`, ChargeSum, 303, 8,
		},
		{"text input", endpointResponses, `{"model":"gpt-5.4","input":"abcd","max_output_tokens":100}`, ChargeSum, 103, 8},
		{
			"instructions are a message", endpointResponses,
			`{"model":"gpt-5.4","instructions":"abcd","input":"abcd","max_output_tokens":100}`, ChargeSum, 106, 13,
		},
		{
			"image, detail auto", endpointResponses,
			`{"model":"gpt-5.4","max_output_tokens":100,"input":[` + fmt.Sprintf(image, "") + `]}`, ChargeSum, 673, 578,
		},
		{
			"image, detail low", endpointResponses,
			`{"model":"gpt-5.5","max_output_tokens":100,"input":[` + fmt.Sprintf(image, `,"detail":"low"`) + `]}`, ChargeSum, 334, 239,
		},
		{
			"image without a size is 1024x1024", endpointChat,
			`{"model":"gpt-4o","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x.test/a.jpg"}}]}]}`,
			ChargeSum, 767, 772,
		},
		{
			"dated model", endpointChat,
			`{"model":"gpt-4o-2024-08-06","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x.test/a.jpg","detail":"low"}}]}]}`,
			ChargeSum, 87, 92,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := mustParse(t, tc.at, tc.body)
			if got := c.charge(tc.mode); got != tc.want {
				t.Errorf("charge %d, want %d", got, tc.want)
			}
			if c.inputTokens != tc.wantInput {
				t.Errorf("input tokens %d, want %d", c.inputTokens, tc.wantInput)
			}
		})
	}
}

func TestChargeOfDataURL(t *testing.T) {
	picture := image.NewGray(image.Rect(0, 0, 800, 600))
	var pngBytes, jpegBytes bytes.Buffer
	if err := png.Encode(&pngBytes, picture); err != nil {
		t.Fatal(err)
	}
	if err := jpeg.Encode(&jpegBytes, picture, nil); err != nil {
		t.Fatal(err)
	}
	for mediaType, raw := range map[string][]byte{"image/png": pngBytes.Bytes(), "image/jpeg": jpegBytes.Bytes()} {
		c := mustParse(t, endpointResponses, fmt.Sprintf(
			`{"model":"gpt-5.4","input":[{"role":"user","content":[{"type":"input_image","image_url":"data:%s;base64,%s"}]}]}`,
			mediaType, base64.StdEncoding.EncodeToString(raw)))
		if got := c.images[0].tokens; got != 570 {
			t.Errorf("%s of 800x600: %d tokens, want 570", mediaType, got)
		}
	}
}

func TestTokenDensity(t *testing.T) {
	korean := strings.Repeat("재활용폐기물은", 100)
	if got, estimate := countTokens(korean), int64(700/4); got != 3*estimate {
		t.Errorf("Hangul: %d tokens, want three times the %d of characters/4", got, estimate)
	}
	english := strings.Repeat("Rinse the bottle and remove the label. ", 100)
	got, estimate := countTokens(english), int64(len(english)/4)
	if got < estimate*8/10 || got > estimate*12/10 {
		t.Errorf("English: %d tokens, want about the %d of characters/4", got, estimate)
	}
}

func TestTruncateTokens(t *testing.T) {
	text := koreanSentences[0] + " " + englishSentences[0] + ` {"a": 12345}`
	whole := countTokens(text)
	for n := range whole {
		part := truncateTokens(text, n)
		if !strings.HasPrefix(text, part) || countTokens(part) > n {
			t.Errorf("truncated to %d: %q has %d tokens", n, part, countTokens(part))
		}
	}
	if got := truncateTokens(text, whole); got != text {
		t.Errorf("truncated to its own length: %q", got)
	}
}

func TestPromptCache(t *testing.T) {
	at := func(text string) *call {
		return mustParse(t, endpointChat, `{"model":"gpt-4o","messages":[{"role":"user","content":"`+text+`"}]}`)
	}
	prefix := strings.Repeat("word ", 1200)
	for _, tc := range []struct {
		name          string
		first, second string
		later         time.Duration
		want          int64
	}{
		{"the same prompt", prefix, prefix, 0, 1152},
		{"the same beginning", prefix + "one", prefix + "two", 0, 1152},
		{"another beginning", "x" + prefix, prefix, 0, 0},
		{"too short", strings.Repeat("word ", 1000), strings.Repeat("word ", 1000), 0, 0},
		{"too late", prefix, prefix, cacheLifetime, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cache := newPromptCache()
			if got := cache.lookup(at(tc.first), epoch); got != 0 {
				t.Errorf("first call: %d cached tokens, want 0", got)
			}
			if got := cache.lookup(at(tc.second), epoch.Add(tc.later)); got != tc.want {
				t.Errorf("second call: %d cached tokens, want %d", got, tc.want)
			}
		})
	}
}

func TestPromptCacheIsBounded(t *testing.T) {
	cache := newPromptCache()
	long := strings.Repeat("word ", 6000)
	for i := range 250 {
		cache.lookup(mustParse(t, endpointChat, fmt.Sprintf(`{"model":"gpt-4o","messages":[{"role":"user","content":"%d %s"}]}`, i, long)), epoch)
	}
	if got := len(cache.seen); got == 0 || got > cacheEntries {
		t.Errorf("%d entries, want some, and at most %d", got, cacheEntries)
	}
}
