package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"time"

	"k8s.io/client-go/rest"

	"github.com/eco2-team/scan-operator/dev/load"
)

// usage is what a replica has used.
type usage struct {
	cpuSeconds, resident, goroutines, apiRequests float64
}

// report is what was measured.
type report struct {
	seen     *samples
	took     time.Duration
	requests map[string]float64 // to the API server, by verb and resource
	// brokenWatches are watches of scans that the API server ended because their reader did not keep up with a
	// burst. Their clients wait, ever longer, before they open them again: all that time events are late.
	brokenWatches float64
	replicas      []replicaReport
}

type replicaReport struct {
	before, after       usage
	peakRSS, peakStream float64
	killed              bool
}

// measure runs the clients.
func (w *world) measure(ctx context.Context, o options) (*report, error) {
	clients, stop := context.WithCancel(ctx)
	seen := newSamples()
	crowd := newCrowd(o, w, seen)
	running := crowd.start(clients)
	defer running.Wait()
	defer stop()
	fmt.Fprintf(os.Stderr, "warming up for %s\n", o.warmup)
	if !sleep(ctx, o.warmup) {
		return nil, ctx.Err()
	}
	r := &report{seen: seen, replicas: make([]replicaReport, len(w.replicas))}
	for i := range w.replicas {
		u, _, err := w.usageOf(ctx, i)
		if err != nil {
			return nil, err
		}
		r.replicas[i].before = u
	}
	before, brokenBefore, err := w.apiServerRequests(ctx)
	if err != nil {
		return nil, err
	}
	seen.record(true)
	begin := time.Now()
	if err := w.watch(ctx, o, r, begin); err != nil {
		return nil, err
	}
	seen.record(false)
	r.took = time.Since(begin)
	after, brokenAfter, err := w.apiServerRequests(ctx)
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

// watch samples the replicas until the measurement is over, and kills one in the middle if that is wanted.
func (w *world) watch(ctx context.Context, o options, r *report, begin time.Time) error {
	for time.Since(begin) < o.duration {
		if !sleep(ctx, min(time.Second, o.duration-time.Since(begin))) {
			return ctx.Err()
		}
		for i := range w.replicas {
			if r.replicas[i].killed {
				continue
			}
			u, streams, err := w.usageOf(ctx, i)
			if err != nil {
				return err
			}
			r.replicas[i].after = u
			r.replicas[i].peakRSS = max(r.replicas[i].peakRSS, u.resident)
			r.replicas[i].peakStream = max(r.replicas[i].peakStream, streams)
		}
		if o.kill && w.second != nil && time.Since(begin) >= o.duration/2 {
			r.replicas[1].killed = true
			if err := w.killSecond(); err != nil {
				return fmt.Errorf("kill the second replica: %w", err)
			}
		}
	}
	return nil
}

// usageOf reads what a replica says of itself; its process collector reads /proc.
func (w *world) usageOf(ctx context.Context, i int) (u usage, streams float64, err error) {
	m, err := load.Scrape(ctx, http.DefaultClient, "http://"+w.replicas[i].address+"/api/v1/scan/metrics")
	if err != nil {
		return usage{}, 0, fmt.Errorf("read the metrics of replica %d: %w", i+1, err)
	}
	return usage{
		cpuSeconds: m.Sum("process_cpu_seconds_total"), resident: m.Sum("process_resident_memory_bytes"),
		goroutines: m.Sum("go_goroutines"), apiRequests: m.Sum("rest_client_requests_total"),
	}, m.Sum("scan_api_streams"), nil
}

// apiServerRequests counts the requests that the API server has answered, by verb and resource, and the watches that
// it ended because they were too slow.
func (w *world) apiServerRequests(ctx context.Context) (counts map[string]float64, brokenWatches float64, err error) {
	config := w.stack.RESTConfig()
	c, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, 0, err
	}
	m, err := load.Scrape(ctx, c, config.Host+"/metrics")
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

// get asks a URL for its status.
func get(ctx context.Context, url string) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

func (r *report) print(out io.Writer, o options) {
	finished, total, failures := r.seen.results()
	fmt.Fprintf(out, "load         %d pollers every %s, %d streams, %d replicas, %d tokens/min, %s\n",
		o.pollers, o.pollEvery, o.streams, o.replicas, o.tokensPerMinute, r.took.Round(time.Second))
	fmt.Fprintf(out, "scans        %.1f/min, by status %v\n", float64(total)/r.took.Minutes(), finished)
	for _, kind := range []string{"submit", "poll", "event", "done"} {
		fmt.Fprintf(out, "%-12s %s\n", kind, r.seen.quantiles(kind))
	}
	fmt.Fprintf(out, "estimates    %s\n", r.seen.predictions())
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
