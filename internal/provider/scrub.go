package provider

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxMessage is the bound of a failure's message, in bytes.
const maxMessage = 512

// secrets are the provider's names for accounts and keys, masked keys ("sk-proj-****abcd") included.
var secrets = []struct {
	pattern     *regexp.Regexp
	replacement string
}{
	{regexp.MustCompile(`(?i)\bbearer\s+\S+`), "[key]"},
	{regexp.MustCompile(`\b(?:sk|sess|rk|pk)-[A-Za-z0-9_*.-]*[A-Za-z0-9_*]`), "[key]"},
	{regexp.MustCompile(`\borg-[A-Za-z0-9_-]+`), "[organization]"},
	{regexp.MustCompile(`\bproj_[A-Za-z0-9_-]+`), "[project]"},
	{regexp.MustCompile(`//[^/\s@]+@`), "//"},
}

// scrub takes keys, organizations and projects out of a text, and what would break a line.
func scrub(text, key string) string {
	if key != "" {
		text = strings.ReplaceAll(text, key, "[key]")
	}
	for _, s := range secrets {
		text = s.pattern.ReplaceAllString(text, s.replacement)
	}
	return strings.Join(strings.Fields(strings.ToValidUTF8(text, "\uFFFD")), " ")
}

// compose makes a failure's message of what happened, the provider's own words, which are cut to fit, and what
// to do. Either of the last two may be empty.
func compose(what, words, advice string) string {
	if advice != "" {
		advice = "; " + advice
	}
	if words != "" {
		if room := maxMessage - len(what) - len(": ") - len(advice); room > 0 {
			what += ": " + clip(words, room)
		}
	}
	return clip(what+advice, maxMessage)
}

// clip cuts a text to at most limit bytes, between characters.
func clip(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	const more = "…"
	end := max(limit-len(more), 0)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	if limit < len(more) {
		return text[:end]
	}
	return text[:end] + more
}
