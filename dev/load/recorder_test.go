// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// version is a scan as a watch shows it.
func version(uid types.UID, phase v1alpha1.ScanPhase, finished time.Duration) *v1alpha1.ScanRequest {
	scan := &v1alpha1.ScanRequest{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: uid}}
	scan.Status.Phase = phase
	if phase == v1alpha1.ScanSucceeded || phase == v1alpha1.ScanFailed {
		scan.Status.FinishedAt = metav1.NewMicroTime(t0.Add(finished))
	}
	return scan
}

func TestRecorder(t *testing.T) {
	var (
		queued    = version("1", v1alpha1.ScanQueued, 0)
		running   = version("1", v1alpha1.ScanRunning, 0)
		succeeded = version("1", v1alpha1.ScanSucceeded, time.Second)
	)
	tests := map[string]struct {
		seen       []*v1alpha1.ScanRequest
		gone       *v1alpha1.ScanRequest
		wantBroken string
		wantLeft   int
	}{
		"a whole life":                  {seen: []*v1alpha1.ScanRequest{queued, running, succeeded, succeeded}, gone: succeeded},
		"not ended":                     {seen: []*v1alpha1.ScanRequest{queued, running}, wantLeft: 1},
		"accepted, never seen":          {wantLeft: 1},
		"first seen when it had ended":  {seen: []*v1alpha1.ScanRequest{succeeded}},
		"ended twice":                   {seen: []*v1alpha1.ScanRequest{succeeded, version("1", v1alpha1.ScanSucceeded, 2*time.Second)}, wantBroken: "finished twice"},
		"ended otherwise":               {seen: []*v1alpha1.ScanRequest{succeeded, version("1", v1alpha1.ScanFailed, time.Second)}, wantBroken: "finished twice"},
		"ended and begun again":         {seen: []*v1alpha1.ScanRequest{succeeded, running}, wantBroken: "is Running again"},
		"replaced":                      {seen: []*v1alpha1.ScanRequest{succeeded, version("2", v1alpha1.ScanSucceeded, time.Second)}, wantBroken: "was replaced"},
		"deleted before its end":        {seen: []*v1alpha1.ScanRequest{running}, gone: running, wantBroken: "was deleted", wantLeft: 1},
		"its end was seen on deletion":  {seen: []*v1alpha1.ScanRequest{running}, gone: succeeded, wantLeft: 1},
		"deleted when it was forgotten": {gone: succeeded, wantLeft: 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRecorder()
			r.Accepted("a")
			for _, scan := range tc.seen {
				r.observe(scan)
			}
			if tc.gone != nil {
				r.gone(tc.gone)
			}
			broken := strings.Join(r.Broken(), "; ")
			if (broken == "") != (tc.wantBroken == "") || !strings.Contains(broken, tc.wantBroken) {
				t.Errorf("broken: %q, want %q", broken, tc.wantBroken)
			}
			if left := r.Unfinished(); len(left) != tc.wantLeft {
				t.Errorf("unfinished: %v, want %d", left, tc.wantLeft)
			}
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			if err := r.AwaitAllEnded(ended); (err != nil) != (tc.wantLeft > 0) {
				t.Errorf("AwaitAllEnded = %v with %d left", err, tc.wantLeft)
			}
		})
	}
}

func TestRecorderKnowsWhoHadAStage(t *testing.T) {
	r := newRecorder()
	scan := version("1", v1alpha1.ScanRunning, 0)
	scan.Status.Assignment = &v1alpha1.Assignment{Stage: v1alpha1.StageVision, Worker: "w1", AssignedAt: metav1.NewMicroTime(time.Now().Add(-time.Minute))}
	r.observe(scan.DeepCopy())
	scan.Status.Assignment.Worker = "w2"
	scan.Status.Stages = []v1alpha1.StageStatus{{Name: v1alpha1.StageVision, Worker: "w2", Attempts: 2}}
	r.observe(scan.DeepCopy())
	if busy := r.Busy(v1alpha1.StageVision, time.Second, 24*time.Hour); busy["w2"] != 1 || len(busy) != 1 {
		t.Errorf("busy: %v, want w2 alone", busy)
	}
	if busy := r.Busy(v1alpha1.StageVision, 0, time.Second); len(busy) != 0 {
		t.Errorf("busy: %v, want none: it was assigned long ago", busy)
	}
	got := r.Scans()[0]
	if workers := got.Workers[v1alpha1.StageVision]; len(workers) != 2 || workers[0] != "w1" || workers[1] != "w2" {
		t.Errorf("workers: %v, want w1 and w2", workers)
	}
	if got.Attempts[v1alpha1.StageVision] != 2 {
		t.Errorf("%d attempts, want 2", got.Attempts[v1alpha1.StageVision])
	}
}
