// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localkubelet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/eco2-team/scan-operator/dev/localkubelet/process"
)

// retryStart is how soon a pod that could not be started is tried again when
// nothing it waits for changes (an API error, say).
const retryStart = 5 * time.Second

// podRunner does the kubelet's work for one pod. Its goroutine is run; the
// other methods may be called from anywhere.
type podRunner struct {
	node   *Node
	dir    string
	first  *corev1.Pod // as it was found, with the status from an earlier run of the node
	tokens *podTokens
	end    *ending
	wake   chan struct{} // holds one pending wake-up
	done   chan struct{} // closed when the pod's processes are gone

	mu         sync.Mutex
	pod        *corev1.Pod // the newest version seen
	gone       bool        // the object does not exist any more
	stopping   bool        // the node stops; the object stays
	containers []*container

	// Used by run only.
	ip       string
	problem  problem
	reported *corev1.PodStatus // the status written last
	deadline time.Time         // when the grace period ends, once ending
	hurried  bool
}

// problem is why the pod's containers have not been started.
type problem struct{ reason, message string }

func newPodRunner(n *Node, pod *corev1.Pod) *podRunner {
	return &podRunner{
		node: n, pod: pod, first: pod,
		dir:    filepath.Join(n.opts.Dir, pod.Name),
		tokens: &podTokens{client: n.client, clock: n.clock, pod: pod},
		end:    newEnding(),
		wake:   make(chan struct{}, 1),
		done:   make(chan struct{}),
	}
}

func (r *podRunner) name() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pod.Name
}

// observe stores a new version of the pod.
func (r *podRunner) observe(pod *corev1.Pod) {
	r.mu.Lock()
	r.pod = pod
	r.mu.Unlock()
	r.nudge()
}

// vanish is called when the object is gone: what still runs ends immediately.
func (r *podRunner) vanish() {
	r.mu.Lock()
	r.gone = true
	r.mu.Unlock()
	r.nudge()
}

// stop ends the processes and leaves the object as it is.
func (r *podRunner) stop() {
	r.mu.Lock()
	r.stopping = true
	r.mu.Unlock()
	r.nudge()
}

// nudge wakes the runner: something that it depends on may have changed.
func (r *podRunner) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// signal sends a signal to the main process of every container.
func (r *podRunner) signal(sig syscall.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent := false
	for _, c := range r.containers {
		if p := c.process(); p != nil {
			if err := p.Signal(sig); err != nil {
				return err
			}
			sent = true
		}
	}
	if !sent {
		return fmt.Errorf("pod %s has no running process", r.pod.Name)
	}
	return nil
}

// run runs the pod. It returns when all processes have ended and, if the pod was
// being deleted, its object is gone.
func (r *podRunner) run(ctx context.Context) {
	defer close(r.done)
	for {
		r.mu.Lock()
		pod, gone, stopping := r.pod, r.gone, r.stopping
		r.mu.Unlock()

		var again time.Duration
		if gone || stopping || pod.DeletionTimestamp != nil {
			again = r.terminate(ctx, pod, gone, stopping)
			if r.ended() {
				r.cleanUp(ctx, pod, gone)
				return
			}
		} else {
			again = r.keepRunning(ctx, pod)
		}
		if !gone {
			r.report(ctx, pod)
		}
		r.await(again)
	}
}

// await returns at the next wake-up, or after a time if it is positive.
func (r *podRunner) await(after time.Duration) {
	if after <= 0 {
		<-r.wake
		return
	}
	timer := r.node.clock.NewTimer(after)
	defer timer.Stop()
	select {
	case <-r.wake:
	case <-timer.C():
	}
}

// keepRunning starts the pod's containers once everything they need is there,
// and keeps volumes and credentials current. It returns when to check again.
func (r *podRunner) keepRunning(ctx context.Context, pod *corev1.Pod) time.Duration {
	launch, err := r.provide(ctx, pod)
	if err != nil {
		reason := "ContainerCreating"
		if errors.Is(err, errUnsupported) {
			reason = "UnsupportedByLocalNode"
		}
		if r.problem != (problem{reason, err.Error()}) {
			r.problem = problem{reason, err.Error()}
			r.node.event(pod, corev1.EventTypeWarning, "FailedMount", err.Error())
		}
		return retryStart
	}
	r.problem = problem{}
	if r.containers == nil {
		r.startContainers(pod, launch)
	}
	return r.tokens.renewIn()
}

var errUnsupported = errors.New("not supported by the local node")

