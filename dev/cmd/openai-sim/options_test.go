// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/eco2-team/scan-operator/dev/openaisim"
	"github.com/eco2-team/scan-operator/internal/cli"
)

func TestOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sim.yaml")
	if err := os.WriteFile(file, []byte("tokensPerMinute: 5000\nspeed: 3\nfaults:\n- kind: overloaded\n  count: 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	typo := filepath.Join(t.TempDir(), "typo.yaml")
	if err := os.WriteFile(typo, []byte("tokenPerMinute: 5000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// The settings are in config; these are where they come from.
	sources := cmpopts.IgnoreFields(options{}, "flags", "file", "speed", "tokens", "requests", "seed")
	const address = "127.0.0.1:9090"
	for _, tc := range []struct {
		name    string
		args    []string
		env     map[string]string
		want    options
		wantErr string
	}{
		{"nothing", nil, nil, options{bindAddress: address, grace: 10 * time.Second}, ""},
		{
			"flags",
			[]string{"--bind-address=:1", "--speed=2", "--tokens-per-minute", "7", "--requests-per-minute=8", "--seed=9"},
			nil,
			options{bindAddress: ":1", grace: 10 * time.Second, config: openaisim.Config{Speed: 2, TokensPerMinute: 7, RequestsPerMinute: 8, Seed: 9}},
			"",
		},
		{
			"a flag wins over the environment, that over the file",
			[]string{"--config", file, "--tokens-per-minute=7"},
			map[string]string{"OPENAI_SIM_SPEED": "4", "OPENAI_SIM_TOKENS_PER_MINUTE": "6", "OPENAI_SIM_BIND_ADDRESS": ":2"},
			options{bindAddress: ":2", grace: 10 * time.Second, config: openaisim.Config{
				Speed: 4, TokensPerMinute: 7, Faults: []openaisim.Fault{{Kind: openaisim.FaultOverloaded, Count: 2}},
			}},
			"",
		},
		{"unknown flag", []string{"--sped=2"}, nil, options{}, "not defined: -sped"},
		{"argument", []string{"run"}, nil, options{}, `unexpected argument "run"`},
		{"bad environment", nil, map[string]string{"OPENAI_SIM_SEED": "x"}, options{}, "OPENAI_SIM_SEED"},
		{"bad number", []string{"--tokens-per-minute=-1"}, nil, options{}, "--tokens-per-minute=-1: want 0 or more"},
		{"too slow", []string{"--speed=0.0001"}, nil, options{}, "speed"},
		{"half of TLS", []string{"--tls-cert-file=a"}, nil, options{}, "must be set together"},
		{"missing file", []string{"--config=/nonexistent"}, nil, options{}, "read --config"},
		{"typo in the file", []string{"--config", typo}, nil, options{}, `unknown field "tokenPerMinute"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for name, value := range tc.env {
				t.Setenv(name, value)
			}
			var got options
			fs := flag.NewFlagSet("openai-sim", flag.ContinueOnError)
			got.bind(fs, os.Getenv)
			err := cli.Parse(fs, envPrefix, tc.args, os.LookupEnv)
			if err == nil {
				err = got.validate()
			}
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Errorf("error %v, want …%s", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(options{}), sources); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
