// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package process runs child processes that never outlive their owner.
//
// Each child leads a process group of its own, so a Ctrl-C typed at the
// terminal reaches the owner alone, which then stops its children in the order
// it wants, and so a child's own children are reached by its signals.
package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"time"

	"k8s.io/utils/clock"
)

// Spec says what to run.
type Spec struct {
	// Path is the program; it is not looked up in PATH.
	Path string
	// Args follow the program's name.
	Args []string
	// Env is the whole environment, as NAME=value. Nothing is inherited.
	Env []string
	// Dir is the working directory; empty means the owner's.
	Dir string
	// LogFile receives stdout and stderr, appended. Its directory must exist.
	LogFile string
}

// Exit is how a process ended.
type Exit struct {
	// Code is the exit code, or 128 plus the signal's number, as a shell and
	// the kubelet report it.
	Code int
	// Signal is the signal that ended the process, or 0.
	Signal syscall.Signal
}

// String says it in words for logs and status messages.
func (e Exit) String() string {
	if e.Signal != 0 {
		return fmt.Sprintf("killed by signal %d (%s)", int(e.Signal), e.Signal)
	}
	return fmt.Sprintf("exit code %d", e.Code)
}

// Process is a running child. Its methods may be called from any goroutine.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	exit Exit // written before done is closed
}

// Start runs the program. The error says what cannot be started and why; it
// wraps fs.ErrNotExist when the program is missing.
func Start(spec Spec) (*Process, error) {
	log, err := os.OpenFile(spec.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", spec.Path, err)
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor

	//nolint:noctx // the owner ends the child by signal and grace period, which a context cannot express
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Env = spec.Env
	if cmd.Env == nil {
		cmd.Env = []string{} // nil would inherit the owner's, keys included
	}
	cmd.Dir = spec.Dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = attributes()
	if err := cmd.Start(); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("start %s: there is no such program (build it with make build): %w", spec.Path, err)
		}
		return nil, fmt.Errorf("start %s: %w", spec.Path, err)
	}

	p := &Process{cmd: cmd, done: make(chan struct{})}
	go p.wait()
	return p, nil
}

// wait reaps the child and whatever it left behind in its process group, as a
// container's end takes all of its processes along.
func (p *Process) wait() {
	defer close(p.done)
	_ = p.cmd.Wait() // an unsuccessful exit is in ProcessState
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)

	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case ok && status.Signaled():
		p.exit = Exit{Code: 128 + int(status.Signal()), Signal: status.Signal()}
	default:
		p.exit = Exit{Code: p.cmd.ProcessState.ExitCode()}
	}
}

// PID is the process's id, which is its process group's id too.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit is how the process ended. It waits for the end.
func (p *Process) Exit() Exit {
	<-p.done
	return p.exit
}

// Running says whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends the signal to the process, and to its whole group when it is
// one that cannot be handled (SIGKILL, SIGSTOP) or undoes such a one (SIGCONT).
// A process that has ended takes no signal and is no error.
func (p *Process) Signal(sig syscall.Signal) error {
	if !p.Running() {
		return nil
	}
	target := p.PID()
	if sig == syscall.SIGKILL || sig == syscall.SIGSTOP || sig == syscall.SIGCONT {
		target = -target
	}
	if err := syscall.Kill(target, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %s to process %d: %w", sig, p.PID(), err)
	}
	return nil
}

// Stop asks the process to end with SIGTERM and ends it with SIGKILL once hurry
// is closed. It returns when the process is gone. A nil hurry never hurries.
func (p *Process) Stop(hurry <-chan struct{}) Exit {
	if err := p.Signal(syscall.SIGTERM); err == nil {
		select {
		case <-p.done:
			return p.exit
		case <-hurry:
		}
	}
	// SIGKILL cannot be refused; the only error is that the process is gone.
	_ = p.Signal(syscall.SIGKILL)
	return p.Exit()
}

// StopWithin is Stop that hurries by itself when the grace period is over.
func (p *Process) StopWithin(clk clock.Clock, grace time.Duration, hurry <-chan struct{}) Exit {
	late := make(chan struct{})
	timer := clk.NewTimer(grace)
	defer timer.Stop()
	go func() {
		select {
		case <-p.done:
		case <-hurry:
			close(late)
		case <-timer.C():
			close(late)
		}
	}()
	return p.Stop(late)
}
