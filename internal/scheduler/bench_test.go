// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// benchWorld has workers and tokens for everything, and a backlog of scans of a thousand users.
func benchWorld(b *testing.B, scans int) *world {
	b.Helper()
	w := newWorld(b)
	w.s.PoolChanged(w.pool("p", v1alpha1.StageVision, v1alpha1.StageRule, v1alpha1.StageAnswer, v1alpha1.StageReward))
	w.s.BudgetChanged(w.budget("b", 10_000_000_000), readyKey)
	w.benchWorkers()
	for i := range scans {
		w.create(fmt.Sprint("s", i), user(fmt.Sprint("u", i%1000)))
	}
	return w
}

func (w *world) benchWorkers() {
	for i := range 10 {
		w.worker(fmt.Sprint("w", i), "p", 1<<20)
	}
}

// BenchmarkDecisions measures decisions without writes: pick, reserve and assign.
func BenchmarkDecisions(b *testing.B) {
	w := benchWorld(b, b.N)
	w.s.opts.MaxWrites = 1 << 30
	b.ReportAllocs()
	b.ResetTimer()
	decided := 0
	for decided < b.N {
		writes := w.s.cycle().writes
		decided += len(writes)
		if len(writes) == 0 {
			b.StopTimer()
			w.clk.Step(100 * time.Millisecond)
			w.benchWorkers()
			b.StartTimer()
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
}

// BenchmarkDecisionsAndWrites measures the loop as it runs: no more than the usual number of writes at a time, and what
// follows when each of them has ended and the watch has shown it.
func BenchmarkDecisionsAndWrites(b *testing.B) {
	w := benchWorld(b, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	for decided := 0; decided < b.N; {
		writes := w.s.cycle().writes
		for _, wr := range writes {
			assigned, ok := wr.event.(pipeline.Assigned)
			if !ok {
				b.Fatalf("a write of kind %d", wr.kind)
			}
			w.rv++
			stored := *wr.obj
			stored.ResourceVersion = strconv.Itoa(w.rv)
			stored.Status.Assignment = &assigned.Assignment
			w.s.written(wr, &stored, nil)
			w.s.ScanChanged(&stored)
		}
		decided += len(writes)
		if len(writes) == 0 {
			b.StopTimer()
			w.clk.Step(100 * time.Millisecond)
			w.benchWorkers()
			b.StartTimer()
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
}
