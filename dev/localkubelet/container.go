// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localkubelet

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/eco2-team/scan-operator/dev/localkubelet/process"
)

// ending ends a pod's containers: gracefully once begun is closed, immediately once
// hurry is closed.
type ending struct {
	begun, hurry chan struct{}
}

func newEnding() *ending {
	return &ending{begun: make(chan struct{}), hurry: make(chan struct{})}
}

// container keeps one container of a pod running until the pod ends.
type container struct {
	spec   *corev1.Container
	rootFS string
	clock  clock.WithTicker
	// launch resolves the command line and the environment for the next start.
	launch func() (process.Spec, error)
	// podIP is where probes go.
	podIP string
	// grace is how long a container that fails its liveness probe may take.
	grace time.Duration
	delay *RestartDelay
	end   *ending
	// changed is called, from any goroutine, after the status has changed.
	changed func()
	// event records an event of the pod.
	event func(kind, reason, message string)

	done   chan struct{} // closed when the container has ended permanently
	mu     sync.Mutex
	status corev1.ContainerStatus
	proc   *process.Process // the running one, if any
}

// run starts and restarts the container. It returns when the pod ends.
func (c *container) run() {
	defer func() {
		close(c.done)
		c.changed()
	}()
	for !c.isEnding() {
		begun := c.clock.Now()
		p, err := c.start()
		switch {
		case err != nil:
			c.event(corev1.EventTypeWarning, "Failed", err.Error())
			c.setWaiting(startReason(err), err.Error())
		default:
			c.supervise(p)
		}
		if c.isEnding() {
			return
		}
		c.pause(c.delay.Next(c.clock.Since(begun)), err == nil)
	}
}

// startReason is the kubelet's reason for a container that does not start.
func startReason(err error) string {
	if _, ok := errors.AsType[*missingError](err); ok {
		return "CreateContainerConfigError"
	}
	return "RunContainerError"
}

func (c *container) start() (*process.Process, error) {
	spec, err := c.launch()
	if err != nil {
		return nil, err
	}
	p, err := process.Start(spec)
	if err != nil {
		return nil, err
	}
	c.update(func(s *corev1.ContainerStatus) {
		c.proc = p
		s.ContainerID = fmt.Sprintf("local://%d", p.PID())
		s.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(c.clock.Now())}}
		started := c.spec.StartupProbe == nil
		s.Started = &started
		s.Ready = started && c.spec.ReadinessProbe == nil
	})
	c.event(corev1.EventTypeNormal, "Started", fmt.Sprintf("Started container %s as process %d", c.spec.Name, p.PID()))
	return p, nil
}

// supervise watches the process until it has ended, for whichever reason.
func (c *container) supervise(p *process.Process) {
	ctx, cancel := context.WithCancel(context.Background())
	unhealthy := make(chan string, 1)
	var probes sync.WaitGroup
	probes.Go(func() { c.runProbes(ctx, unhealthy) })

	var exit process.Exit
	select {
	case <-p.Done():
		exit = p.Exit()
	case <-c.end.begun:
		c.preStop(p)
		exit = p.Stop(c.end.hurry)
	case why := <-unhealthy:
		c.event(corev1.EventTypeNormal, "Killing", fmt.Sprintf("Container %s %s, will be restarted", c.spec.Name, why))
		c.preStop(p)
		exit = p.StopWithin(c.clock, c.grace, c.end.hurry)
	}
	cancel()
	probes.Wait()

	c.update(func(s *corev1.ContainerStatus) {
		c.proc = nil
		ended := &corev1.ContainerStateTerminated{
			ExitCode: int32(exit.Code), Signal: int32(exit.Signal), Reason: "Completed",
			FinishedAt: metav1.NewTime(c.clock.Now()), ContainerID: s.ContainerID,
		}
		if exit.Code != 0 {
			ended.Reason, ended.Message = "Error", exit.String()
		}
		if s.State.Running != nil {
			ended.StartedAt = s.State.Running.StartedAt
		}
		s.State = corev1.ContainerState{Terminated: ended}
		s.Ready, s.Started = false, new(false)
	})
}

// pause waits before the next start and counts it if a process has run.
func (c *container) pause(wait time.Duration, ran bool) {
	if wait > 0 {
		message := fmt.Sprintf("back-off %s restarting container %s", wait, c.spec.Name)
		if ran {
			c.event(corev1.EventTypeWarning, "BackOff", message)
			c.setWaiting("CrashLoopBackOff", message)
		}
		timer := c.clock.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-c.end.begun:
			return
		case <-timer.C():
		}
	}
	if ran {
		c.update(func(s *corev1.ContainerStatus) { s.RestartCount++ })
	}
}

// setWaiting keeps how the last process ended, for kubectl describe.
func (c *container) setWaiting(reason, message string) {
	c.update(func(s *corev1.ContainerStatus) {
		if s.State.Terminated != nil {
			s.LastTerminationState = s.State
		}
		s.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	})
}

