// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"k8s.io/client-go/rest"

	"github.com/eco2-team/scan-operator/dev/load"
)

// apiReport is what was measured.
type apiReport struct {
	seen     *samples
	took     time.Duration
	requests map[string]float64 // to the API server, by verb and resource
	// brokenWatches are watches of scans that the API server ended because their reader did not keep up with a
	// burst. Their clients back off before they open them again, and events are late meanwhile.
	brokenWatches float64
	replicas      []replicaReport
}

type replicaReport struct {
	before, after       usage
	peakRSS, peakStream float64
	killed              bool
}

// watch samples the replicas until the measurement is over, and with --kill kills one in the middle.
func (r *apiReport) watch(ctx context.Context, o options, replicas *apiReplicas, begun time.Time) error {
	for time.Since(begun) < o.duration {
		if !load.Sleep(ctx, min(time.Second, o.duration-time.Since(begun))) {
			return context.Cause(ctx)
		}
		for i := range replicas.all {
			if r.replicas[i].killed {
				continue
			}
			u, streams, err := replicas.usage(ctx, i)
			if err != nil {
				return err
			}
			r.replicas[i].after = u
			r.replicas[i].peakRSS = max(r.replicas[i].peakRSS, u.resident)
			r.replicas[i].peakStream = max(r.replicas[i].peakStream, streams)
		}
		if o.kill && !r.replicas[1].killed && time.Since(begun) >= o.duration/2 {
			r.replicas[1].killed = true
			if err := replicas.killSecond(); err != nil {
				return err
			}
		}
	}
	return nil
}

// apiServerRequests counts the requests that the API server has answered, by verb and resource, and the watches that
// it ended because they were too slow.
func apiServerRequests(ctx context.Context, h *harness) (counts map[string]float64, brokenWatches float64, err error) {
	c, err := rest.HTTPClientFor(h.config)
	if err != nil {
		return nil, 0, err
	}
	m, err := load.Scrape(ctx, c, h.config.Host+"/metrics")
	if err != nil {
		return nil, 0, fmt.Errorf("read the metrics of the API server: %w", err)
	}
	counts = map[string]float64{}
	for _, metric := range m["apiserver_request_total"].GetMetric() {
		labels := map[string]string{}
		for _, l := range metric.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		resource := labels["resource"]
		if labels["subresource"] != "" {
			resource += "/" + labels["subresource"]
		}
		counts[labels["verb"]+" "+resource] += metric.GetCounter().GetValue()
	}
	return counts, m.Sum("apiserver_terminated_watchers_total"), nil
}

func (r *apiReport) print(out io.Writer, o options) {
	finished, total, failures := r.seen.results()
	fmt.Fprintf(out, "load         %d pollers every %s, %d streams, %d replicas, %d tokens/min, %s\n",
		o.pollers, o.pollEvery, o.streams, o.replicas, o.tokensPerMinute, r.took.Round(time.Second))
	fmt.Fprintf(out, "scans        %.1f/min, by status %v\n", float64(total)/r.took.Minutes(), finished)
	for _, kind := range []string{"submit", "poll", "event", "done"} {
		fmt.Fprintf(out, "%-12s %s\n", kind, r.seen.quantiles(kind))
	}
	fmt.Fprintf(out, "estimates    %s\n", r.seen.predicted())
	for i, u := range r.replicas {
		state := ""
		if u.killed {
			state = ", killed in the middle"
		}
		seconds := r.took.Seconds()
		if u.killed {
			seconds /= 2
		}
		fmt.Fprintf(out, "replica %d    CPU %.2f cores, memory %.0f MiB at most, %.0f goroutines, %.0f streams at most, %.0f requests to the API server%s\n",
			i+1, (u.after.cpuSeconds-u.before.cpuSeconds)/seconds, u.peakRSS/(1<<20), u.after.goroutines, u.peakStream,
			u.after.apiRequests-u.before.apiRequests, state)
	}
	sum := 0.0
	for _, key := range slices.Sorted(maps.Keys(r.requests)) {
		sum += r.requests[key]
		if r.requests[key] >= float64(total)/20 {
			fmt.Fprintf(out, "API server   %6.2f per scan  %s\n", r.requests[key]/float64(max(total, 1)), key)
		}
	}
	fmt.Fprintf(out, "API server   %6.2f per scan  in all\n", sum/float64(max(total, 1)))
	fmt.Fprintf(out, "API server   %.0f watches ended because their reader was too slow\n", r.brokenWatches)
	for _, text := range slices.Sorted(maps.Keys(failures)) {
		fmt.Fprintf(out, "clients saw  %d × %s\n", failures[text], text)
	}
}
