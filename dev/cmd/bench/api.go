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
	"sync"
	"time"

	"github.com/eco2-team/scan-operator/dev/load"
)

func apiFlags(fs *flag.FlagSet, o *options) {
	fs.IntVar(&o.pollers, "pollers", 1000, "clients that submit a scan, poll it to its end, and begin again")
	fs.IntVar(&o.streams, "streams", 0, "clients that submit a scan, follow its stream to its end, and begin again")
	fs.DurationVar(&o.pollEvery, "poll-every", 2*time.Second, "time between two polls of a client; Retry-After is ignored")
	fs.DurationVar(&o.warmup, "warmup", 30*time.Second, "time before measuring, in which the clients begin one after the other")
	fs.DurationVar(&o.duration, "duration", 2*time.Minute, "time to measure")
	fs.IntVar(&o.replicas, "replicas", 1, "servers of the API: 1 or 2")
	fs.BoolVar(&o.kill, "kill", false, "kill the second replica in the middle of the measurement")
	fs.Int64Var(&o.tokensPerMinute, "tokens-per-minute", 4_000_000, "the budget's limit")
	fs.Float64Var(&o.speed, "speed", 1, "divide the simulated provider's latencies by this")
}

// apiArgs switch load shedding off: what is measured is what is served.
var apiArgs = []string{"--max-estimated-wait=0", "--max-unfinished=0", "--zap-log-level=error"}

// runAPI measures the HTTP API: how long submits, polls and the delivery of events take, what a replica needs, what a
// scan costs the API server, and how far the estimated waits are off.
func runAPI(ctx context.Context, o options, out io.Writer) (err error) {
	switch {
	case o.replicas < 1 || o.replicas > 2:
		return errors.New("--replicas: must be 1 or 2")
	case o.kill && o.replicas != 2:
		return errors.New("--kill: needs --replicas=2")
	case o.pollers+o.streams < 1:
		return errors.New("--pollers and --streams: at least one client is needed")
	}
	h, err := startHarness(ctx, o, stackOptions{
		manifests: manifests([]budgetSpec{{"account", o.tokensPerMinute, defaultUtilization}}, roomyPools(small)),
		speed:     o.speed, tokensPerMinute: o.tokensPerMinute, apiArgs: apiArgs, progress: os.Stderr,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	replicas, err := startReplicas(ctx, h, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, replicas.close()) }()
	r, err := measureAPI(ctx, h, o, replicas)
	if err != nil {
		return err
	}
	r.print(out, o)
	return nil
}

// measureAPI runs the clients.
func measureAPI(ctx context.Context, h *harness, o options, replicas *apiReplicas) (r *apiReport, err error) {
	seen := newSamples()
	ctx, stop := context.WithCancelCause(ctx)
	var users sync.WaitGroup
	users.Go(func() { stop(apiUsers(o, replicas, seen).Run(ctx)) })
	defer users.Wait()
	defer stop(nil)
	fmt.Fprintf(os.Stderr, "warming up for %s\n", o.warmup)
	if !load.Sleep(ctx, o.warmup) {
		return nil, context.Cause(ctx)
	}
	r = &apiReport{seen: seen, replicas: make([]replicaReport, len(replicas.all))}
	for i := range replicas.all {
		if r.replicas[i].before, _, err = replicas.usage(ctx, i); err != nil {
			return nil, err
		}
	}
	before, brokenBefore, err := apiServerRequests(ctx, h)
	if err != nil {
		return nil, err
	}
	seen.record(true)
	begun := time.Now()
	if err := r.watch(ctx, o, replicas, begun); err != nil {
		return nil, err
	}
	seen.record(false)
	r.took = time.Since(begun)
	after, brokenAfter, err := apiServerRequests(ctx, h)
	if err != nil {
		return nil, err
	}
	r.brokenWatches = brokenAfter - brokenBefore
	r.requests = map[string]float64{}
	for key, n := range after {
		if d := n - before[key]; d > 0 {
			r.requests[key] = d
		}
	}
	return r, nil
}