// provide gives the pod an address, its volumes and its credentials.
func (r *podRunner) provide(ctx context.Context, pod *corev1.Pod) (*launcher, error) {
	if len(pod.Spec.InitContainers) > 0 {
		return nil, fmt.Errorf("init containers are %w", errUnsupported)
	}
	if r.ip == "" {
		ip, err := r.node.addresses.take()
		if err != nil {
			return nil, err
		}
		r.ip = ip
	}
	l := &launcher{
		rootFS: r.node.opts.RootFS, podDir: r.dir, volumes: filepath.Join(r.dir, "volumes"),
		from: r.node.objects,
	}
	if err := os.MkdirAll(filepath.Join(r.dir, "tmp"), 0o700); err != nil {
		return nil, fmt.Errorf("create the pod's directory: %w", err)
	}
	if err := writeVolumes(l.volumes, r.addressed(pod), r.node.objects, tokenFunc(func(audience string, seconds int64) (string, error) {
		return r.tokens.get(ctx, audience, seconds)
	})); err != nil {
		return nil, err
	}
	token, err := r.tokens.get(ctx, "", 3600)
	if err != nil {
		return nil, err
	}
	l.kubeconfig, err = writeKubeconfig(r.dir, r.node.config, pod.Namespace, token)
	if err != nil {
		return nil, err
	}
	return l, nil
}

type tokenFunc func(audience string, seconds int64) (string, error)

func (f tokenFunc) token(audience string, seconds int64) (string, error) { return f(audience, seconds) }

// addressed is the pod with the address it has been given, which its status in
// the API may not show yet.
func (r *podRunner) addressed(pod *corev1.Pod) *corev1.Pod {
	out := pod.DeepCopy()
	out.Status.PodIP, out.Status.HostIP = r.ip, hostIP
	return out
}

func (r *podRunner) startContainers(pod *corev1.Pod, shared *launcher) {
	var started []*container
	for i := range pod.Spec.Containers {
		spec := &pod.Spec.Containers[i]
		l := *shared
		l.root = filepath.Join(r.dir, "root", spec.Name)
		l.logFile = r.node.logFile(pod, spec.Name)
		c := &container{
			spec: spec, rootFS: l.rootFS, clock: r.node.clock, podIP: r.ip,
			grace: gracePeriod(pod), delay: NewRestartDelay(r.node.opts.RestartBackoff),
			end: r.end, changed: r.nudge, done: make(chan struct{}),
			launch: func() (process.Spec, error) {
				r.mu.Lock()
				current := r.pod
				r.mu.Unlock()
				return l.spec(r.addressed(current), spec)
			},
			event:  func(kind, reason, message string) { r.node.event(pod, kind, reason, message) },
			status: firstStatus(r.first, spec),
		}
		started = append(started, c)
	}
	r.mu.Lock()
	r.containers = started
	r.mu.Unlock()
	for _, c := range started {
		go c.run() // ends with the pod; ended waits for it
	}
}

// firstStatus continues the restart count of a pod that an earlier run of the
// node has left behind.
func firstStatus(pod *corev1.Pod, spec *corev1.Container) corev1.ContainerStatus {
	status := corev1.ContainerStatus{
		Name: spec.Name, Image: spec.Image, ImageID: spec.Image, Started: new(false),
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}},
	}
	for i := range pod.Status.ContainerStatuses {
		if old := &pod.Status.ContainerStatuses[i]; old.Name == spec.Name && old.ContainerID != "" {
			status.RestartCount = old.RestartCount + 1
		}
	}
	return status
}

// terminate begins to end the pod, once, and ends it immediately when the grace
// period is over. It returns the rest of the grace period.
func (r *podRunner) terminate(ctx context.Context, pod *corev1.Pod, gone, stopping bool) time.Duration {
	now := r.node.clock.Now()
	deadline := now.Add(gracePeriod(pod))
	switch {
	case gone || ctx.Err() != nil:
		deadline = now // deleted by force, or the node is in a hurry
	case pod.DeletionTimestamp != nil:
		deadline = pod.DeletionTimestamp.Time // when it was deleted plus its grace period
	}
	if r.deadline.IsZero() {
		r.deadline = deadline
		close(r.end.begun)
		if !stopping && !gone {
			r.node.event(pod, corev1.EventTypeNormal, "Killing", "Stopping the pod's processes")
		}
	}
	if deadline.Before(r.deadline) {
		r.deadline = deadline // deleted again, with a shorter grace period
	}
	left := max(0, r.deadline.Sub(now))
	if left == 0 && !r.hurried {
		r.hurried = true
		close(r.end.hurry)
	}
	return left
}

// ended reports whether all containers have ended permanently.
func (r *podRunner) ended() bool {
	for _, c := range r.containers {
		select {
		case <-c.done:
		default:
			return false
		}
	}
	return true
}

// cleanUp removes the pod's files and address, and confirms a deletion.
func (r *podRunner) cleanUp(ctx context.Context, pod *corev1.Pod, gone bool) {
	if !gone && pod.DeletionTimestamp != nil {
		r.report(ctx, pod)
		r.node.confirmDeletion(ctx, pod)
	}
	if r.ip != "" {
		r.node.addresses.give(r.ip)
	}
	if err := os.RemoveAll(r.dir); err != nil {
		r.node.log.Error(err, "cannot remove a pod's directory", "pod", pod.Name)
	}
}

// gracePeriod is how long the pod's processes may take to end.
func gracePeriod(pod *corev1.Pod) time.Duration {
	seconds := ptr.Deref(pod.Spec.TerminationGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds)
	if pod.DeletionGracePeriodSeconds != nil {
		seconds = *pod.DeletionGracePeriodSeconds
	}
	return time.Duration(seconds) * time.Second
}

func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}
