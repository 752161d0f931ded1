// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// pollInterval is the time between two looks at a counter that is expected to change within milliseconds.
const pollInterval = 20 * time.Millisecond

// idleRounds is how often the idle objects are touched. A controller that wakes itself up would have reconciled far
// more often than once per touch by the end.
const idleRounds = 5

// TestIdleObjectsReconcileOnce counts in metrics that all managers of this process share: it must not run in parallel.
// The test steps the operator's clock, so that no real minutes pass.
func TestIdleObjectsReconcileOnce(t *testing.T) {
	const scans = 20
	w := newWorld(t, nil)
	for i := range scans {
		scanAt(t, w.admin, w.namespace, fmt.Sprintf("scan-%d", i), "kim", func(s *v1alpha1.ScanRequestStatus) {
			s.Phase, s.FinishedAt = v1alpha1.ScanFailed, metav1.NewMicroTime(time.Now())
		})
	}
	clock := testclock.NewFakeClock(time.Now())
	reconciled := counter(reconciles(t))
	written := counter(writes(t))
	w.startManager(managerOptions{clock: clock})
	w.awaitBudget(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonKeyFound)
	for _, pool := range []string{visionPool, answerPool} {
		await(t, w.admin, &v1alpha1.WorkerPoolList{}, w.namespace, pool, "a status", func(p *v1alpha1.WorkerPool) bool {
			return p.Status.ObservedGeneration == p.Generation && len(p.Status.Conditions) == 3
		})
	}
	awaitCount(t, "every scan to be reconciled", scans, func() float64 { return reconciled(reconciles(t))["scanrequest"] })

	for round := 1; round <= idleRounds; round++ {
		clock.Step(time.Minute) // what the operator does by the clock, it does now
		inRound := counter(reconciles(t))
		w.touch(round, &v1alpha1.ScanRequestList{}, &v1alpha1.WorkerPoolList{}, &corev1.SecretList{})
		for controller, objects := range map[string]float64{"scanrequest": scans, "workerpool": 2, "tokenbudget": 1} {
			awaitCount(t, "reconciliations by "+controller, objects, func() float64 { return inRound(reconciles(t))[controller] })
		}
	}

	got := reconciled(reconciles(t))
	t.Logf("reconciliations by controller: %v", got)
	if want := float64(scans * (1 + idleRounds)); got["scanrequest"] != want {
		t.Errorf("%v reconciliations of %d idle scans that were touched %d times, want %v", got["scanrequest"], scans, idleRounds, want)
	}
	// Before they come to rest: a pool when it is seen, when its budget is, when its Deployment is there, and when its
	// load is first known; a budget when it is seen, when its Secret is, and when its figures are first known.
	for controller, most := range map[string]float64{"workerpool": 2 * (4 + idleRounds), "tokenbudget": 3 + idleRounds} {
		if got[controller] > most {
			t.Errorf("%v reconciliations by %s, want at most %v", got[controller], controller, most)
		}
	}
	want := map[string]float64{
		"scanrequests PATCH 200":        scans * idleRounds, // the touches of this test
		"workerpools PATCH 200":         2 * idleRounds,
		"tokenbudgets PATCH status 200": 1,
		"workerpools PATCH status 200":  2,
		"deployments APPLY 201":         2,
	}
	if diff := cmp.Diff(want, written(writes(t))); diff != "" {
		t.Errorf("API writes (-want +got):\n%s", diff)
	}
}

// touch changes all objects of some kinds in a way that means nothing.
func (w *world) touch(round int, kinds ...client.ObjectList) {
	w.t.Helper()
	for _, list := range kinds {
		if err := w.admin.List(w.t.Context(), list, client.InNamespace(w.namespace)); err != nil {
			w.t.Fatal(err)
		}
		patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata": {"annotations": {"round": "%d"}}}`, round))
		err := meta.EachListItem(list, func(object runtime.Object) error {
			return w.admin.Patch(w.t.Context(), object.(client.Object), patch) //nolint:forcetypeassert // all kinds are objects
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// awaitCount waits until a counter has reached a number.
func awaitCount(t *testing.T, what string, want float64, count func() float64) {
	t.Helper()
	got := 0.
	err := wait.PollUntilContextTimeout(t.Context(), pollInterval, waitTimeout, true, func(context.Context) (bool, error) {
		got = count()
		return got >= want, nil
	})
	if err != nil {
		t.Fatalf("waited for %s: counted %v, want %v", what, got, want)
	}
}

// counter returns a function that says by how much counts have grown since.
func counter(before map[string]float64) func(map[string]float64) map[string]float64 {
	return func(after map[string]float64) map[string]float64 {
		grown := map[string]float64{}
		for name, n := range after {
			if n > before[name] {
				grown[name] = n - before[name]
			}
		}
		return grown
	}
}

// reconciles counts reconciliations by controller, however they ended.
func reconciles(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "controller_runtime_reconcile_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			counts[labels(m)["controller"]] += m.GetCounter().GetValue()
		}
	}
	return counts
}

// writes counts the API writes of all that the operator may write, by resource, verb, subresource and status code.
func writes(t *testing.T) map[string]float64 {
	t.Helper()
	counts := map[string]float64{}
	for _, resource := range []string{"scanrequests", "tokenbudgets", "workerpools", "deployments"} {
		for request, n := range writesOf(t, resource) {
			counts[resource+" "+request] = n
		}
	}
	return counts
}
