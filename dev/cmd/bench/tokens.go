// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/dev/load"
	"github.com/eco2-team/scan-operator/dev/openaisim"
	"github.com/eco2-team/scan-operator/internal/queuestatus"
)

const (
	// maxWarmup is how long the warm-up may last until the full buckets are used up.
	maxWarmup = 5 * time.Minute
	// maxDrain is how long the last scans may take to finish.
	maxDrain = 5 * time.Minute
	// creators is how many scans are created at a time.
	creators = 16
)

func tokenFlags(fs *flag.FlagSet, o *options) {
	fs.StringVar(&o.scenarios, "scenarios", "", "run the scenarios whose name matches this expression; . runs all of them")
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "instead of scenarios, load the stack or cluster of this kubeconfig, such as .local/kubeconfig")
	fs.StringVar(&o.namespace, "namespace", "scans", "with --kubeconfig: namespace of the scans")
	fs.StringVar(&o.simURL, "sim", "", "with --kubeconfig: base URL of the simulated provider; empty for none")
	fs.StringVar(&o.queueURLs, "queue-urls", "", "with --kubeconfig: the managers' queue servers, comma-separated, to compare predicted with actual waits")
	fs.StringVar(&o.users, "users", "one:1", "with --kubeconfig: users and their shares of the scans, such as a:10,b:1,c:1")
	fs.IntVar(&o.backlog, "backlog", 500, "with --kubeconfig: scans to keep unfinished")
	fs.DurationVar(&o.warmup, "warmup", 20*time.Second, "with --kubeconfig: minimum time before measuring, which begins when the full buckets are used up; 0 measures them, too")
	fs.DurationVar(&o.duration, "duration", time.Minute, "with --kubeconfig: time to measure")
}

func runTokens(ctx context.Context, o options, out io.Writer) error {
	switch {
	case o.kubeconfig == "" && o.scenarios == "":
		return errors.New("set --scenarios to run scenarios (. runs all), or --kubeconfig to load a stack that runs already")
	case o.kubeconfig == "":
		return runMatching(o.scenarios, tokenScenarios(), out, func(s tokenScenario) error { return s.run(ctx, o, out) })
	}
	users, err := parseUsers(o.users)
	if err != nil {
		return fmt.Errorf("--users: %w", err)
	}
	h, err := attachHarness(o)
	if err != nil {
		return err
	}
	var queues []string
	if o.queueURLs != "" {
		queues = strings.Split(o.queueURLs, ",")
	}
	m := tokenLoad{users: users, backlog: o.backlog, warmup: o.warmup, duration: o.duration}
	return errors.Join(m.measure(ctx, h, queues, out), h.close())
}

