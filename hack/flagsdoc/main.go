// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command flagsdoc prints the reference page of the programs' flags, from what the programs print for --help.
//
// usage: flagsdoc <program>...
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const header = `# Flags

<!-- Generated from what the programs print for --help, by ` + "`make docs`" + `. -->

A flag overrides its environment variable, which overrides the default. Each program prints its flags with ` + "`--help`" + ` and its
version with ` + "`--version`" + `. An invalid value ends a program with exit code 2.
`

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "flagsdoc:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, paths []string) error {
	if len(paths) == 0 {
		return errors.New("usage: flagsdoc <program>")
	}
	var page strings.Builder
	page.WriteString(header)
	var common []option
	for _, path := range paths {
		command := exec.CommandContext(ctx, path, "--help") //nolint:gosec // whoever runs this names the programs
		command.Env = []string{}                            // some defaults come from the environment
		help, err := command.Output()
		if err != nil {
			return fmt.Errorf("run %s --help: %w", path, err)
		}
		p, err := parseHelp(string(help))
		if err != nil {
			return fmt.Errorf("read what %s prints for --help: %w", path, err)
		}
		own := slices.DeleteFunc(slices.Clone(p.options), option.isCommon)
		fmt.Fprintf(&page, "\n## %s\n\n%s\n\n", filepath.Base(path), p.summary)
		writeTable(&page, own)
		if common == nil {
			common = slices.DeleteFunc(p.options, func(o option) bool { return !o.isCommon() })
		}
	}
	page.WriteString("\n## Flags of every program\n\nThe environment variables have the program's prefix; these are the first one's.\n\n")
	writeTable(&page, common)
	_, err := os.Stdout.WriteString(page.String())
	return err
}

// program is what a program prints of itself.
type program struct {
	summary string
	options []option
}

// option is one flag.
type option struct{ name, kind, usage, variable, value string }

// isCommon reports whether every program has the flag.
func (o option) isCommon() bool { return strings.HasPrefix(o.name, "zap-") || o.name == "version" }

var (
	flagLine    = regexp.MustCompile(`^  --(\S+)(?: (\S+))?$`)
	environment = regexp.MustCompile(`^Environment: (\w+)\.(?: Default: (.*)\.)?$`)
)

// parseHelp reads what a program prints for --help: a summary, and for each flag a line with its name, one with its
// description and one with its environment variable and default.
func parseHelp(help string) (program, error) {
	var p program
	p.summary, _, _ = strings.Cut(help, "\n")
	for line := range strings.Lines(help) {
		line = strings.TrimRight(line, "\n")
		if m := flagLine.FindStringSubmatch(line); m != nil {
			p.options = append(p.options, option{name: m[1], kind: m[2]})
			continue
		}
		text, indented := strings.CutPrefix(line, "        ")
		if !indented || len(p.options) == 0 {
			continue
		}
		o := &p.options[len(p.options)-1]
		if m := environment.FindStringSubmatch(text); m != nil {
			o.variable, o.value = m[1], m[2]
			continue
		}
		o.usage = strings.TrimSpace(o.usage + " " + text)
	}
	if p.summary == "" || len(p.options) == 0 {
		return program{}, errors.New("no summary or no flags")
	}
	for _, o := range p.options {
		if o.usage == "" || o.variable == "" && o.name != "version" {
			return program{}, fmt.Errorf("flag --%s has no description or no environment variable", o.name)
		}
	}
	return p, nil
}

func writeTable(page *strings.Builder, options []option) {
	page.WriteString("| flag | type | environment | default | |\n|---|---|---|---|---|\n")
	for _, o := range options {
		fmt.Fprintf(page, "| `--%s` | %s | %s | %s | %s |\n", o.name, o.kind, code(o.variable), code(o.value), strings.ReplaceAll(o.usage, "|", `\|`))
	}
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}
