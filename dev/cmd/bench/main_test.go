// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestWrongArguments(t *testing.T) {
	for name, tc := range map[string]struct {
		args     []string
		wantCode int
		want     string
	}{
		"no measurement":      {wantCode: 2, want: "tokens|api|scale"},
		"unknown measurement": {args: []string{"nonsense"}, wantCode: 2, want: "tokens|api|scale"},
		"unknown flag":        {args: []string{"scale", "--pollers=1"}, wantCode: 2, want: "-pollers"},
		"no such scenario":    {args: []string{"tokens", "--scenarios=nonsense"}, wantCode: 1, want: `no scenario matches "nonsense"`},
		"no expression":       {args: []string{"scale", "--scenarios=("}, wantCode: 1, want: "--scenarios"},
		"no wave":             {args: []string{"scale", "--waves=0"}, wantCode: 1, want: "--waves"},
		"three replicas":      {args: []string{"api", "--replicas=3"}, wantCode: 1, want: "--replicas"},
		"nothing to kill":     {args: []string{"api", "--kill"}, wantCode: 1, want: "--kill"},
		"no clients":          {args: []string{"api", "--pollers=0"}, wantCode: 1, want: "--pollers"},
		"no weight":           {args: []string{"tokens", "--kubeconfig=x", "--users=a"}, wantCode: 1, want: "--users"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			if code := run(t.Context(), tc.args, &out, &errOut); code != tc.wantCode || !strings.Contains(errOut.String(), tc.want) {
				t.Errorf("exit code %d with %q, want %d with %q", code, errOut.String(), tc.wantCode, tc.want)
			}
		})
	}
}
