package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// report prints what was seen.
func (w *world) report(ctx context.Context, s scenario, out io.Writer) error {
	var scans v1alpha1.ScanRequestList
	if err := w.client.List(ctx, &scans, client.InNamespace(w.stack.Namespace())); err != nil {
		return fmt.Errorf("list the scans: %w", err)
	}
	succeeded := 0
	var first, last time.Time
	for i := range scans.Items {
		status := &scans.Items[i].Status
		if status.Phase == v1alpha1.ScanSucceeded {
			succeeded++
		}
		for j := range status.Stages {
			if at := status.Stages[j].StartedAt.Time; !at.IsZero() && (first.IsZero() || at.Before(first)) {
				first = at
			}
		}
		if status.FinishedAt.After(last) {
			last = status.FinishedAt.Time
		}
	}
	stats, err := w.sim.Stats(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "scans        %d of %d succeeded, the last after %.1f s; first stage begun after %.2f s; 429s %d; calls paid for more than once %d of %d\n",
		succeeded, len(scans.Items), last.Sub(w.begun).Seconds(), first.Sub(w.begun).Seconds(),
		stats.RateLimitedTotal(), stats.Payments.PaidMoreThanOnce, stats.Payments.Distinct)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, pool := range s.pools() {
		w.reportPool(pool, s, out)
	}
	if s.memory {
		w.gauge.print(out)
	} else {
		cpu := w.children.cpuSeconds()
		for _, program := range slices.Sorted(maps.Keys(cpu)) {
			fmt.Fprintf(out, "processor    %-15s %6.2f s per 1,000 scans\n", program, cpu[program]*1000/float64(max(len(scans.Items), 1)))
		}
		for _, peak := range w.children.peaks("worker") {
			fmt.Fprintf(out, "memory       a worker had %d MiB at most\n", peak>>20)
		}
	}
	fmt.Fprintf(out, "calls        %d at a time at most\n", stats.MaxInFlight)
	return nil
}

// reportPool prints when a pool changed and how it stood every five seconds. The lock must be held.
func (w *world) reportPool(pool string, s scenario, out io.Writer) {
	var changes []string
	var most, desired, flight int32
	var atMost, wanted, working, full time.Duration = -1, -1, -1, -1
	decisions := map[int]int{} // by minute
	for i := range w.seen {
		now := &w.seen[i]
		if now.pool != pool {
			continue
		}
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
	for i := range w.seen {
		if now := &w.seen[i]; now.pool == pool && full < 0 && now.ready >= most {
			full = now.at
		}
	}
	end := s.last + s.settle
	fmt.Fprintf(out, "pool %-7s first worker wanted after %s, ready after %s; most wanted: %d, after %s, ready after %s; at most %d calls\n",
		pool, seconds(wanted), seconds(working), most, seconds(atMost), seconds(full), flight)
	sum, busiest := 0, 0
	for _, n := range decisions {
		sum += n
		busiest = max(busiest, n)
	}
	fmt.Fprintf(out, "             %d changes in %s, at most %d in a minute: %s\n", sum, end, busiest, strings.Join(changes, ", "))
	if s.last < time.Minute {
		return
	}
	for at := time.Duration(0); at < end; at += 10 * time.Second {
		now := w.at(pool, at)
		fmt.Fprintf(out, "  %4.0fs %5.1f scans/s  %-10s %2d wanted %2d ready  %4d queued %4d in flight  %s\n", at.Seconds(),
			s.rate(at), strings.Repeat("#", int(now.desired)), now.desired, now.ready, now.queued, now.flight, now.limitedBy)
	}
}

// rate is the load at an instant.
func (s scenario) rate(at time.Duration) float64 {
	if at >= s.last {
		return 0
	}
	return s.load(at)
}

// at is how a pool stood at an instant.
func (w *world) at(pool string, at time.Duration) (last sighting) {
	for i := range w.seen {
		if w.seen[i].pool == pool && w.seen[i].at <= at {
			last = w.seen[i]
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
