package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for name, tc := range map[string]struct {
		args    []string
		wantErr string
	}{
		"defaults":         {},
		"argument":         {args: []string{"start"}, wantErr: `unexpected argument "start"`},
		"no speed":         {args: []string{"--speed=0"}, wantErr: "--speed 0: want more than 0"},
		"no backoff":       {args: []string{"--restart-backoff=0s"}, wantErr: "--restart-backoff 0s: want more than 0"},
		"unknown flag":     {args: []string{"--nonsense"}, wantErr: "not defined: -nonsense"},
		"long backoff":     {args: []string{"--restart-backoff=10m"}},
		"chosen addresses": {args: []string{"--api-address=127.0.0.1:1", "--sim-address=127.0.0.1:2"}},
	} {
		t.Run(name, func(t *testing.T) {
			var usage bytes.Buffer
			o, err := parse(t.Context(), tc.args, &usage)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Errorf("error = %v, want %q", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if o.RestartBackoff.Max < o.RestartBackoff.Initial || o.RestartBackoff.Max < 5*time.Minute {
				t.Errorf("backoff = %v, want one that grows to 5 minutes or more", o.RestartBackoff)
			}
			if name == "chosen addresses" && (o.APIAddress != "127.0.0.1:1" || o.SimAddress != "127.0.0.1:2") {
				t.Errorf("addresses = %s, %s; want the chosen ones", o.APIAddress, o.SimAddress)
			}
		})
	}
}

func TestRunRefusesWhatItCannotStart(t *testing.T) {
	var out, errs bytes.Buffer
	empty := t.TempDir()
	code := run([]string{"--dir=" + empty, "--k8s-dir=" + empty, "--bin-dir=" + empty, "--config=" + empty, "--manifests=" + empty}, &out, &errs)
	if code != 1 || !strings.Contains(errs.String(), "build it with make k8s") {
		t.Errorf("exit code %d, error %q; want 1 and what to do", code, errs.String())
	}
}
