// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/eco2-team/scan-operator/internal/cli"
	"github.com/eco2-team/scan-operator/test/testenv"
)

// runProgram runs a program to its end. Its environment is env.
func runProgram(t *testing.T, program string, env, args []string) (code int, stdout, stderr string) {
	t.Helper()
	if err := buildPrograms(); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), filepath.Join(programsDir, program), args...)
	command.Env = append([]string{"HOME=" + t.TempDir()}, env...)
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := command.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %s: %v", program, err)
	}
	return command.ProcessState.ExitCode(), out.String(), errs.String()
}

// TestCommandLines checks that every program treats its command line, its environment and its files in the same way.
func TestCommandLines(t *testing.T) {
	t.Parallel()
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() }) // after the parallel cases
	kubeconfig := "--kubeconfig=" + testenv.Kubeconfig(t, &rest.Config{Host: "http://127.0.0.1:1"})
	programs := map[string]struct {
		name, prefix string
		required     []string // flags without which it does not start
		address      string   // a flag
	}{
		"manager": {"scan-manager", "SCAN_MANAGER", []string{"--metrics-bind-address=0", "--queue-bind-address="}, "health-probe-bind-address"},
		"api":     {"scan-api", "SCAN_API", nil, "bind-address"},
		"worker":  {"scan-worker", "SCAN_WORKER", []string{"--pool=p", "--stages=vision"}, "health-probe-bind-address"},
	}
	for program, p := range programs {
		cases := map[string]struct {
			args, env  []string
			wantCode   int
			wantStdout string // a regular expression
			wantStderr string // a part
		}{
			"version": {args: []string{"--version"}, wantCode: cli.ExitOK, wantStdout: `^` + p.name + ` \S+ \([^\n]*go1[^\n]*\)\n$`},
			"help":    {args: []string{"--help"}, wantCode: cli.ExitOK, wantStdout: `--namespace string\n.*\n +Environment: ` + p.prefix + `_NAMESPACE\. Default: scans\.`},
			"a bad flag": {
				args: append(p.required, "--zap-log-level=loud"), wantCode: cli.ExitUsage,
				wantStderr: p.name + `: --zap-log-level="loud": want debug, info, error, panic or a number above 0`,
			},
			"a bad variable": {
				args: p.required, env: []string{p.prefix + "_ZAP_DEVEL=perhaps"}, wantCode: cli.ExitUsage,
				wantStderr: `environment variable ` + p.prefix + `_ZAP_DEVEL (flag --zap-devel) = "perhaps": want true or false`,
			},
			"an argument":     {args: append(p.required, "start"), wantCode: cli.ExitUsage, wantStderr: `unexpected argument "start"`},
			"no kubeconfig":   {args: append(p.required, "--kubeconfig=/nonexistent"), wantCode: cli.ExitUsage, wantStderr: "set --kubeconfig or run in a cluster"},
			"no pack":         {args: append(p.required, kubeconfig, "--knowledge-dir=/nonexistent"), wantCode: cli.ExitUsage, wantStderr: "--knowledge-dir"},
			"a taken address": {args: append(p.required, kubeconfig, "--"+p.address+"="+taken.Addr().String()), wantCode: cli.ExitFailure, wantStderr: "address already in use"},
		}
		for name, tc := range cases {
			t.Run(program+"/"+name, func(t *testing.T) {
				t.Parallel()
				code, stdout, stderr := runProgram(t, program, tc.env, tc.args)
				if code != tc.wantCode {
					t.Errorf("exit code %d, want %d; stderr: %s", code, tc.wantCode, stderr)
				}
				if tc.wantStdout == "" && stdout != "" || !regexp.MustCompile(tc.wantStdout).MatchString(stdout) {
					t.Errorf("stdout = %q, want %q", stdout, tc.wantStdout)
				}
				if tc.wantStderr == "" && stderr != "" || !strings.Contains(stderr, tc.wantStderr) {
					t.Errorf("stderr = %q, want %q", stderr, tc.wantStderr)
				}
			})
		}
	}
}

// TestLibrariesLogJSON awaits a line of client-go in the log of every program, and checks that every line is JSON. The
// worker's comes through klog, the others through the logger that controller-runtime passes on. An API server that
// forbids everything makes watches fail.
func TestLibrariesLogJSON(t *testing.T) {
	t.Parallel()
	forbidding := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`)) // the client may have gone
	}))
	t.Cleanup(forbidding.Close)
	w := newWorld(t, nil)
	noWatches := &rest.Config{Host: forbidding.URL}
	for program, tc := range map[string]struct {
		config     *rest.Config
		args, line []string
	}{
		"manager": {
			config: controlPlane.As(w.namespace, testenv.AccountManager),
			args:   []string{"--metrics-bind-address=0", "--queue-bind-address=", "--health-probe-bind-address=127.0.0.1:0"},
			line:   []string{"scan-operator-leader", "acquired"}, // from leader election
		},
		"api":    {config: noWatches, args: []string{"--bind-address=127.0.0.1:0"}, line: []string{"Failed to watch", "ScanRequest"}},
		"worker": {config: noWatches, args: w.workerArgs(visionPool, podName(visionPool)), line: []string{"Failed to watch", "ScanRequest"}},
	} {
		p := w.startProcess(program, tc.config, tc.args...)
		p.awaitLine(tc.line...)
		lines, _ := p.lines.read()
		for _, line := range lines {
			if !json.Valid([]byte(line)) {
				t.Errorf("%s logs a line that is not JSON: %s", program, line)
			}
		}
		p.signal(os.Interrupt)
	}
}
