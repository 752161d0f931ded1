// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const help = `Runs stages.

Usage: worker [flags]

A flag overrides its environment variable, which overrides the default.

  --leader-elect
        Elect a leader.
        Environment: P_LEADER_ELECT. Default: true.
  --stages value
        Stages, such as a|b.
        Environment: P_STAGES.
  --url string
        Base URL.
        Environment: P_URL. Default: https://api.example.com/v1.
  --version
        Print the version and exit.
`

func TestParseHelp(t *testing.T) {
	got, err := parseHelp(help)
	if err != nil {
		t.Fatal(err)
	}
	want := program{summary: "Runs stages.", options: []option{
		{name: "leader-elect", usage: "Elect a leader.", variable: "P_LEADER_ELECT", value: "true"},
		{name: "stages", kind: "value", usage: "Stages, such as a|b.", variable: "P_STAGES"},
		{name: "url", kind: "string", usage: "Base URL.", variable: "P_URL", value: "https://api.example.com/v1"},
		{name: "version", usage: "Print the version and exit."},
	}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(program{}, option{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var table strings.Builder
	writeTable(&table, got.options[1:2])
	if row := "| `--stages` | value | `P_STAGES` |  | Stages, such as a\\|b. |\n"; !strings.HasSuffix(table.String(), row) {
		t.Errorf("table:\n%swant the row\n%s", &table, row)
	}
}

func TestParseHelpRefusesWhatItCannotRead(t *testing.T) {
	for name, help := range map[string]string{
		"nothing":                 "",
		"no flags":                "Runs stages.\n",
		"no description":          "Runs stages.\n\n  --url string\n        Environment: P_URL.\n",
		"no environment variable": "Runs stages.\n\n  --url string\n        Base URL.\n",
	} {
		t.Run(name, func(t *testing.T) {
			if p, err := parseHelp(help); err == nil {
				t.Errorf("read %+v, want an error", p)
			}
		})
	}
}
