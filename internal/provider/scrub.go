// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"regexp"
	"strings"

	"github.com/eco2-team/scan-operator/internal/clip"
)

// maxMessage bounds the message of a failure, in bytes.
const maxMessage = 512

// secrets match keys, masked keys ("sk-proj-****abcd") and the provider's names of accounts.
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

// scrub removes keys, organizations, projects and line breaks from a text.
func scrub(text, key string) string {
	if key != "" {
		text = strings.ReplaceAll(text, key, "[key]")
	}
	for _, s := range secrets {
		text = s.pattern.ReplaceAllString(text, s.replacement)
	}
	return strings.Join(strings.Fields(strings.ToValidUTF8(text, "\uFFFD")), " ")
}

// compose builds the message of a failure from what happened, the provider's text, which is clipped to fit, and what to
// do. The last two may be empty.
func compose(what, text, advice string) string {
	if advice != "" {
		advice = "; " + advice
	}
	if text != "" {
		if room := maxMessage - len(what) - len(": ") - len(advice); room > 0 {
			what += ": " + clip.Bytes(text, room)
		}
	}
	return clip.Bytes(what+advice, maxMessage)
}
