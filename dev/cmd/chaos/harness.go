// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/dev/load"
	"github.com/eco2-team/scan-operator/dev/localstack"
)

// tokensPerMinute is the simulated provider's limit, that of the budget in manifests/.
const tokensPerMinute = 1_000_000

// harness is the stack under test, and what watches it.
type harness struct {
	opts     options
	out      io.Writer
	begun    time.Time
	random   *rand.Rand // of the goroutine that runs the rounds
	stack    *localstack.Stack
	client   client.Client
	recorder *load.Recorder
	sim      load.Simulator

	mu sync.Mutex // over out, targets
	// targets are the identities of the workers that were killed or frozen. Their calls may be paid for twice.
	targets map[string]bool
}

func newHarness(ctx context.Context, o options, out io.Writer) (*harness, error) {
	h := &harness{
		opts: o, out: out, begun: time.Now(), targets: map[string]bool{},
		random: newRandom(o.seed),
	}
	var err error
	h.stack, err = localstack.Start(ctx, localstack.Options{
		Dir: o.dir, K8sDir: o.k8sDir, BinDir: o.binDir, ConfigDir: o.configDir, ManifestsDir: o.manifests,
		Speed: o.speed, TokensPerMinute: tokensPerMinute, StandbyManager: true, Progress: out,
		SimArgs: []string{"--seed", strconv.FormatUint(o.seed, 10)},
	})
	if err != nil {
		return nil, err
	}
	h.sim = load.Simulator{URL: h.stack.SimURL()}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme, coordinationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, errors.Join(err, h.close())
		}
	}
	if h.client, err = client.New(h.stack.RESTConfig(), client.Options{Scheme: scheme}); err != nil {
		return nil, errors.Join(fmt.Errorf("make a client: %w", err), h.close())
	}
	if h.recorder, err = load.Watch(ctx, h.stack.RESTConfig(), h.stack.Namespace()); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

func newRandom(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// close ends the watch and the stack.
func (h *harness) close() error {
	var err error
	if h.recorder != nil {
		err = h.recorder.Close()
	}
	h.stack.Hurry()
	h.stack.Stop()
	return err
}

// logf writes a line of progress.
func (h *harness) logf(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fmt.Fprintf(h.out, "%7.1fs  %s\n", time.Since(h.begun).Seconds(), fmt.Sprintf(format, args...))
}

// order shuffles the faults: each occurs before any occurs again.
func (h *harness) order(choice []fault, rounds int) []fault {
	var order []fault
	for len(order) < rounds {
		for _, i := range h.random.Perm(len(choice)) {
			order = append(order, choice[i])
		}
	}
	return order[:rounds]
}

// target waits until a worker is in the middle of several calls of a stage, and returns the busiest one. With excused,
// its calls may have to be made again.
func (h *harness) target(ctx context.Context, stage v1alpha1.StageName, excused bool) (pod string, err error) {
	const calls = 3
	// The simulated provider takes at least 4.5 seconds for a call, at its own speed.
	shortest := time.Duration(4.5 / h.opts.speed * float64(time.Second))
	var identity string
	err = wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(context.Context) (bool, error) {
		busy, most := h.recorder.Busy(stage, shortest/5, shortest*4/5), 0
		for _, name := range slices.Sorted(maps.Keys(busy)) {
			if busy[name] > most {
				identity, most = name, busy[name]
			}
		}
		return most >= calls, nil
	})
	if err != nil {
		return "", fmt.Errorf("wait for a worker that is busy with %s: %w", stage, err)
	}
	pod = identity[:strings.LastIndex(identity, "-")] // what follows is the start's nonce
	if excused {
		h.mu.Lock()
		h.targets[identity] = true
		h.mu.Unlock()
	}
	return pod, nil
}

// killed reports whether one of the workers was killed or frozen.
func (h *harness) killed(workers []string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(workers, func(name string) bool { return h.targets[name] })
}

// awaitIdle waits until no budget has anything reserved.
func (h *harness) awaitIdle(ctx context.Context) error {
	var last string
	err := wait.PollUntilContextCancel(ctx, 250*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		budgets := &v1alpha1.TokenBudgetList{}
		if err := h.client.List(ctx, budgets, client.InNamespace(h.stack.Namespace())); err != nil {
			if ctx.Err() == nil {
				last = err.Error()
			}
			return false, nil // retried until ctx ends
		}
		for i := range budgets.Items {
			if u := &budgets.Items[i].Status.Usage; u.ReservedTokens != 0 || u.InFlight != 0 {
				last = fmt.Sprintf("budget %s has %d tokens reserved for %d calls", budgets.Items[i].Name, u.ReservedTokens, u.InFlight)
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("wait until nothing is reserved: %s: %w", last, err)
	}
	return nil
}

// pause waits for a part of the round to pass.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
