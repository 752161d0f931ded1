// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/dev/load"
)

// workerPort is where a worker serves its metrics.
const workerPort = 8081

// footprint is what a worker needs: bytes at a number of calls.
type footprint struct {
	calls, resident, heap float64
}

// workerMemory follows the workers' memory.
type workerMemory struct {
	mu sync.Mutex
	// idle and most are a worker's memory before its first call and with the most calls, by pod.
	idle, most map[string]footprint
}

func newWorkerMemory() *workerMemory {
	return &workerMemory{idle: map[string]footprint{}, most: map[string]footprint{}}
}

// sample reads all workers' metrics every second until ctx ends.
func (m *workerMemory) sample(ctx context.Context, c client.Reader, namespace string) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		pods := &corev1.PodList{}
		if err := c.List(ctx, pods, client.InNamespace(namespace), client.HasLabels{v1alpha1.LabelPool}); err == nil {
			for i := range pods.Items {
				m.read(ctx, &pods.Items[i])
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// read records one worker. One that does not answer is read again a second later.
func (m *workerMemory) read(ctx context.Context, pod *corev1.Pod) {
	metrics, err := load.Scrape(ctx, http.DefaultClient, fmt.Sprintf("http://%s:%d/metrics", pod.Status.PodIP, workerPort))
	if err != nil {
		return
	}
	now := footprint{
		calls: metrics.Sum("scan_worker_calls_in_flight"), resident: metrics.Sum("process_resident_memory_bytes"),
		heap: metrics.Sum("go_memstats_heap_inuse_bytes"),
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	most, seen := m.most[pod.Name]
	if !seen || most.calls == 0 {
		m.idle[pod.Name] = now
	}
	if !seen || now.calls >= most.calls {
		// With as many calls as before the memory may have grown.
		now.resident, now.heap = max(now.resident, most.resident), max(now.heap, most.heap)
		m.most[pod.Name] = now
	}
}

// print prints what each worker needed.
func (m *workerMemory) print(out io.Writer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, pod := range slices.Sorted(maps.Keys(m.most)) {
		idle, most := m.idle[pod], m.most[pod]
		fmt.Fprintf(out, "memory       a worker with %.0f calls: %.0f MiB resident, %.0f MiB of them heap", most.calls, most.resident/(1<<20), most.heap/(1<<20))
		if grown := most.calls - idle.calls; grown > 0 {
			fmt.Fprintf(out, "; with %.0f: %.0f and %.0f MiB; so a call needs %.0f kB, %.0f kB of them heap", idle.calls, idle.resident/(1<<20),
				idle.heap/(1<<20), (most.resident-idle.resident)/grown/1000, (most.heap-idle.heap)/grown/1000)
		}
		fmt.Fprintln(out)
	}
}
