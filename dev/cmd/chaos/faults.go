package main

import (
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
	// outage is how long the API server stays away.
	outage = 30 * time.Second
	// freeze is how long a worker is stopped: longer than the 15 seconds that its Lease lasts.
	freeze = 20 * time.Second
	// burst is how long the provider fails calls.
	burst = 8 * time.Second
	// blow bounds the time in which one fault must have been done and undone.
	blow = 2 * time.Minute
)

// fault is one way to break the stack.
type fault struct {
	name string
	// strike does it, and returns when what was broken runs again.
	strike func(ctx context.Context, w *world) error
	// failsCalls says that the provider fails calls, so that scans may use up their attempts, and that calls are
	// charged for again.
	failsCalls bool
	// rateLimits says that the provider answers 429 because it was told to.
	rateLimits bool
}

func faults() []fault {
	return []fault{
		{name: "kill-worker-vision", strike: killWorker(v1alpha1.StageVision)},
		{name: "kill-worker-answer", strike: killWorker(v1alpha1.StageAnswer)},
		{name: "freeze-worker", strike: freezeWorker},
		{name: "hang-calls", strike: provider(openaisim.Fault{Kind: openaisim.FaultHang, Count: 20}), failsCalls: true},
		{name: "api-server-down", strike: apiServerDown},
		{name: "kill-etcd", strike: kill("etcd", "kube-apiserver")},
		{name: "kill-controllers", strike: kill("kube-controllers")},
		{name: "kill-leader", strike: killManagers("manager")},
		{name: "kill-all-managers", strike: killManagers("manager", "manager-2")},
		{name: "terminate-worker", strike: terminateWorker},
		{name: "delete-pod", strike: deletePod},
		{name: "provider-500", strike: provider(during(openaisim.FaultServerError)), failsCalls: true},
		{name: "provider-503", strike: provider(during(openaisim.FaultOverloaded)), failsCalls: true},
		{name: "provider-reset", strike: provider(during(openaisim.FaultReset)), failsCalls: true},
		{
			name: "provider-429", rateLimits: true,
			strike: provider(openaisim.Fault{Kind: openaisim.FaultRateLimitTokens, Count: 3, Probability: 0.1, DurationSeconds: burst.Seconds()}),
		},
		{name: "kill-api", strike: kill("api")},
		{name: "all-at-once", strike: allAtOnce, failsCalls: true, rateLimits: true},
	}
}

// during is a fault of a third of the calls for the time of a burst.
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
			return nil, fmt.Errorf("--faults: there is no %q; there are %s", name, strings.Join(faultNames(), ", "))
		}
	}
	return choice, nil
}

// killWorker kills the worker that is busiest with a stage. The local node starts it again.
func killWorker(stage v1alpha1.StageName) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		pod, err := w.victim(ctx, stage, true)
		if err != nil {
			return err
		}
		w.logf("kill -9 %s", pod)
		return w.stack.Signal("pod/"+pod, syscall.SIGKILL)
	}
}

func freezeWorker(ctx context.Context, w *world) error {
	pod, err := w.victim(ctx, v1alpha1.StageAnswer, true)
	if err != nil {
		return err
	}
	w.logf("SIGSTOP %s for %s", pod, freeze)
	if err := w.stack.Signal("pod/"+pod, syscall.SIGSTOP); err != nil {
		return err
	}
	waited := pause(ctx, freeze)
	w.logf("SIGCONT %s", pod)
	return errors.Join(waited, w.stack.Signal("pod/"+pod, syscall.SIGCONT))
}

// terminateWorker has the worker drain in its place: no excuse to pay twice.
func terminateWorker(ctx context.Context, w *world) error {
	pod, err := w.victim(ctx, v1alpha1.StageVision, false)
	if err != nil {
		return err
	}
	w.logf("SIGTERM %s", pod)
	return w.stack.Signal("pod/"+pod, syscall.SIGTERM)
}

// deletePod drains a worker as an eviction or a rollout does.
func deletePod(ctx context.Context, w *world) error {
	name, err := w.victim(ctx, v1alpha1.StageAnswer, false)
	if err != nil {
		return err
	}
	w.logf("delete pod %s", name)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.stack.Namespace(), Name: name}}
	return w.client.Delete(ctx, pod)
}

func apiServerDown(ctx context.Context, w *world) error {
	w.logf("kube-apiserver down for %s", outage)
	if err := w.stack.Crash("kube-apiserver"); err != nil {
		return err
	}
	waited := pause(ctx, outage)
	w.logf("kube-apiserver starts")
	return errors.Join(waited, w.stack.Resume(ctx, "kube-apiserver"))
}

// kill crashes a component, which is started again at once, and waits until it and others are ready.
func kill(component string, others ...string) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		w.logf("kill -9 %s", component)
		if err := w.stack.Kill(component); err != nil {
			return err
		}
		for _, name := range append([]string{component}, others...) {
			if err := w.stack.AwaitReady(ctx, name); err != nil {
				return err
			}
		}
		return nil
	}
}

// killManagers crashes managers, one of which may lead; all are started again at once.
func killManagers(names ...string) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		if len(names) == 1 {
			names = []string{w.leader(ctx)}
		}
		w.logf("kill -9 %s", strings.Join(names, ", "))
		for _, name := range names {
			if err := w.stack.Kill(name); err != nil {
				return err
			}
		}
		for _, name := range names {
			if err := w.stack.AwaitReady(ctx, name); err != nil {
				return err
			}
		}
		return nil
	}
}

// provider has the simulated provider fail calls for the time of a burst.
func provider(faults ...openaisim.Fault) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		for _, f := range faults {
			w.logf("provider: %s", f.Kind)
		}
		if err := w.sim.SetFaults(ctx, faults...); err != nil {
			return err
		}
		waited := pause(ctx, burst)
		return errors.Join(waited, w.sim.SetFaults(context.WithoutCancel(ctx)))
	}
}

// allAtOnce is everything within one minute, side by side.
func allAtOnce(ctx context.Context, w *world) error {
	blows := []func(context.Context, *world) error{
		killWorker(v1alpha1.StageVision),
		freezeWorker,
		provider(
			openaisim.Fault{Kind: openaisim.FaultHang, Count: 5},
			during(openaisim.FaultServerError),
			openaisim.Fault{Kind: openaisim.FaultRateLimitTokens, Count: 1, Probability: 0.1},
		),
		func(ctx context.Context, w *world) error {
			return errors.Join(kill("etcd")(ctx, w), apiServerDown(ctx, w))
		},
		killManagers("manager", "manager-2"),
	}
	var all sync.WaitGroup
	errs := make([]error, len(blows))
	for i, strike := range blows {
		all.Go(func() { errs[i] = strike(ctx, w) })
	}
	all.Wait()
	return errors.Join(errs...)
}
