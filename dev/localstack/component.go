// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"k8s.io/utils/clock"

	"github.com/eco2-team/scan-operator/dev/localkubelet"
	"github.com/eco2-team/scan-operator/dev/localkubelet/process"
)

const (
	// readyWithin is how long a component may take until it is ready; it covers
	// an API server on a busy machine.
	readyWithin = 2 * time.Minute
	// readyEvery is how often the readiness of a component that starts is checked.
	readyEvery = 50 * time.Millisecond
	// tailBytes is how much of a log is shown when its component failed.
	tailBytes = 2000
)

// component is one program of the stack and its supervision.
type component struct {
	name string
	spec process.Spec
	// ready succeeds when the component is ready.
	ready func(ctx context.Context) error
	// grace is how long it may take to end.
	grace time.Duration
	// essential components are not restarted after a crash: nothing works without
	// them, and the user is to see the failure.
	essential bool

	clock   clock.WithTicker
	backoff localkubelet.RestartBackoff
	// ended is called after each end that was not requested.
	ended func(c *component, exit process.Exit, again time.Duration)

	stop  chan struct{} // closed to end it permanently
	hurry <-chan struct{}
	done  chan struct{} // closed when it has ended permanently
	up    chan struct{} // holds one pending start request

	mu       sync.Mutex
	proc     *process.Process
	expected bool  // the end of the current process was requested
	halted   bool  // it stays down
	failure  error // why it is not started again
}

// start runs the component until close. awaitReady waits until it is ready.
func (c *component) start() error {
	c.stop, c.done = make(chan struct{}), make(chan struct{})
	c.up = make(chan struct{}, 1)
	p, err := process.Start(c.spec)
	if err != nil {
		close(c.done)
		return fmt.Errorf("%s: %w", c.name, err)
	}
	c.set(p)
	go c.supervise(p)
	return nil
}

// supervise owns the component's processes, one after another.
func (c *component) supervise(p *process.Process) {
	defer close(c.done)
	delay := localkubelet.NewRestartDelay(c.backoff)
	for {
		begun := c.clock.Now()
		select {
		case <-p.Done():
		case <-c.stop:
			p.StopWithin(c.clock, c.grace, c.hurry)
			c.set(nil)
			return
		}
		c.set(nil)
		expected := c.takeExpected()
		if !expected && c.essential {
			c.fail(fmt.Errorf("%s ended unexpectedly: %s", c.name, p.Exit()))
			c.ended(c, p.Exit(), 0)
			return
		}
		wait := time.Duration(0)
		if !expected {
			wait = delay.Next(c.clock.Since(begun))
			c.ended(c, p.Exit(), wait)
		}
		next, err := c.startAgain(wait)
		if next == nil {
			c.fail(err)
			return
		}
		p = next
	}
}

// startAgain starts the next process, when the wait is over and the component
// is not halted. It returns nil if the component is to end instead.
func (c *component) startAgain(wait time.Duration) (*process.Process, error) {
	timer := c.clock.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C():
	case <-c.up:
	case <-c.stop:
		return nil, nil
	}
	for c.isHalted() {
		select {
		case <-c.up:
		case <-c.stop:
			return nil, nil
		}
	}
	select {
	case <-c.up: // a start request that is met now
	default:
	}
	p, err := process.Start(c.spec)
	if err != nil {
		return nil, err
	}
	c.set(p)
	return p, nil
}

func (c *component) set(p *process.Process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proc = p
}

func (c *component) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failure = err
}

func (c *component) takeExpected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	expected := c.expected
	c.expected = false
	return expected
}

func (c *component) isHalted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.halted
}

var errNotRunning = errors.New("it is not running")

// current is the running process.
func (c *component) current() (*process.Process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.running() {
		return nil, fmt.Errorf("%s: %w", c.name, errNotRunning)
	}
	return c.proc, nil
}

// expectEnd returns the running process, whose end is requested now. With halt
// no other one follows.
func (c *component) expectEnd(halt bool) (*process.Process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.halted = c.halted || halt
	if !c.running() {
		return nil, fmt.Errorf("%s: %w", c.name, errNotRunning)
	}
	c.expected = true
	return c.proc, nil
}

// running says whether there is a process that has not ended; mu must be held.
func (c *component) running() bool { return c.proc != nil && c.proc.Running() }

// kill ends the process as a crash would; the next one is started at once, or
// when resumed.
func (c *component) kill(halt bool) error {
	p, err := c.expectEnd(halt)
	if err != nil {
		return err
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.Done()
	return nil
}

// end ends the process gracefully.
func (c *component) end(halt bool) error {
	p, err := c.expectEnd(halt)
	if err != nil {
		return err
	}
	p.StopWithin(c.clock, c.grace, c.hurry)
	return nil
}

// resume lets a halted component start again.
func (c *component) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.halted {
		return
	}
	c.halted = false
	select {
	case c.up <- struct{}{}:
	default:
	}
}

// close ends the component permanently and waits for its end.
func (c *component) close() {
	if c.stop == nil {
		return // it was never started
	}
	close(c.stop)
	<-c.done
}

// awaitReady waits until the component is ready. The error says why it is not.
func (c *component) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	tick := c.clock.NewTicker(readyEvery)
	defer tick.Stop()
	var last error
	for {
		c.mu.Lock()
		running, failure := c.running(), c.failure
		c.mu.Unlock()
		if failure != nil {
			return fmt.Errorf("%w; the end of its log (%s):\n%s", failure, c.spec.LogFile, tail(c.spec.LogFile))
		}
		if running {
			if last = c.ready(ctx); last == nil {
				return nil
			}
		}
		select {
		case <-tick.C():
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w (last check: %w); the end of its log (%s):\n%s",
				c.name, ctx.Err(), last, c.spec.LogFile, tail(c.spec.LogFile))
		}
	}
}

// tail is the end of a file, from the start of a line; empty if it cannot be read.
func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	if size, err := f.Seek(0, io.SeekEnd); err != nil || size <= tailBytes {
		_, _ = f.Seek(0, io.SeekStart)
	} else {
		_, _ = f.Seek(-tailBytes, io.SeekEnd)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return ""
	}
	if len(data) >= tailBytes {
		if _, after, found := bytes.Cut(data, []byte("\n")); found {
			data = after
		}
	}
	return string(bytes.TrimRight(data, "\n"))
}