func (c *container) update(change func(s *corev1.ContainerStatus)) {
	c.mu.Lock()
	before := c.status.State
	change(&c.status)
	if before.Terminated != nil && c.status.State.Running != nil {
		c.status.LastTerminationState = before
	}
	c.mu.Unlock()
	c.changed()
}

func (c *container) currentStatus() corev1.ContainerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *c.status.DeepCopy()
}

// process is the running process, or nil between two of them.
func (c *container) process() *process.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.proc
}

func (c *container) isEnding() bool {
	select {
	case <-c.end.begun:
		return true
	default:
		return false
	}
}

// runProbes gates the others behind the startup probe and reports on unhealthy
// when the container has to be restarted.
func (c *container) runProbes(ctx context.Context, unhealthy chan<- string) {
	if c.spec.StartupProbe != nil && !c.awaitStartup(ctx, unhealthy) {
		return
	}
	var wg sync.WaitGroup
	if p := c.spec.ReadinessProbe; p != nil {
		v := newVerdict(p, false)
		wg.Go(func() {
			c.prober(p).run(ctx, func(err error) {
				ready, decided := v.observe(err == nil)
				c.reportProbe("Readiness", err)
				if decided {
					c.setReady(ready)
				}
			})
		})
	}
	if p := c.spec.LivenessProbe; p != nil {
		v := newVerdict(p, true)
		wg.Go(func() {
			c.prober(p).run(ctx, func(err error) {
				c.reportProbe("Liveness", err)
				if alive, decided := v.observe(err == nil); decided && !alive {
					offer(unhealthy, "failed its liveness probe")
				}
			})
		})
	}
	wg.Wait()
}

// awaitStartup returns true when the startup probe has succeeded.
func (c *container) awaitStartup(ctx context.Context, unhealthy chan<- string) bool {
	attempt, cancel := context.WithCancel(ctx)
	defer cancel()
	v := newVerdict(c.spec.StartupProbe, false)
	started := false
	c.prober(c.spec.StartupProbe).run(attempt, func(err error) {
		c.reportProbe("Startup", err)
		ok, decided := v.observe(err == nil)
		switch {
		case !decided:
		case ok:
			started = true
			c.update(func(s *corev1.ContainerStatus) {
				s.Started, s.Ready = new(true), c.spec.ReadinessProbe == nil
			})
			cancel()
		default:
			offer(unhealthy, "failed its startup probe")
			cancel()
		}
	})
	return started
}

// offer does not wait: one reason for a restart is enough.
func offer(to chan<- string, what string) {
	select {
	case to <- what:
	default:
	}
}

func (c *container) reportProbe(kind string, err error) {
	if err != nil {
		c.event(corev1.EventTypeWarning, "Unhealthy", kind+" probe failed: "+err.Error())
	}
}

func (c *container) setReady(ready bool) {
	c.mu.Lock()
	same := c.status.Ready == ready
	c.mu.Unlock()
	if !same {
		c.update(func(s *corev1.ContainerStatus) { s.Ready = ready })
	}
}

func (c *container) prober(p *corev1.Probe) *prober {
	return &prober{clock: c.clock, probe: p, check: func(ctx context.Context) error {
		switch {
		case p.HTTPGet != nil:
			return probeHTTP(ctx, c.podIP, c.spec, p.HTTPGet)
		case p.TCPSocket != nil:
			return probeTCP(ctx, c.podIP, c.spec, p.TCPSocket)
		case p.Exec != nil:
			return c.exec(ctx, p.Exec.Command)
		default:
			return errProbeKind
		}
	}}
}

// exec runs a command beside the container's process, in its environment.
func (c *container) exec(ctx context.Context, command []string) error {
	spec, err := c.launch()
	if err != nil {
		return err
	}
	if len(command) == 0 {
		return errors.New("run exec: it has no command")
	}
	path, err := findProgram(c.rootFS, command[0])
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, command[1:]...)
	cmd.Env, cmd.Dir = spec.Env, spec.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// preStop runs the container's preStop hook; it counts against the grace period.
func (c *container) preStop(p *process.Process) {
	if c.spec.Lifecycle == nil || c.spec.Lifecycle.PreStop == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-c.end.hurry:
		case <-p.Done():
		case <-ctx.Done():
		}
		cancel()
	}()
	hook := c.spec.Lifecycle.PreStop
	var err error
	switch {
	case hook.Sleep != nil:
		timer := c.clock.NewTimer(time.Duration(hook.Sleep.Seconds) * time.Second)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C():
		}
	case hook.Exec != nil:
		err = c.exec(ctx, hook.Exec.Command)
	case hook.HTTPGet != nil:
		err = probeHTTP(ctx, c.podIP, c.spec, hook.HTTPGet)
	}
	if err != nil && ctx.Err() == nil {
		c.event(corev1.EventTypeWarning, "FailedPreStopHook", err.Error())
	}
}
