// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

// document is what the tests need of a Markdown file.
type document struct {
	// links are the targets of links and pictures.
	links []string
	// anchors are the fragments of the headings.
	anchors map[string]bool
	// spans are the contents of inline code.
	spans []string
	// code are the lines of code blocks, without indentation.
	code []string
}

var (
	fence    = regexp.MustCompile("^\\s*(```|~~~)")
	heading  = regexp.MustCompile(`^#{1,6}\s+(.*?)\s*#*$`)
	inline   = regexp.MustCompile("`([^`]+)`")
	linkExpr = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	linkText = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// parse reads the parts of Markdown that the documents use: headings, links, inline code, and code blocks that are
// fenced or indented by four spaces after an empty line.
func parse(text string) *document {
	d := &document{anchors: map[string]bool{}}
	var prose strings.Builder
	fenced, indented, blank := false, false, true
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case fence.MatchString(line):
			fenced = !fenced
		case fenced:
			d.code = append(d.code, strings.TrimSpace(line))
		case strings.TrimSpace(line) == "":
			prose.WriteString("\n")
			blank = true
			continue
		case strings.HasPrefix(line, "    ") && (blank || indented):
			d.code = append(d.code, strings.TrimSpace(line))
			indented, blank = true, false
			continue
		default:
			if m := heading.FindStringSubmatch(line); m != nil {
				d.addAnchor(m[1])
			}
			prose.WriteString(line + "\n")
		}
		indented, blank = false, false
	}
	for _, m := range inline.FindAllStringSubmatch(prose.String(), -1) {
		d.spans = append(d.spans, strings.Join(strings.Fields(m[1]), " "))
	}
	for _, m := range linkExpr.FindAllStringSubmatch(inline.ReplaceAllString(prose.String(), "code"), -1) {
		d.links = append(d.links, m[1])
	}
	return d
}

// addAnchor adds the fragment of a heading, in the way in which GitHub makes it.
func (d *document) addAnchor(title string) {
	title = linkText.ReplaceAllString(strings.ReplaceAll(title, "`", ""), "$1")
	slug := strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, title)
	anchor := slug
	for n := 1; d.anchors[anchor]; n++ {
		anchor = slug + "-" + strconv.Itoa(n)
	}
	d.anchors[anchor] = true
}

func TestParse(t *testing.T) {
	d := parse("# The `first` heading, with [a link](a.md)\n" +
		"Prose with `some code`, a [link](b.md#part), `not [a](link.md)` and\na `span over\ntwo lines`.\n" +
		"\n    make run # indented\n\n    go on\n" +
		"- a list\n    with `more`\n\n" +
		"```sh\n[no](link.md) `no span`\n```\n" +
		"## Twice\n## Twice\n| ![picture](c.svg) | x |\n")
	want := document{
		links:   []string{"a.md", "b.md#part", "c.svg"},
		anchors: map[string]bool{"the-first-heading-with-a-link": true, "twice": true, "twice-1": true},
		spans:   []string{"first", "some code", "not [a](link.md)", "span over two lines", "more"},
		code:    []string{"make run # indented", "go on", "[no](link.md) `no span`"},
	}
	if diff := cmp.Diff(want.links, d.links); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want.anchors)), slices.Sorted(maps.Keys(d.anchors))); diff != "" {
		t.Errorf("anchors (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.spans, d.spans); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.code, d.code); diff != "" {
		t.Errorf("code (-want +got):\n%s", diff)
	}
}
