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

// world is the stack that is broken, and those who watch.
type world struct {
	opts     options
	out      io.Writer
	begun    time.Time
	random   *rand.Rand // of the goroutine that plays the rounds
	stack    *localstack.Stack
	client   client.Client
	recorder *load.Recorder
	sim      load.Simulator

	mu sync.Mutex // over out, victims
	// victims are the identities of the workers that were killed or frozen: calls that these had may be paid for
	// twice.
	victims map[string]bool
}

func newWorld(ctx context.Context, o options, out io.Writer) (*world, error) {
	w := &world{
		opts: o, out: out, begun: time.Now(), victims: map[string]bool{},
		random: newRandom(o.seed),
	}
	var err error
	w.stack, err = localstack.Start(ctx, localstack.Options{
		Dir: o.dir, K8sDir: o.k8sDir, BinDir: o.binDir, ConfigDir: o.configDir, ManifestsDir: o.manifests,
		Speed: o.speed, TokensPerMinute: tokensPerMinute, StandbyManager: true, Progress: out,
		SimArgs: []string{"--seed", strconv.FormatUint(o.seed, 10)},
	})
	if err != nil {
		return nil, err
	}
	w.sim = load.Simulator{URL: w.stack.SimURL()}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme, coordinationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	if w.client, err = client.New(w.stack.RESTConfig(), client.Options{Scheme: scheme}); err != nil {
		return nil, errors.Join(fmt.Errorf("make a client: %w", err), w.close())
	}
	if w.recorder, err = load.Watch(ctx, w.stack.RESTConfig(), w.stack.Namespace()); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func newRandom(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// close ends the watch and the stack.
func (w *world) close() error {
	var err error
	if w.recorder != nil {
		err = w.recorder.Close()
	}
	w.stack.Hurry()
	w.stack.Stop()
	return err
}

// logf writes a line of progress.
func (w *world) logf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(w.out, "%7.1fs  %s\n", time.Since(w.begun).Seconds(), fmt.Sprintf(format, args...))
}

// order deals the faults: each comes up before any comes up again.
func (w *world) order(choice []fault, rounds int) []fault {
	var order []fault
	for len(order) < rounds {
		for _, i := range w.random.Perm(len(choice)) {
			order = append(order, choice[i])
		}
	}
	return order[:rounds]
}

// victim waits until a worker is in the middle of several calls of a stage, and returns the busiest one. It is
// noted as one whose calls may have to be made again, if excused.
func (w *world) victim(ctx context.Context, stage v1alpha1.StageName, excused bool) (pod string, err error) {
	const calls = 3
	// The simulated provider takes at least 4.5 seconds for a call, at its own speed.
	shortest := time.Duration(4.5 / w.opts.speed * float64(time.Second))
	var identity string
	err = wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(context.Context) (bool, error) {
		busy, most := w.recorder.Busy(stage, shortest/5, shortest*4/5), 0
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
		w.mu.Lock()
		w.victims[identity] = true
		w.mu.Unlock()
	}
	return pod, nil
}

// killed says whether one of the workers was a victim.
func (w *world) killed(workers []string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(workers, func(name string) bool { return w.victims[name] })
}

// awaitIdle waits until no budget has anything reserved.
func (w *world) awaitIdle(ctx context.Context) error {
	var last string
	err := wait.PollUntilContextCancel(ctx, 250*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		budgets := &v1alpha1.TokenBudgetList{}
		if err := w.client.List(ctx, budgets, client.InNamespace(w.stack.Namespace())); err != nil {
			if ctx.Err() == nil {
				last = err.Error()
			}
			return false, nil // it is asked again until ctx ends
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
		return fmt.Errorf("%s although nothing runs: %w", last, err)
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
