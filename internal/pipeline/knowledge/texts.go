// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package knowledge

import "unicode"

// The placeholders of the fixed texts.
const (
	placeholderCategory = "{category}"
	placeholderItem     = "{item}"
)

// texts are the fixed texts, each by language (ISO 639-1).
type texts struct {
	fallback     string
	noRuleFound  map[string]string
	rewardReason map[string]string
}

// in picks the text in the language of what the user wrote, or in the pack's own.
func (t *texts) in(byLanguage map[string]string, userInput string) string {
	if text, ok := byLanguage[languageOf(userInput)]; ok {
		return text
	}
	return byLanguage[t.fallback]
}

// languageOf guesses a language from its script: enough to choose between a handful of fixed texts. It is empty
// where no letter decides.
func languageOf(text string) string {
	language := ""
	for _, r := range text {
		switch {
		case unicode.Is(unicode.Hangul, r):
			return "ko"
		case unicode.In(r, unicode.Hiragana, unicode.Katakana):
			return "ja"
		case unicode.Is(unicode.Han, r):
			language = "zh" // unless kana follow: Japanese mixes both
		case unicode.Is(unicode.Latin, r) && language == "":
			language = "en"
		}
	}
	return language
}
