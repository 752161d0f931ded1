// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package knowledge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// node is a place in one of the pack's YAML files. Its methods read what should be there and report what is not,
// with file and line; what they return is then the zero value, so that reading goes on and finds more.
type node struct {
	yaml     *yaml.Node
	file     string
	problems *problems
}

// lineOf finds the line in the YAML parser's own errors.
var lineOf = regexp.MustCompile(`^yaml: line (\d+): `)

// parseYAML parses a file with one document. It is false if there is nothing to continue with.
func parseYAML(file string, data []byte, p *problems) (node, bool) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		p.add(Problem{File: file, What: "the file is empty", Fix: "fill it as README.md describes, or start from the default pack"})
		return node{}, false
	case err != nil:
		line, what := 0, strings.TrimPrefix(err.Error(), "yaml: ")
		if m := lineOf.FindStringSubmatch(err.Error()); m != nil {
			line, _ = strconv.Atoi(m[1]) // digits, by the expression
			what = strings.TrimPrefix(err.Error(), m[0])
		}
		p.add(Problem{File: file, Line: line, What: "not YAML: " + what, Fix: "correct the syntax at or next to this line"})
		return node{}, false
	}
	root := node{yaml: document.Content[0], file: file, problems: p}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		root.report("the file has more than one YAML document", "keep one: remove the line --- and what follows it")
	}
	return root, true
}

// report adds a problem of this place.
func (n node) report(what, fix string) {
	line := 0
	if n.yaml != nil {
		line = n.yaml.Line
	}
	n.problems.add(Problem{File: n.file, Line: line, What: what, Fix: fix})
}

// at is another place in the same file. It follows an alias to its anchor.
func (n node) at(y *yaml.Node) node {
	if y.Kind == yaml.AliasNode {
		y = y.Alias
	}
	return node{yaml: y, file: n.file, problems: n.problems}
}

// missing reports whether the field of this node is absent.
func (n node) missing() bool { return n.yaml == nil }

// mapping reads the fields of a mapping. Names that end in "?" may be absent. An absent field is a node that is
// missing.
func (n node) mapping(what string, names ...string) map[string]node {
	fields := make(map[string]node, len(names))
	known := make([]string, 0, len(names))
	for _, name := range names {
		name = strings.TrimSuffix(name, "?")
		known = append(known, name)
		fields[name] = node{file: n.file, problems: n.problems}
	}
	if n.missing() {
		return fields
	}
	if n.yaml.Kind != yaml.MappingNode {
		n.report(what+" must have fields", "write "+strings.Join(known, ", ")+" as name: value")
		return fields
	}
	for i := 0; i+1 < len(n.yaml.Content); i += 2 {
		key, value := n.at(n.yaml.Content[i]), n.at(n.yaml.Content[i+1])
		name := key.yaml.Value
		switch {
		case !slices.Contains(known, name):
			key.report(fmt.Sprintf("unknown field %q in %s", name, what), "use one of "+strings.Join(known, ", "))
		case !fields[name].missing():
			key.report(fmt.Sprintf("the field %q is there twice in %s", name, what), "keep one of them")
		default:
			fields[name] = value
		}
	}
	for _, name := range names {
		if !strings.HasSuffix(name, "?") && fields[name].missing() {
			n.report(fmt.Sprintf("%s has no field %q", what, name), "add it")
		}
	}
	return fields
}

// entries reads a mapping with arbitrary names, in the order of the file.
func (n node) entries(what string) (names, values []node) {
	if n.missing() {
		return nil, nil
	}
	if n.yaml.Kind != yaml.MappingNode || len(n.yaml.Content) == 0 {
		n.report(what+" must have at least one entry", "write entries as name: value")
		return nil, nil
	}
	for i := 0; i+1 < len(n.yaml.Content); i += 2 {
		names = append(names, n.at(n.yaml.Content[i]))
		values = append(values, n.at(n.yaml.Content[i+1]))
	}
	return names, values
}

// list reads a list of fewest to most entries.
func (n node) list(what string, fewest, most int) []node {
	if n.missing() {
		return nil
	}
	if n.yaml.Kind != yaml.SequenceNode {
		n.report(what+" must be a list", "write one entry per line, each after a dash")
		return nil
	}
	if got := len(n.yaml.Content); got < fewest || got > most {
		n.report(fmt.Sprintf("%s has %d entries, which is not %d to %d", what, got, fewest, most), "add or remove entries")
	}
	nodes := make([]node, len(n.yaml.Content))
	for i, y := range n.yaml.Content {
		nodes[i] = n.at(y)
	}
	return nodes
}

// text reads a string of 1 to limit characters.
func (n node) text(what string, limit int) string {
	if n.missing() {
		return ""
	}
	if n.yaml.Kind != yaml.ScalarNode || n.yaml.Tag == "!!null" {
		n.report(what+" must be a text", "write a text; quote it if it holds one of : # { [")
		return ""
	}
	text := strings.TrimSpace(n.yaml.Value)
	switch length := utf8.RuneCountInString(text); {
	case length == 0:
		n.report(what+" is empty", "write a text")
	case length > limit:
		n.report(fmt.Sprintf("%s has %d characters, more than %d", what, length, limit), "shorten it")
	}
	return text
}

// texts reads a list of strings without repetitions.
func (n node) texts(what string, fewest, most, limit int) []string {
	var texts []string
	for _, entry := range n.list(what, fewest, most) {
		text := entry.text("an entry of "+what, limit)
		if text != "" && slices.Contains(texts, text) {
			entry.report(fmt.Sprintf("%q is in %s twice", text, what), "keep one of them")
		}
		texts = append(texts, text)
	}
	return texts
}

// number reads a whole number of at least 1.
func (n node) number(what string) int {
	if n.missing() {
		return 0
	}
	number, err := strconv.Atoi(n.yaml.Value)
	if n.yaml.Kind != yaml.ScalarNode || err != nil || number < 1 {
		n.report(what+" must be a whole number of at least 1", "write a number")
		return 0
	}
	return number
}

// flag reads a truth value; absent is false.
func (n node) flag(what string) bool {
	if n.missing() {
		return false
	}
	if n.yaml.Kind != yaml.ScalarNode || n.yaml.Tag != "!!bool" {
		n.report(what+" must be true or false", "write true or false")
		return false
	}
	return strings.EqualFold(n.yaml.Value, "true")
}
