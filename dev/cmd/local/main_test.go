// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/eco2-team/scan-operator/internal/cli"
)

func TestOptions(t *testing.T) {
	for name, tc := range map[string]struct {
		args    []string
		wantErr string
	}{
		"defaults":         {},
		"argument":         {args: []string{"start"}, wantErr: `unexpected argument "start"`},
		"no speed":         {args: []string{"--speed=0"}, wantErr: "--speed=0: want more than 0"},
		"no backoff":       {args: []string{"--restart-backoff=0s"}, wantErr: "--restart-backoff=0s: want more than 0"},
		"no URL":           {args: []string{"--endpoint=host"}, wantErr: `--endpoint="host"`},
		"unknown flag":     {args: []string{"--nonsense"}, wantErr: "not defined: -nonsense"},
		"long backoff":     {args: []string{"--restart-backoff=10m"}},
		"chosen addresses": {args: []string{"--api-address=127.0.0.1:1", "--sim-address=127.0.0.1:2"}},
	} {
		t.Run(name, func(t *testing.T) {
			var o options
			fs := flag.NewFlagSet(name, flag.ContinueOnError)
			o.bind(fs, os.Getenv)
			err := cli.Parse(fs, envPrefix, tc.args, os.LookupEnv)
			if err == nil {
				err = o.validate()
			}
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Errorf("error = %v, want %q", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if backoff := o.stack.RestartBackoff; backoff.Max < backoff.Initial || backoff.Max < 5*time.Minute {
				t.Errorf("backoff = %v, want one that grows to 5 minutes or more", backoff)
			}
			if api, sim := preferred(t.Context(), o.apiAddress, "no address"), preferred(t.Context(), o.simAddress, "no address"); name == "chosen addresses" && (api != "127.0.0.1:1" || sim != "127.0.0.1:2") {
				t.Errorf("addresses = %s, %s; want the chosen ones", api, sim)
			}
		})
	}
}

func TestRefusesWhatItCannotStart(t *testing.T) {
	var out, errs bytes.Buffer
	empty := t.TempDir()
	code := cli.Execute(command(), cli.System{
		Args:   []string{"--dir=" + empty, "--k8s-dir=" + empty, "--bin-dir=" + empty, "--config=" + empty, "--manifests=" + empty},
		Stdout: &out, Stderr: &errs, LookupEnv: func(string) (string, bool) { return "", false },
		Notify: func(chan<- os.Signal, ...os.Signal) func() { return func() {} },
	})
	if code != cli.ExitFailure || !strings.Contains(errs.String(), "build it with make k8s") {
		t.Errorf("exit code %d, error %q; want %d and what to do", code, errs.String(), cli.ExitFailure)
	}
}
