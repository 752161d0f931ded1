// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// scaleReport is what was measured.
type scaleReport struct {
	scenario  scaleScenario
	begun     time.Time
	pools     *poolHistory
	processes *processes
	memory    *workerMemory
}

func (r *scaleReport) print(ctx context.Context, h *harness, out io.Writer) error {
	scans := h.recorder.Scans()
	succeeded := 0
	var first, last time.Time
	for i := range scans {
		s := &scans[i]
		if s.Phase == v1alpha1.ScanSucceeded {
			succeeded++
		}
		if !s.BegunAt.IsZero() && (first.IsZero() || s.BegunAt.Before(first)) {
			first = s.BegunAt
		}
		if s.FinishedAt.After(last) {
			last = s.FinishedAt
		}
	}
	stats, err := h.sim.Stats(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "scans        %d of %d succeeded, the last after %.1f s; first stage begun after %.2f s; 429s %d; calls paid for more than once %d of %d\n",
		succeeded, len(scans), last.Sub(r.begun).Seconds(), first.Sub(r.begun).Seconds(),
		stats.RateLimitedTotal(), stats.Payments.PaidMoreThanOnce, stats.Payments.Distinct)
	for _, pool := range r.scenario.poolSpecs() {
		r.printPool(pool.name, r.pools.of(pool.name), out)
	}
	if r.scenario.memory {
		r.memory.print(out)
	} else {
		cpu := r.processes.cpuSeconds()
		for _, program := range slices.Sorted(maps.Keys(cpu)) {
			fmt.Fprintf(out, "processor    %-15s %6.2f s per 1,000 scans\n", program, cpu[program]*1000/float64(max(len(scans), 1)))
		}
		for _, peak := range r.processes.peaks("worker") {
			fmt.Fprintf(out, "memory       a worker had %d MiB at most\n", peak>>20)
		}
	}
	fmt.Fprintf(out, "calls        %d at a time at most\n", stats.MaxInFlight)
	return nil
}

// printPool prints when a pool changed, and its state every ten seconds.
func (r *scaleReport) printPool(pool string, states []poolState, out io.Writer) {
	var changes []string
	var most, desired, flight int32
	var atMost, wanted, working, full time.Duration = -1, -1, -1, -1
	decisions := map[int]int{} // by minute
	for _, now := range states {
		if now.desired != desired {
			changes = append(changes, fmt.Sprintf("%.1fs %d→%d %s", now.at.Seconds(), desired, now.desired, now.limitedBy))
			if now.at > 0 {
				decisions[int(now.at/time.Minute)]++
			}
			desired = now.desired
		}
		if now.desired > most {
			most, atMost = now.desired, now.at
		}
		if wanted < 0 && now.desired > 0 {
			wanted = now.at
		}
		if working < 0 && now.ready > 0 {
			working = now.at
		}
		flight = max(flight, now.flight)
	}
	if i := slices.IndexFunc(states, func(now poolState) bool { return now.ready >= most }); i >= 0 {
		full = states[i].at
	}
	end := r.scenario.last + r.scenario.settle
	fmt.Fprintf(out, "pool %-7s first worker wanted after %s, ready after %s; most wanted: %d, after %s, ready after %s; at most %d calls\n",
		pool, seconds(wanted), seconds(working), most, seconds(atMost), seconds(full), flight)
	sum, busiest := 0, 0
	for _, n := range decisions {
		sum += n
		busiest = max(busiest, n)
	}
	fmt.Fprintf(out, "             %d changes in %s, at most %d in a minute: %s\n", sum, end, busiest, strings.Join(changes, ", "))
	if r.scenario.last < time.Minute {
		return
	}
	for at := time.Duration(0); at < end; at += 10 * time.Second {
		now := stateAt(states, at)
		fmt.Fprintf(out, "  %4.0fs %5.1f scans/s  %-10s %2d wanted %2d ready  %4d queued %4d in flight  %s\n", at.Seconds(),
			r.scenario.rate(at), strings.Repeat("#", int(now.desired)), now.desired, now.ready, now.queued, now.flight, now.limitedBy)
	}
}

// rate is the load at an instant.
func (s scaleScenario) rate(at time.Duration) float64 {
	if at >= s.last {
		return 0
	}
	return s.load(at)
}

// stateAt is a pool's state at an instant.
func stateAt(states []poolState, at time.Duration) (last poolState) {
	for _, s := range states {
		if s.at <= at {
			last = s
		}
	}
	return last
}

func seconds(d time.Duration) string {
	if d < 0 {
		return "never"
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}