func (s tokenScenario) run(ctx context.Context, o options, out io.Writer) (err error) {
	users, err := parseUsers(s.users)
	if err != nil {
		return err
	}
	h, err := startHarness(ctx, o, stackOptions{
		manifests: manifests(s.budgetSpecs(), roomyPools(s.size)), tokensPerMinute: s.tokensPerMinute,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	if err := s.distinctKeys(ctx, h); err != nil {
		return err
	}
	if s.sim != "" {
		if err := h.sim.Configure(ctx, s.sim); err != nil {
			return err
		}
	}
	m := tokenLoad{users: users, backlog: s.backlog, warmup: s.warmup, duration: s.duration, midway: s.midway}
	if m.backlog == 0 {
		// Enough to keep the budgets busy: the twelve seconds that a scan takes at the provider, and as much again that waits.
		m.backlog = int(float64(s.budgets)*float64(s.tokensPerMinute)/60/s.size.tokens*24) + 100
	}
	return m.measure(ctx, h, h.stack.QueueURLs(), out)
}

// distinctKeys gives each budget an account of its own at the provider: the stack starts with one key for all.
func (s tokenScenario) distinctKeys(ctx context.Context, h *harness) error {
	for _, b := range s.budgetSpecs() {
		secret := &corev1.Secret{}
		if err := h.client.Get(ctx, client.ObjectKey{Namespace: h.namespace, Name: b.name}, secret); err != nil {
			return fmt.Errorf("get Secret %s: %w", b.name, err)
		}
		secret.Data["api-key"] = []byte("sk-" + b.name)
		if err := h.client.Update(ctx, secret); err != nil {
			return fmt.Errorf("update Secret %s: %w", b.name, err)
		}
	}
	return nil
}

// share is a user and its part of the load.
type share struct {
	name   string
	weight int
}

func parseUsers(s string) ([]share, error) {
	var shares []share
	for part := range strings.SplitSeq(s, ",") {
		name, weight, ok := strings.Cut(part, ":")
		n, err := strconv.Atoi(weight)
		if !ok || err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not NAME:WEIGHT with a weight of at least 1", part)
		}
		shares = append(shares, share{name, n})
	}
	return shares, nil
}

// tokenLoad keeps a backlog of scans unfinished, and measures what becomes of them.
type tokenLoad struct {
	users            []share
	backlog          int
	warmup, duration time.Duration
	midway           string // a document for /sim/config, set a quarter into the measurement
}

// clients lists the user of each client. Each user has its own closed loops, so that its share is of what is
// submitted, not of what is served.
func (m *tokenLoad) clients() []string {
	total := 0
	for _, u := range m.users {
		total += u.weight
	}
	var clients []string
	for _, u := range m.users {
		for range max(1, m.backlog*u.weight/total) {
			clients = append(clients, u.name)
		}
	}
	return clients
}

func (m *tokenLoad) measure(ctx context.Context, h *harness, queues []string, out io.Writer) error {
	if err := h.watchScans(ctx); err != nil {
		return err
	}
	positions, stop, err := h.queuePositions(ctx, queues)
	if err != nil {
		return err
	}
	defer stop()
	run := "load-" + strconv.FormatInt(time.Now().Unix(), 36)
	objects := &load.Objects{
		Client: h.client, Namespace: h.namespace, Name: run, DeadlineSeconds: 1800,
		Images: "https://images.example.org/%d.jpg", Recorder: h.recorder,
	}
	users := m.clients()
	loop := &load.Loop{
		Clients: len(users), Submits: creators,
		Submit: func(ctx context.Context, client, n int) (string, error) {
			return objects.Create(ctx, n*len(users)+client, users[client])
		},
		Follow: func(ctx context.Context, _, _ int, name string) error { return h.recorder.AwaitEnd(ctx, name) },
	}
	loading, enough := context.WithCancel(ctx)
	defer enough()
	var running sync.WaitGroup
	defer running.Wait()
	ended := make(chan error, 1)
	running.Go(func() { ended <- loop.Run(loading) })

	r := &tokenReport{run: run, predicted: map[string]load.Prediction{}}
	if err := m.watch(ctx, h, positions, r, ended); err != nil {
		enough()
		return err
	}
	enough()
	if err := <-ended; err != nil {
		return err
	}
	draining, cancel := context.WithTimeout(ctx, maxDrain)
	defer cancel()
	if err := h.recorder.AwaitAllEnded(draining); err != nil && ctx.Err() != nil {
		return ctx.Err() // what is unfinished after the drain is in the report
	}
	r.scans = h.recorder.Scans()
	if r.last, err = readSim(ctx, h); err != nil {
		return err
	}
	r.print(out)
	return nil
}

// watch warms up and measures. It fails when the load ends too early.
func (m *tokenLoad) watch(ctx context.Context, h *harness, positions *queuestatus.Client, r *tokenReport, ended <-chan error) error {
	begun := time.Now()
	midway := m.midway
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for r.from.IsZero() || time.Since(r.from) < m.duration {
		if r.from.IsZero() && time.Since(begun) >= m.warmup {
			now, err := readSim(ctx, h)
			if err != nil {
				return err
			}
			if m.warm(now, time.Since(begun)) {
				r.before, r.from = now, time.Now()
			}
		}
		if midway != "" && !r.from.IsZero() && time.Since(r.from) >= m.duration/4 {
			if err := h.sim.Configure(ctx, midway); err != nil {
				return err
			}
			midway = ""
		}
		select {
		case <-tick.C:
			r.predict(h, positions)
			all, unfinished := h.recorder.Counts()
			fmt.Fprintf(os.Stderr, "\r%4.0f s  created %d, unfinished %d   ", time.Since(begun).Seconds(), all, unfinished)
		case err := <-ended:
			return errors.Join(errors.New("the load ended early"), err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.to = time.Now()
	fmt.Fprintln(os.Stderr)
	var err error
	r.after, err = readSim(ctx, h)
	return err
}

// warm says whether measuring may begin: unless a full bucket is to be measured, it must have been used up.
func (m *tokenLoad) warm(now *openaisim.Stats, after time.Duration) bool {
	if now == nil || m.warmup == 0 || after > maxWarmup {
		return true
	}
	limit, level := buckets(now)
	return level < limit/20
}

// readSim returns nil where there is no simulated provider.
func readSim(ctx context.Context, h *harness) (*openaisim.Stats, error) {
	if h.sim.URL == "" {
		return nil, nil
	}
	return h.sim.Stats(ctx)
}

// buckets sums up what the accounts refill a minute, and what is left in their buckets.
func buckets(s *openaisim.Stats) (limit, level int64) {
	for i := range s.Accounts {
		limit += s.Accounts[i].TokenLimit
		level += s.Accounts[i].TokensRemaining
	}
	return limit, level
}
