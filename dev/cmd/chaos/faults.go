// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/dev/openaisim"
)

const (
	// outage is how long the API server is down.
	outage = 30 * time.Second
	// freeze is how long a worker is stopped: longer than the 15 seconds of its Lease.
	freeze = 20 * time.Second
	// burst is how long the provider fails calls.
	burst = 8 * time.Second
	// maxFaultDuration bounds the time to inject a fault and to undo it.
	maxFaultDuration = 2 * time.Minute
)

// fault is a failure that can be injected into the stack.
type fault struct {
	name string
	// inject causes the fault, and returns when what was broken runs again.
	inject func(ctx context.Context, h *harness) error
	// failsCalls means that the provider fails calls: scans may use up their attempts, and calls are charged again.
	failsCalls bool
	// rateLimits means that the simulator is configured to answer 429.
	rateLimits bool
}

func faults() []fault {
	return []fault{
		{name: "kill-worker-vision", inject: killWorker(v1alpha1.StageVision)},
		{name: "kill-worker-answer", inject: killWorker(v1alpha1.StageAnswer)},
		{name: "freeze-worker", inject: freezeWorker},
		{name: "hang-calls", inject: provider(openaisim.Fault{Kind: openaisim.FaultHang, Count: 20}), failsCalls: true},
		{name: "api-server-down", inject: apiServerDown},
		{name: "kill-etcd", inject: kill("etcd", "kube-apiserver")},
		{name: "kill-controllers", inject: kill("kube-controllers")},
		{name: "kill-leader", inject: killManagers("manager")},
		{name: "kill-all-managers", inject: killManagers("manager", "manager-2")},
		{name: "terminate-worker", inject: terminateWorker},
		{name: "delete-pod", inject: deletePod},
		{name: "provider-500", inject: provider(during(openaisim.FaultServerError)), failsCalls: true},
		{name: "provider-503", inject: provider(during(openaisim.FaultOverloaded)), failsCalls: true},
		{name: "provider-reset", inject: provider(during(openaisim.FaultReset)), failsCalls: true},
		{
			name: "provider-429", rateLimits: true,
			inject: provider(openaisim.Fault{Kind: openaisim.FaultRateLimitTokens, Count: 3, Probability: 0.1, DurationSeconds: burst.Seconds()}),
		},
		{name: "kill-api", inject: kill("api")},
		{name: "all-at-once", inject: allAtOnce, failsCalls: true, rateLimits: true},
	}
}

// during fails a third of the calls for the time of a burst.
func during(kind openaisim.FaultKind) openaisim.Fault {
	return openaisim.Fault{Kind: kind, Probability: 0.33, DurationSeconds: burst.Seconds()}
}

func faultNames() []string {
	var names []string
	for _, f := range faults() {
		names = append(names, f.name)
	}
	return names
}

// chooseFaults picks faults by their names; no names are all.
func chooseFaults(names string) ([]fault, error) {
	if names == "" {
		return faults(), nil
	}
	var choice []fault
	for name := range strings.SplitSeq(names, ",") {
		found := false
		for _, f := range faults() {
			if f.name == name {
				choice, found = append(choice, f), true
			}
		}
		if !found {
			return nil, fmt.Errorf("unknown fault %q: choose among %s", name, strings.Join(faultNames(), ", "))
		}
	}
	return choice, nil
}

// killWorker kills the worker that is busiest with a stage. The local node starts it again.
func killWorker(stage v1alpha1.StageName) func(context.Context, *harness) error {
	return func(ctx context.Context, h *harness) error {
		pod, err := h.target(ctx, stage, true)
		if err != nil {
			return err
		}
		h.logf("kill -9 %s", pod)
		return h.stack.Signal("pod/"+pod, syscall.SIGKILL)
	}
}

