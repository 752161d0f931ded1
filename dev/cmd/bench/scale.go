// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/eco2-team/scan-operator/dev/load"
)

func scaleFlags(fs *flag.FlagSet, o *options) {
	fs.StringVar(&o.scenarios, "scenarios", ".", "run the scenarios whose name matches this expression: burst/…, sine, cost, memory/…")
	fs.IntVar(&o.waves, "waves", 3, "waves of two minutes in scenario sine")
}

func runScale(ctx context.Context, o options, out io.Writer) error {
	if o.waves < 1 {
		return errors.New("--waves: must be at least 1")
	}
	return runMatching(o.scenarios, scaleScenarios(o.waves), out, func(s scaleScenario) error { return s.run(ctx, o, out) })
}

func (s scaleScenario) run(ctx context.Context, o options, out io.Writer) (err error) {
	h, err := startHarness(ctx, o, stackOptions{
		manifests: manifests([]budgetSpec{{"account", s.tokensPerMinute, defaultUtilization}}, s.poolSpecs()),
		speed:     s.speed, tokensPerMinute: s.tokensPerMinute,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	if err := h.watchScans(ctx); err != nil {
		return err
	}
	pools, err := watchPools(ctx, h)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pools.close()) }()
	r := &scaleReport{scenario: s, pools: pools, processes: newProcesses(), memory: newWorkerMemory()}
	if err := r.measure(ctx, h); err != nil {
		return err
	}
	return r.print(ctx, h, out)
}

// measure creates the scans, awaits the end of all, and watches until the pools have settled.
func (r *scaleReport) measure(ctx context.Context, h *harness) error {
	sampling, enough := context.WithCancel(ctx)
	var samplers sync.WaitGroup
	defer samplers.Wait()
	defer enough()
	samplers.Go(func() { r.processes.sample(sampling) })
	if r.scenario.memory {
		samplers.Go(func() { r.memory.sample(sampling, h.client, h.namespace) })
	}
	r.begun = time.Now()
	r.pools.begin(r.begun)
	if err := r.scenario.create(ctx, h, r.begun); err != nil {
		return err
	}
	if err := h.recorder.AwaitAllEnded(ctx); err != nil {
		return err
	}
	enough()
	load.Sleep(ctx, r.scenario.settle)
	return ctx.Err()
}

// parallelCreates is how many scans are created at a time at most.
const parallelCreates = 32

// create creates scans at the scenario's rate, whatever happens to them: an open loop.
func (s scaleScenario) create(ctx context.Context, h *harness, begun time.Time) error {
	objects := &load.Objects{
		Client: h.client, Namespace: h.namespace, Name: "scale", DeadlineSeconds: 1800, TTLSeconds: 3600,
		Images: "https://images.example.org/%d.jpg", Recorder: h.recorder,
	}
	jobs := make(chan int)
	failed := make(chan error, parallelCreates)
	var all sync.WaitGroup
	for range parallelCreates {
		all.Go(func() {
			for n := range jobs {
				if _, err := objects.Create(ctx, n, fmt.Sprintf("user-%d", n%97)); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	err := s.pace(ctx, begun, jobs, failed)
	close(jobs)
	all.Wait()
	close(failed)
	return errors.Join(err, <-failed) // nil of a closed channel
}

// pace sends the scans' numbers when they are due.
func (s scaleScenario) pace(ctx context.Context, begun time.Time, jobs chan<- int, failed <-chan error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	due, created, last := 0.0, 0, begun
	for last.Sub(begun) < s.last {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-tick.C:
			if end := begun.Add(s.last); now.After(end) {
				now = end
			}
			due += s.load(now.Sub(begun)) * now.Sub(last).Seconds()
			last = now
		}
		for ; float64(created) < due-1e-6; created++ {
			select {
			case jobs <- created:
			case err := <-failed:
				return err
			}
		}
	}
	return nil
}
