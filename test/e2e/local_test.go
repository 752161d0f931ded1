// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/test/testenv"
)

// local is a running dev/cmd/local: what `make run` starts.
type local struct {
	apiURL     string
	kubectl    string
	kubeconfig string
	process    *exec.Cmd
	ended      chan error // how it ended
}

// submitLine is the line in which dev/cmd/local prints the address of the HTTP API.
var submitLine = regexp.MustCompile(`curl -sS (http://\S+)/api/v1/scan `)

// startLocal starts dev/cmd/local with the budgets and pools of a directory, and returns when it says that all is up.
func startLocal(t *testing.T, manifests string) *local {
	t.Helper()
	k8sDir, binDir := programs(t)
	dir := filepath.Join(t.TempDir(), "state")
	process := exec.Command(filepath.Join(binDir, "local"), "--dir", dir, "--k8s-dir", k8sDir, "--bin-dir", binDir,
		"--config", testenv.Path("config"), "--manifests", manifests, "--speed", "20",
		"--api-address", "127.0.0.1:0", "--sim-address", "127.0.0.1:0")
	process.Env = append(process.Environ(), "OPENAI_API_KEY=") // the simulated provider, whatever the developer has set
	var problems bytes.Buffer
	process.Stderr = &problems
	stdout, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	l := &local{
		kubectl: filepath.Join(k8sDir, "kubectl"), kubeconfig: filepath.Join(dir, "kubeconfig"),
		process: process, ended: make(chan error, 1),
	}
	up := make(chan string, 1)
	var said bytes.Buffer
	go func() {
		lines := bufio.NewScanner(io.TeeReader(stdout, &said))
		for lines.Scan() {
			if found := submitLine.FindStringSubmatch(lines.Text()); found != nil {
				up <- found[1]
			}
		}
		l.ended <- process.Wait()
		close(l.ended)
	}()
	t.Cleanup(func() {
		_ = process.Process.Signal(syscall.SIGKILL) // its children end with it; fails if it has ended, as it should
		for range l.ended {                         // until it is closed
		}
		if t.Failed() {
			t.Logf("local said:\n%s\n%s", said.String(), problems.String())
		}
	})
	select {
	case l.apiURL = <-up:
	case err := <-l.ended:
		t.Fatalf("the stack has ended: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the stack does not come up")
	}
	return l
}

// run runs kubectl in the product's namespace.
func (l *local) run(ctx context.Context, stdin string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, l.kubectl, append([]string{"--kubeconfig", l.kubeconfig}, args...)...)
	command.Stdin = strings.NewReader(stdin)
	out, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// must runs kubectl, which is to succeed.
func (l *local) must(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, err := l.run(t.Context(), stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// scan creates a scan with kubectl and returns it when it has ended.
func (l *local) scan(t *testing.T, name, spec string) *v1alpha1.ScanRequest {
	t.Helper()
	l.must(t, fmt.Sprintf(`{apiVersion: scan.growbin.app/v1alpha1, kind: ScanRequest, metadata: {name: %s}, spec: %s}`, name, spec),
		"create", "-f", "-")
	l.must(t, "", "wait", "--for=condition=Finished", "--timeout=60s", "scanrequest/"+name)
	scan := &v1alpha1.ScanRequest{}
	if err := json.Unmarshal([]byte(l.must(t, "", "get", "scanrequest", name, "-o", "json")), scan); err != nil {
		t.Fatal(err)
	}
	return scan
}

// children are the processes that the stack consists of.
func (l *local) children(t *testing.T) []int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ps", "-A", "-o", "ppid=,pid=").Output()
	if err != nil {
		t.Fatalf("list the processes: %v", err)
	}
	var children []int
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) != 2 || fields[0] != strconv.Itoa(l.process.Process.Pid) {
			continue
		}
		pid, err := strconv.Atoi(fields[1])
		if err != nil {
			t.Fatal(err)
		}
		children = append(children, pid)
	}
	return children
}