func freezeWorker(ctx context.Context, h *harness) error {
	pod, err := h.target(ctx, v1alpha1.StageAnswer, true)
	if err != nil {
		return err
	}
	h.logf("SIGSTOP %s for %s", pod, freeze)
	if err := h.stack.Signal("pod/"+pod, syscall.SIGSTOP); err != nil {
		return err
	}
	waited := pause(ctx, freeze)
	h.logf("SIGCONT %s", pod)
	return errors.Join(waited, h.stack.Signal("pod/"+pod, syscall.SIGCONT))
}

// terminateWorker makes a worker drain and restart in its pod. It finishes its calls, so none may be charged twice.
func terminateWorker(ctx context.Context, h *harness) error {
	pod, err := h.target(ctx, v1alpha1.StageVision, false)
	if err != nil {
		return err
	}
	h.logf("SIGTERM %s", pod)
	return h.stack.Signal("pod/"+pod, syscall.SIGTERM)
}

// deletePod makes a worker drain, as an eviction or a rollout does.
func deletePod(ctx context.Context, h *harness) error {
	name, err := h.target(ctx, v1alpha1.StageAnswer, false)
	if err != nil {
		return err
	}
	h.logf("delete pod %s", name)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: h.stack.Namespace(), Name: name}}
	return h.client.Delete(ctx, pod)
}

func apiServerDown(ctx context.Context, h *harness) error {
	h.logf("kube-apiserver down for %s", outage)
	if err := h.stack.Crash("kube-apiserver"); err != nil {
		return err
	}
	waited := pause(ctx, outage)
	h.logf("kube-apiserver starts")
	return errors.Join(waited, h.stack.Resume(ctx, "kube-apiserver"))
}

// kill crashes a component, which is started again at once, and waits until it and others are ready.
func kill(component string, others ...string) func(context.Context, *harness) error {
	return func(ctx context.Context, h *harness) error {
		h.logf("kill -9 %s", component)
		if err := h.stack.Kill(component); err != nil {
			return err
		}
		for _, name := range append([]string{component}, others...) {
			if err := h.stack.AwaitReady(ctx, name); err != nil {
				return err
			}
		}
		return nil
	}
}

// killManagers crashes the named managers, or the leader if only one is named; all are started again at once.
func killManagers(names ...string) func(context.Context, *harness) error {
	return func(ctx context.Context, h *harness) error {
		if len(names) == 1 {
			names = []string{cmp.Or(h.stack.Leader(ctx), names[0])}
		}
		h.logf("kill -9 %s", strings.Join(names, ", "))
		for _, name := range names {
			if err := h.stack.Kill(name); err != nil {
				return err
			}
		}
		for _, name := range names {
			if err := h.stack.AwaitReady(ctx, name); err != nil {
				return err
			}
		}
		return nil
	}
}

// provider makes the simulated provider fail calls for the time of a burst.
func provider(faults ...openaisim.Fault) func(context.Context, *harness) error {
	return func(ctx context.Context, h *harness) error {
		for _, f := range faults {
			h.logf("provider: %s", f.Kind)
		}
		if err := h.sim.SetFaults(ctx, faults...); err != nil {
			return err
		}
		waited := pause(ctx, burst)
		return errors.Join(waited, h.sim.SetFaults(context.WithoutCancel(ctx)))
	}
}

// allAtOnce injects faults into every part within one minute, in parallel.
func allAtOnce(ctx context.Context, h *harness) error {
	parts := []func(context.Context, *harness) error{
		killWorker(v1alpha1.StageVision),
		freezeWorker,
		provider(
			openaisim.Fault{Kind: openaisim.FaultHang, Count: 5},
			during(openaisim.FaultServerError),
			openaisim.Fault{Kind: openaisim.FaultRateLimitTokens, Count: 1, Probability: 0.1},
		),
		func(ctx context.Context, h *harness) error {
			return errors.Join(kill("etcd")(ctx, h), apiServerDown(ctx, h))
		},
		killManagers("manager", "manager-2"),
	}
	var all sync.WaitGroup
	errs := make([]error, len(parts))
	for i, inject := range parts {
		all.Go(func() { errs[i] = inject(ctx, h) })
	}
	all.Wait()
	return errors.Join(errs...)
}
