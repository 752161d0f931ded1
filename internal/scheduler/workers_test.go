// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

func TestAWorkerTakesThePlaceOfItsPredecessorInThePod(t *testing.T) {
	tests := map[string]struct {
		oldPod, newPod types.UID
		older          bool // the new one is news of a worker that renewed its Lease before the old one did
		want           string
	}{
		"same pod":       {"pod-1", "pod-1", false, "w2"},
		"another pod":    {"pod-1", "pod-2", false, "w1"},
		"pods not known": {"", "", false, "w1"},
		"late news":      {"pod-1", "pod-1", true, "w1"},
	}
	for title, tc := range tests {
		t.Run(title, func(t *testing.T) {
			w := newWorld(t)
			w.standard(1_000_000)
			register := func(n string, pod types.UID, renewed time.Time) {
				info := Worker{Name: name(n), Pool: "p", PodUID: pod, Capacity: 2, RenewedAt: renewed, LeaseDuration: 15 * time.Second}
				w.leases[info.Name] = info
				w.s.WorkerChanged(info)
			}
			register("w1", tc.oldPod, w.clk.Now())
			w.create("a")
			w.settle()
			renewed := w.clk.Now().Add(2 * time.Second)
			if tc.older {
				renewed = w.clk.Now().Add(-2 * time.Second)
			}
			w.clk.Step(2 * time.Second)
			register("w2", tc.newPod, renewed)
			w.settle()
			if got := w.workerOf("a"); got != tc.want {
				t.Errorf("the scan is at %q, want %q", got, tc.want)
			}
			if _, found := w.leases[name("w1")]; found != (tc.want == "w1") {
				t.Errorf("the Lease of the old worker is there: %t", found)
			}
			if st := pipeline.Stage(&w.get("a").Status, v1alpha1.StageVision); st.Attempts != 0 {
				t.Errorf("%d attempts were counted for a lost worker", st.Attempts)
			}
		})
	}
}
