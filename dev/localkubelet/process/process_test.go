// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

// childEnv makes the test binary play a child instead of running tests.
const childEnv = "PROCESS_TEST_CHILD"

func TestMain(m *testing.M) {
	role, ok := os.LookupEnv(childEnv)
	if !ok {
		os.Exit(m.Run())
	}
	os.Exit(child(role))
}

// child plays one role. It announces in its output when it is ready for
// signals, so that tests wait for a fact and not for a time.
func child(role string) int {
	signals := make(chan os.Signal, 1)
	switch role {
	case "exit3":
		fmt.Println("env", len(os.Environ()), os.Getenv("GREETING"), os.Args[1:])
		return 3
	case "obedient":
		signal.Notify(signals, syscall.SIGTERM)
		fmt.Println("ready")
		<-signals
		return 0
	case "stubborn":
		signal.Notify(signals, syscall.SIGTERM)
		fmt.Println("ready")
		for range signals { // it takes the signal and stays
		}
	case "parent":
		grandchild := exec.Command(os.Args[0])
		grandchild.Env = []string{childEnv + "=stubborn"}
		if err := grandchild.Start(); err != nil {
			return 1
		}
		fmt.Println("ready", grandchild.Process.Pid)
		signal.Notify(signals, syscall.SIGTERM)
		<-signals
		return 0
	}
	return 9
}

func start(t *testing.T, role string, more ...string) (*Process, string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	p, err := Start(Spec{
		Path: os.Args[0], Args: []string{"one", "two"},
		Env:     append([]string{childEnv + "=" + role}, more...),
		LogFile: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Signal(syscall.SIGKILL); <-p.Done() })
	return p, log
}

// awaitLog returns the log once it contains the text, or fails when the
// process ends without having said it.
func awaitLog(t *testing.T, p *Process, log, text string) string {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		ended := !p.Running()
		data, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), text) && strings.HasSuffix(string(data), "\n") {
			return string(data)
		}
		if ended {
			t.Fatalf("process ended (%s) without saying %q; log: %s", p.Exit(), text, data)
		}
		<-tick.C
	}
}

func TestExitCodeArgumentsAndEnvironment(t *testing.T) {
	t.Setenv("INHERITED", "no")
	p, log := start(t, "exit3", "GREETING=hello")
	if got := p.Exit(); got != (Exit{Code: 3}) {
		t.Errorf("exit = %v, want exit code 3", got)
	}
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if want := "env 2 hello [one two]\n"; string(data) != want {
		t.Errorf("output = %q, want %q: the environment must be the given one only", data, want)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("signal to an ended process: %v, want none", err)
	}
}

func TestStop(t *testing.T) {
	for name, tc := range map[string]struct {
		role string
		// pass is what happens while Stop waits: time passes or hurry is closed.
		pass func(clk *clocktesting.FakeClock, hurry chan struct{})
		want Exit
	}{
		"ends by itself": {
			role: "obedient",
			pass: func(*clocktesting.FakeClock, chan struct{}) {},
			want: Exit{Code: 0},
		},
		"grace period over": {
			role: "stubborn",
			pass: func(clk *clocktesting.FakeClock, _ chan struct{}) { clk.Step(31 * time.Second) },
			want: Exit{Code: 137, Signal: syscall.SIGKILL},
		},
		"hurried": {
			role: "stubborn",
			pass: func(_ *clocktesting.FakeClock, hurry chan struct{}) { close(hurry) },
			want: Exit{Code: 137, Signal: syscall.SIGKILL},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, log := start(t, tc.role)
			awaitLog(t, p, log, "ready")
			clk := clocktesting.NewFakeClock(time.Unix(0, 0))
			hurry := make(chan struct{})
			stopped := make(chan Exit)
			go func() { stopped <- p.StopWithin(clk, 30*time.Second, hurry) }()
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for !clk.HasWaiters() && p.Running() {
				<-tick.C
			}
			tc.pass(clk, hurry)
			if got := <-stopped; got != tc.want {
				t.Errorf("exit = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestGroupEndsWithItsLeader(t *testing.T) {
	p, log := start(t, "parent")
	line := awaitLog(t, p, log, "ready")
	var grandchild int
	if _, err := fmt.Sscanf(line, "ready %d", &grandchild); err != nil {
		t.Fatalf("parse %q: %v", line, err)
	}
	p.Stop(nil)
	// The grandchild ignores SIGTERM, so only the group's SIGKILL ends it. It
	// is the child of another process, so it may stay a zombie for a moment.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for alive(grandchild) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("process %d survived its group's leader", grandchild)
		}
	}
}

func alive(pid int) bool {
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		_, after, _ := strings.Cut(string(stat), ") ")
		return !strings.HasPrefix(after, "Z")
	}
	return syscall.Kill(pid, 0) == nil
}

func TestStartErrors(t *testing.T) {
	_, err := Start(Spec{Path: "/no/such/program", LogFile: filepath.Join(t.TempDir(), "log")})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("missing program: error = %v, want one that names it and wraps fs.ErrNotExist", err)
	}
	_, err = Start(Spec{Path: os.Args[0], LogFile: filepath.Join(t.TempDir(), "no-directory", "log")})
	if err == nil || !strings.Contains(err.Error(), "open the log") {
		t.Errorf("log without a directory: error = %v, want one about the log", err)
	}
}
