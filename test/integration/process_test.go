// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/eco2-team/scan-operator/test/testenv"
)

// programsDir is where buildPrograms puts what it builds.
var programsDir string

// buildPrograms builds the product's programs from this tree, once.
var buildPrograms = sync.OnceValue(func() error {
	build := exec.Command("go", "build", "-o", programsDir, "./cmd/manager", "./cmd/api", "./cmd/worker")
	build.Dir = testenv.Path()
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, output)
	}
	return nil
})

// process is one of the product's programs on its own, to be treated as no goroutine can be.
type process struct {
	t       *testing.T
	name    string
	pod     string // of a worker: what its identities begin with
	command *exec.Cmd
	ended   chan struct{}
	lines   *logs
}

// startProcess runs a program with the rights of an account until the test ends.
func (w *world) startProcess(program string, config *rest.Config, args ...string) *process {
	w.t.Helper()
	if err := buildPrograms(); err != nil {
		w.t.Fatal(err)
	}
	args = append([]string{"--kubeconfig=" + testenv.Kubeconfig(w.t, config), "--namespace=" + w.namespace}, args...)
	p := &process{
		t: w.t, name: program, command: exec.CommandContext(context.Background(), filepath.Join(programsDir, program), args...),
		ended: make(chan struct{}), lines: &logs{changed: make(chan struct{})},
	}
	p.command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.t.TempDir()}
	output, err := p.command.StderrPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		w.t.Fatalf("start %s: %v", program, err)
	}
	go func() {
		defer close(p.ended)
		scanner := bufio.NewScanner(output)
		for scanner.Scan() {
			p.lines.add(scanner.Text())
			w.logs.add(fmt.Sprintf("%s %d %s", program, p.command.Process.Pid, scanner.Text()))
		}
		_ = p.command.Wait() // how it ended is in its state
	}()
	w.t.Cleanup(p.kill)
	return p
}

func (p *process) signal(signal os.Signal) {
	p.t.Helper()
	if err := p.command.Process.Signal(signal); err != nil {
		p.t.Fatalf("send %s to %s: %v", signal, p.name, err)
	}
}

// kill ends the process as a crash does, and waits for its end.
func (p *process) kill() {
	_ = p.command.Process.Kill() // it may have ended
	<-p.ended
}

// freeze stops the process where it is; thaw lets it go on.
func (p *process) freeze() { p.t.Helper(); p.signal(syscall.SIGSTOP) }
func (p *process) thaw()   { p.t.Helper(); p.signal(syscall.SIGCONT) }

// awaitEnd waits for the end of the process and returns its exit code.
func (p *process) awaitEnd() int {
	p.t.Helper()
	awaitClosed(p.t, p.ended, "the end of "+p.name)
	return p.command.ProcessState.ExitCode()
}

// awaitLine waits for a line of the log with all of the parts and returns it. A process that has ended writes none.
func (p *process) awaitLine(parts ...string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), waitTimeout)
	defer cancel()
	for seen := 0; ; {
		lines, next := p.lines.read()
		for ; seen < len(lines); seen++ {
			if containsAll(lines[seen], parts) {
				return lines[seen]
			}
		}
		select {
		case <-next:
		case <-p.ended:
			if lines, _ := p.lines.read(); seen < len(lines) {
				continue // its last words
			}
			p.t.Fatalf("%s ended without a line with %q; the log ends with:\n%s", p.name, parts, strings.Join(lines[max(0, len(lines)-5):], "\n"))
		case <-ctx.Done():
			p.t.Fatalf("timed out waiting for a line with %q from %s", parts, p.name)
		}
	}
}

func containsAll(line string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(line, part) {
			return false
		}
	}
	return true
}

// startManagerProcess runs a manager.
func (w *world) startManagerProcess() *process {
	w.t.Helper()
	return w.startProcess("manager", controlPlane.As(w.namespace, testenv.AccountManager),
		"--metrics-bind-address=127.0.0.1:0", "--metrics-secure=false", "--health-probe-bind-address=127.0.0.1:0",
		"--default-endpoint="+w.provider.url)
}

// workerArgs are the flags of a worker of a pool, but for where the API server is.
func (w *world) workerArgs(pool, pod string) []string {
	names := make([]string, len(stagesOf[pool]))
	for i, stage := range stagesOf[pool] {
		names[i] = string(stage)
	}
	return []string{
		"--pool=" + pool, "--stages=" + strings.Join(names, ","), "--pod-name=" + pod,
		"--keys-dir=" + w.keysDir, "--default-endpoint=" + w.provider.url, "--health-probe-bind-address=127.0.0.1:0",
	}
}

// startWorkerProcess runs a worker and waits until it is registered.
func (w *world) startWorkerProcess(config *rest.Config, pool string, args ...string) *process {
	w.t.Helper()
	pod := podName(pool)
	p := w.startProcess("worker", config, append(w.workerArgs(pool, pod), args...)...)
	p.pod = pod + "-"
	p.awaitLine(`"msg":"registered"`)
	return p
}
