// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scanrequest

import (
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/controllers/controllertest"
	"github.com/eco2-team/scan-operator/internal/scanstatus"
)

func TestScanRequestTimers(t *testing.T) {
	at := func(seconds int) time.Time { return controllertest.T0.Add(time.Duration(seconds) * time.Second) }
	tests := map[string]struct {
		scan        *v1alpha1.ScanRequest
		now         time.Time
		wantRequeue time.Duration
		wantReason  string // of the summary, where the status is written
		wantDeleted bool
	}{
		"a new scan waits for its deadline": {scan: controllertest.MakeScan(), now: at(10), wantRequeue: 291 * time.Second},
		"the deadline is not early":         {scan: controllertest.MakeScan(), now: at(300), wantRequeue: time.Second},
		"the deadline ends it":              {scan: controllertest.MakeScan(), now: at(301), wantReason: v1alpha1.ReasonDeadlineExceeded},
		"a running scan waits for its assignment's deadline and some more": {
			scan: controllertest.MakeScan(controllertest.AssignedUntil(at(60))), now: at(30), wantRequeue: 45 * time.Second,
		},
		"an assignment that is overdue is taken back, as an attempt": {
			scan: controllertest.MakeScan(controllertest.AssignedUntil(at(60))), now: at(75), wantReason: v1alpha1.ReasonBackingOff,
		},
		"the scan's deadline counts before the assignment's": {
			scan: controllertest.MakeScan(controllertest.AssignedUntil(at(300))), now: at(301), wantReason: v1alpha1.ReasonDeadlineExceeded,
		},
		"a finished scan waits for its time to live": {scan: controllertest.MakeScan(controllertest.FinishedAt(at(20))), now: at(100), wantRequeue: 20 * time.Second},
		"the time to live ends it":                   {scan: controllertest.MakeScan(controllertest.FinishedAt(at(20))), now: at(120), wantDeleted: true},
		"a finished scan has no deadline":            {scan: controllertest.MakeScan(controllertest.FinishedAt(at(290))), now: at(350), wantRequeue: 40 * time.Second},
		"without a time to live there is a default": {
			scan: controllertest.MakeScan(controllertest.FinishedAt(at(20)), func(s *v1alpha1.ScanRequest) { s.Spec.TTLSecondsAfterFinished = nil }),
			now:  at(620), wantRequeue: 50 * time.Minute,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var n controllertest.Calls
			clk := clocktesting.NewFakeClock(tc.now)
			c := controllertest.NewClient(t, &n, tc.scan)
			r := &Reconciler{Client: c, Clock: clk, Status: scanstatus.New(scanstatus.Options{Client: c, APIReader: c, Clock: clk, Policy: scanstatus.GiveUp})}
			result, err := r.Reconcile(t.Context(), controllertest.Request("a"))
			if err != nil {
				t.Fatal(err)
			}
			if result.RequeueAfter != tc.wantRequeue {
				t.Errorf("requeue after %s, want %s", result.RequeueAfter, tc.wantRequeue)
			}
			got := &v1alpha1.ScanRequest{}
			err = c.Get(t.Context(), controllertest.Request("a").NamespacedName, got)
			if apierrors.IsNotFound(err) != tc.wantDeleted {
				t.Fatalf("get: %v, want deleted %t", err, tc.wantDeleted)
			}
			if got.Status.Summary.Reason != tc.wantReason {
				t.Errorf("reason %q, want %q", got.Status.Summary.Reason, tc.wantReason)
			}
			wantPatches := 0
			if tc.wantReason != "" {
				wantPatches = 1
			}
			if n.Patches != wantPatches {
				t.Errorf("%d status patches, want %d", n.Patches, wantPatches)
			}
		})
	}
}

func TestScanRequestIsNotDeletedWhenItChanged(t *testing.T) {
	var n controllertest.Calls
	clk := clocktesting.NewFakeClock(controllertest.T0.Add(time.Hour))
	c := controllertest.NewClient(t, &n, controllertest.MakeScan(controllertest.FinishedAt(controllertest.T0)))
	seen := &v1alpha1.ScanRequest{}
	if err := c.Get(t.Context(), controllertest.Request("a").NamespacedName, seen); err != nil {
		t.Fatal(err)
	}
	stale := seen.DeepCopy()
	seen.Labels = map[string]string{"changed": "yes"}
	if err := c.Update(t.Context(), seen); err != nil {
		t.Fatal(err)
	}
	r := &Reconciler{Client: c, Clock: clk}
	if _, err := r.collect(t.Context(), stale, clk.Now()); !apierrors.IsConflict(err) {
		t.Errorf("error = %v, want a conflict", err)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(seen), seen); err != nil {
		t.Errorf("the changed scan is gone: %v", err)
	}
}
