// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// runAsProgram makes the test binary a program of this package.
const runAsProgram = "CLI_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(runAsProgram) != "" {
		Main(Command{
			Name: "test-program", EnvPrefix: "TEST_PROGRAM",
			Bind: func(*flag.FlagSet, func(string) string) {},
			Run: func(_ context.Context, p *Process) error {
				p.Log.Info("from the program")
				log.Log.WithName("controller").Info("from controller-runtime")
				klog.Infof("from %s", "klog")
				klog.Background().Error(errors.New("gone"), "from contextual klog")
				return errors.New("from run")
			},
		})
	}
	os.Exit(m.Run())
}

// A program's stderr is JSON only, whichever library a line comes from.
func TestEveryLibraryLogsJSON(t *testing.T) {
	program := exec.CommandContext(t.Context(), os.Args[0])
	program.Env = append(os.Environ(), runAsProgram+"=1")
	var stderr bytes.Buffer
	program.Stderr = &stderr
	var exit *exec.ExitError
	if err := program.Run(); !errors.As(err, &exit) || exit.ExitCode() != ExitFailure {
		t.Errorf("the program ended with %v, want exit code %d", err, ExitFailure)
	}
	messages := map[string]map[string]any{}
	for line := range strings.Lines(stderr.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("not JSON: %s", line)
			continue
		}
		messages[fmt.Sprint(entry["msg"])] = entry
	}
	for _, want := range []string{"starting", "from the program", "from controller-runtime", "from klog", "from contextual klog", "program failed"} {
		if messages[want] == nil {
			t.Errorf("no line %q in:\n%s", want, stderr.String())
		}
	}
	if first := messages["starting"]; first["program"] != "test-program" || first["version"] == nil || first["go"] == nil {
		t.Errorf("the first line %v lacks the program, its version or Go's", first)
	}
	if last := messages["program failed"]; last["error"] != "from run" {
		t.Errorf("the last line is %v, want the error of Run", last)
	}
}

func TestExitCodes(t *testing.T) {
	tests := map[string]struct {
		args       []string
		env        map[string]string
		invalid    error // of Validate
		failed     error // of Run
		wantCode   int
		wantStdout string
		wantStderr string
		wantRun    bool
	}{
		"success":       {wantCode: ExitOK, wantRun: true},
		"failure":       {failed: errors.New("broken pipe"), wantCode: ExitFailure, wantStderr: "test: broken pipe\n", wantRun: true},
		"misconfigured": {failed: fmt.Errorf("start: %w", Misconfigured(errors.New("no such file"))), wantCode: ExitUsage, wantStderr: "test: start: no such file\n", wantRun: true},
		"help":          {args: []string{"--help"}, wantCode: ExitOK, wantStdout: "Usage: test [flags]"},
		"version":       {args: []string{"--version"}, wantCode: ExitOK, wantStdout: "test devel ("},
		"version, whatever else is wrong": {
			args: []string{"--version"}, env: map[string]string{"TEST_LIMIT": "x"}, invalid: errors.New("--limit is required"),
			wantCode: ExitOK, wantStdout: "test devel (",
		},
		"a bad flag": {
			args: []string{"--limit=many"}, wantCode: ExitUsage, wantStderr: `test: --limit="many": want a whole number` + "\ntest --help lists the flags.\n",
		},
		"a bad variable": {
			env: map[string]string{"TEST_LIMIT": "many"}, wantCode: ExitUsage,
			wantStderr: `environment variable TEST_LIMIT (flag --limit) = "many": want a whole number`,
		},
		"an unknown flag":  {args: []string{"--limits=1"}, wantCode: ExitUsage, wantStderr: "not defined: -limits"},
		"an invalid value": {invalid: errors.New("--limit=-1: must not be negative"), wantCode: ExitUsage, wantStderr: "--limit=-1: must not be negative"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			ran := false
			code := Execute(Command{
				Name: "test", EnvPrefix: "TEST", Summary: "Tests exit codes.",
				Bind:     func(fs *flag.FlagSet, _ func(string) string) { fs.Int("limit", 1, "Limit.") },
				Validate: func() error { return tc.invalid },
				Logger:   func(io.Writer) logr.Logger { return logr.Discard() },
				Run:      func(context.Context, *Process) error { ran = true; return tc.failed },
			}, System{
				Args: tc.args, Stdout: &stdout, Stderr: &stderr, LookupEnv: lookupIn(tc.env),
				Notify: func(chan<- os.Signal, ...os.Signal) func() { return func() {} },
			})
			if code != tc.wantCode || ran != tc.wantRun {
				t.Errorf("exit code %d, ran %t; want %d, %t", code, ran, tc.wantCode, tc.wantRun)
			}
			for what, s := range map[string]struct{ got, want string }{"stdout": {stdout.String(), tc.wantStdout}, "stderr": {stderr.String(), tc.wantStderr}} {
				if !strings.Contains(s.got, s.want) || s.want == "" && s.got != "" {
					t.Errorf("%s = %q, want %q", what, s.got, s.want)
				}
			}
			if name == "version" && strings.Count(stdout.String(), "\n") != 1 {
				t.Errorf("the version is not one line: %q", stdout.String())
			}
		})
	}
	if Misconfigured(nil) != nil {
		t.Error("no error became one")
	}
}

// TestSignals sends one signal after another. Run logs what happens to it and returns after the last one.
func TestSignals(t *testing.T) {
	tests := map[string]struct {
		second  bool // Run handles the second signal
		signals int
		want    []string
	}{
		"the first stops":                {signals: 1, want: []string{"stop"}},
		"the second exits":               {signals: 2, want: []string{"stop", "exit 1"}},
		"the second is handled":          {second: true, signals: 2, want: []string{"stop", "second"}},
		"the third exits after a second": {second: true, signals: 3, want: []string{"stop", "second", "exit 1"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			steps := make(chan string, 1)
			var got []string
			unsubscribed := false
			sys := System{
				Stdout: io.Discard, Stderr: io.Discard, LookupEnv: lookupIn(nil),
				Exit: func(code int) { steps <- fmt.Sprint("exit ", code) },
			}
			var signals chan<- os.Signal
			sys.Notify = func(c chan<- os.Signal, wanted ...os.Signal) func() {
				if diff := cmp.Diff([]os.Signal{os.Interrupt, syscall.SIGTERM}, wanted); diff != "" {
					t.Errorf("signals (-want +got):\n%s", diff)
				}
				signals = c
				return func() { unsubscribed = true }
			}
			code := Execute(Command{
				Name: "test", EnvPrefix: "TEST", Bind: func(*flag.FlagSet, func(string) string) {},
				Logger: func(io.Writer) logr.Logger { return logr.Discard() },
				Run: func(ctx context.Context, p *Process) error {
					if tc.second {
						p.OnSecondSignal(func() { steps <- "second" })
					}
					for n := range tc.signals {
						signals <- syscall.SIGTERM
						if n == 0 {
							<-ctx.Done()
							got = append(got, "stop")
							continue
						}
						got = append(got, <-steps)
					}
					return nil
				},
			}, sys)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			if code != ExitOK || !unsubscribed {
				t.Errorf("exit code %d, signals released: %t; want 0 and released", code, unsubscribed)
			}
		})
	}
}
