// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"errors"
	"flag"
	"strings"
	"testing"
	"time"
)

// flagSet has a flag of each kind.
func flagSet() (fs *flag.FlagSet, addr *string, every *time.Duration) {
	fs = flag.NewFlagSet("test", flag.ContinueOnError)
	addr = fs.String("bind-address", ":8080", "Address to listen on.")
	every = fs.Duration("every", time.Second, "Time between two rounds.")
	fs.Int("max-scans", 7, "Most scans.")
	fs.Uint64("seed", 0, "Seed.")
	fs.Float64("speed", 1, "Speed.")
	fs.Bool("leader-elect", true, "Elect a leader.")
	fs.Func("stages", "Stages.", func(string) error { return errors.New("want vision or rule") })
	fs.Bool(versionFlag, false, "Print the version.")
	return fs, addr, every
}

func lookupIn(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { value, ok := env[name]; return value, ok }
}

func TestParse(t *testing.T) {
	tests := map[string]struct {
		env       map[string]string
		args      []string
		wantAddr  string
		wantEvery time.Duration
		wantErrs  []string
	}{
		"defaults":                          {wantAddr: ":8080", wantEvery: time.Second},
		"the environment beats defaults":    {env: map[string]string{"P_BIND_ADDRESS": ":1"}, wantAddr: ":1", wantEvery: time.Second},
		"the command line beats both":       {env: map[string]string{"P_BIND_ADDRESS": ":1"}, args: []string{"--bind-address=:2"}, wantAddr: ":2", wantEvery: time.Second},
		"other programs' variables":         {env: map[string]string{"Q_BIND_ADDRESS": ":1"}, wantAddr: ":8080", wantEvery: time.Second},
		"an empty value is a value as well": {env: map[string]string{"P_BIND_ADDRESS": ""}, wantAddr: "", wantEvery: time.Second},
		"the version has no variable":       {env: map[string]string{"P_VERSION": "v1.2.3"}, wantAddr: ":8080", wantEvery: time.Second},
		"a switch needs no value":           {args: []string{"--leader-elect", "--every=2s"}, wantAddr: ":8080", wantEvery: 2 * time.Second},

		"a bad variable": {
			env:      map[string]string{"P_EVERY": "soon"},
			wantErrs: []string{`environment variable P_EVERY (flag --every) = "soon": want a duration such as 500ms, 10s or 2m`},
		},
		"everything at once": {
			env: map[string]string{"P_EVERY": "soon", "P_SEED": "-1"}, args: []string{"--speed=fast"},
			wantErrs: []string{`P_EVERY (flag --every) = "soon"`, `P_SEED (flag --seed) = "-1": want a whole number of 0 or more`, `--speed="fast": want a number`},
		},
		"a bad number":          {args: []string{"--max-scans=many"}, wantErrs: []string{`--max-scans="many": want a whole number`}},
		"a bad switch":          {args: []string{"--leader-elect=maybe"}, wantErrs: []string{`--leader-elect="maybe": want true or false`}},
		"a bad value of ours":   {args: []string{"--stages=x"}, wantErrs: []string{`--stages="x": want vision or rule`}},
		"an unknown flag":       {args: []string{"--nope"}, wantErrs: []string{"not defined: -nope"}},
		"an argument":           {args: []string{"start"}, wantErrs: []string{`unexpected argument "start"`}},
		"help comes before all": {env: map[string]string{"P_EVERY": "soon"}, args: []string{"--help"}, wantErrs: []string{flag.ErrHelp.Error()}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			fs, addr, every := flagSet()
			err := Parse(fs, "P", tc.args, lookupIn(tc.env))
			for _, want := range tc.wantErrs {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error = %v, want one with %q", err, want)
				}
			}
			if len(tc.wantErrs) > 0 {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if *addr != tc.wantAddr || *every != tc.wantEvery {
				t.Errorf("got %q, %s; want %q, %s", *addr, *every, tc.wantAddr, tc.wantEvery)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	fs, _, _ := flagSet()
	if err := Parse(fs, "P", []string{"--every=5s"}, lookupIn(nil)); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	printUsage(&out, Command{Name: "test", EnvPrefix: "P", Summary: "Tests the usage."}, fs)
	for _, want := range []string{
		"Tests the usage.\n\nUsage: test [flags]\n",
		"  --every duration\n        Time between two rounds.\n        Environment: P_EVERY. Default: 1s.\n",
		"  --version\n        Print the version.\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the usage lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "P_VERSION") {
		t.Errorf("the usage names a variable for --version:\n%s", out.String())
	}
}

func TestDefaultNamespace(t *testing.T) {
	for env, want := range map[string]string{"": "scans", "elsewhere": "elsewhere"} {
		if got := DefaultNamespace(func(string) string { return env }); got != want {
			t.Errorf("with POD_NAMESPACE=%q the namespace is %q, want %q", env, got, want)
		}
	}
}
