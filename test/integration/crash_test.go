// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/dev/openaisim"
	"github.com/eco2-team/scan-operator/test/testenv"
)

// stagesOf are the stages of the two pools.
var stagesOf = map[string][]v1alpha1.StageName{
	visionPool: {v1alpha1.StageVision, v1alpha1.StageRule},
	answerPool: {v1alpha1.StageAnswer, v1alpha1.StageReward},
}

// longCalls makes calls take longer than the replacement of a worker.
func longCalls(s *settings) {
	for _, pool := range s.pools {
		pool.StageDefaults.TimeoutSeconds = 600
	}
}

// TestWorkerKilledMidCall kills a worker while the provider works for it: another one runs the stage again, and only
// that one, and the loss is not the scan's fault.
func TestWorkerKilledMidCall(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		pool                   string
		stage                  v1alpha1.StageName
		wantVision, wantAnswer int64
	}{
		"vision": {pool: visionPool, stage: v1alpha1.StageVision, wantVision: 2, wantAnswer: 1},
		"answer": {pool: answerPool, stage: v1alpha1.StageAnswer, wantVision: 1, wantAnswer: 2},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, longCalls)
			gate := w.provider.hold(openaisim.Stage(tc.stage))
			w.startManager(managerOptions{})
			for pool, stages := range stagesOf {
				if pool != tc.pool {
					w.startWorker(pool, stages...)
				}
			}
			victim := w.startWorkerProcess(controlPlane.As(w.namespace, testenv.AccountWorker), tc.pool)
			w.submit("scan", nil)
			call := gate.next(t)
			victim.kill()
			awaitClosed(t, call.left, "the end of the victim's connection")
			killed := time.Now()
			gate.lift()
			w.startWorker(tc.pool, stagesOf[tc.pool]...)

			scan := w.awaitSucceeded("scan")
			t.Logf("finished %s after the worker was killed", time.Since(killed).Round(100*time.Millisecond))
			for _, s := range scan.Status.Stages {
				if s.Attempts > 1 {
					t.Errorf("%d attempts of stage %s, want 1: a lost worker does not count", s.Attempts, s.Name)
				}
			}
			w.provider.checkPaid(t, tc.wantVision, tc.wantAnswer, callID(scan, tc.stage))
			w.checkNothingReserved()
		})
	}
}

// TestStaleWorkerIsFenced freezes a worker in the middle of a call until another one has the scan. When it continues, it
// has an answer and has not received any event yet. Its writes must be dropped, whether the other one is still at work
// or has finished.
func TestStaleWorkerIsFenced(t *testing.T) {
	t.Parallel()
	for name, otherIsDone := range map[string]bool{"while the other works": false, "when the other is done": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, longCalls)
			gate := w.provider.hold(openaisim.StageVision)
			w.startManager(managerOptions{})
			w.startWorker(answerPool, stagesOf[answerPool]...)
			proxy := newAPIProxy(t, controlPlane.As(w.namespace, testenv.AccountWorker))
			stale := w.startWorkerProcess(proxy.config, visionPool)
			w.submit("scan", nil)
			late := gate.next(t)
			stale.freeze()
			proxy.hold()

			stopOther := w.startWorker(visionPool, stagesOf[visionPool]...)
			call := gate.next(t)
			before := w.awaitScan("scan", "the other worker", func(s *v1alpha1.ScanRequest) bool { return s.Status.Assignment != nil })
			if otherIsDone {
				call.answer()
				before = w.awaitSucceeded("scan")
			}
			late.answer()
			stale.thaw()
			stale.awaitLine(`"msg":"assignment finished"`, `"result":"fenced"`)
			after := &v1alpha1.ScanRequest{}
			if err := w.admin.Get(t.Context(), client.ObjectKeyFromObject(before), after); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("the scan was changed (-before +after):\n%s", diff)
			}
			call.answer()
			scan := w.awaitSucceeded("scan")
			if s := stage(t, scan, v1alpha1.StageVision); s.Attempts != 1 || strings.HasPrefix(s.Worker, stale.pod) {
				t.Errorf("%d attempts of vision, the last by %s; want 1, by another worker than %s", s.Attempts, s.Worker, stale.pod)
			}
			w.provider.checkPaid(t, 2, 1, callID(scan, v1alpha1.StageVision))

			// It is a worker like any other as soon as it receives the delayed events.
			proxy.release()
			gate.lift()
			stopOther()
			w.submit("next", nil)
			if s := stage(t, w.awaitSucceeded("next"), v1alpha1.StageVision); !strings.HasPrefix(s.Worker, stale.pod) {
				t.Errorf("vision of the next scan ran on %s, want %s", s.Worker, stale.pod)
			}
			w.checkNothingReserved()
		})
	}
}

// TestWorkerHandsBack stops a worker whose call does not end within the grace period: the scan goes to another
// worker at once, without waiting for a Lease to expire.
func TestWorkerHandsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, longCalls)
	gate := w.provider.hold(openaisim.StageAnswer)
	w.startManager(managerOptions{})
	w.startWorker(visionPool, stagesOf[visionPool]...)
	leaving := w.startWorkerProcess(controlPlane.As(w.namespace, testenv.AccountWorker), answerPool, "--drain-timeout=1s")
	w.submit("scan", nil)
	gate.next(t)
	leaving.signal(syscall.SIGTERM)
	if code := leaving.awaitEnd(); code != 0 {
		t.Errorf("the worker ended with code %d, want 0", code)
	}
	var leases coordinationv1.LeaseList
	if err := w.admin.List(t.Context(), &leases, client.InNamespace(w.namespace), client.MatchingLabels{v1alpha1.LabelPool: answerPool}); err != nil {
		t.Fatal(err)
	}
	if len(leases.Items) != 0 {
		t.Errorf("the worker has left and its Lease is still there: %s", leases.Items[0].Name)
	}
	gate.lift()
	w.startWorker(answerPool, stagesOf[answerPool]...)
	scan := w.awaitSucceeded("scan")
	if s := stage(t, scan, v1alpha1.StageAnswer); s.Attempts != 1 {
		t.Errorf("%d attempts of answer, want 1: a drain does not count", s.Attempts)
	}
	w.provider.checkPaid(t, 1, 2, callID(scan, v1alpha1.StageAnswer))
}

// TestManagerRestart replaces the manager while scans are in all states: waiting, in vision, between the stages, in
// answer. No stage is run twice.
func TestManagerRestart(t *testing.T) {
	t.Parallel()
	t.Run("in order", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, longCalls)
		stop := w.startManager(managerOptions{})
		w.restart(stop, func() { w.startManager(managerOptions{}) })
	})
	t.Run("killed, with another one standing by", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, longCalls)
		leader := w.startManagerProcess()
		w.awaitBudget(v1alpha1.ConditionReady, "True", v1alpha1.ReasonKeyFound) // it leads
		w.startManagerProcess()
		w.restart(leader.kill, func() {})
	})
}

// restart runs scans while one manager is ended and another one begins.
func (w *world) restart(end, begin func()) {
	w.t.Helper()
	t := w.t
	vision, answer := w.provider.hold(openaisim.StageVision), w.provider.hold(openaisim.StageAnswer)
	for pool, stages := range stagesOf {
		w.startWorker(pool, stages...)
	}
	const running, inAnswer, late = 6, 2, 3
	for i := range running {
		w.submit(fmt.Sprintf("scan-%d", i), nil)
	}
	for i := range running {
		call := vision.next(t)
		if i < inAnswer {
			call.answer()
		}
	}
	for range inAnswer {
		answer.next(t)
	}
	end()
	for i := range late { // no manager runs that could schedule these
		w.submit(fmt.Sprintf("scan-%d", running+i), nil)
	}
	vision.lift()
	for i := range running { // the workers need no manager to finish what they have
		w.awaitScan(fmt.Sprintf("scan-%d", i), "vision", func(s *v1alpha1.ScanRequest) bool {
			return meta.IsStatusConditionTrue(s.Status.Conditions, v1alpha1.ConditionVisionCompleted)
		})
	}
	answer.lift()
	begin()
	for i := range running + late {
		scan := w.awaitSucceeded(fmt.Sprintf("scan-%d", i))
		if slices.ContainsFunc(scan.Status.Stages, func(s v1alpha1.StageStatus) bool { return s.Attempts > 1 }) {
			t.Errorf("a stage of %s was tried more than once:\n%s", scan.Name, text(scan))
		}
	}
	w.provider.checkPaid(t, running+late, running+late)
	w.checkNothingReserved()
}

// checkNothingReserved waits until the budget's status says that no call is running and nothing is reserved.
func (w *world) checkNothingReserved() {
	w.t.Helper()
	await(w.t, w.admin, &v1alpha1.TokenBudgetList{}, w.namespace, budgetName, "no reservations", func(b *v1alpha1.TokenBudget) bool {
		return b.Status.Totals.Calls > 0 && b.Status.Usage.ReservedTokens == 0 && b.Status.Usage.InFlight == 0
	})
}

// TestKeyIsMountedLate changes the Secret long before the workers see it, as it is in a cluster: the first call after
// the change is refused again, and the scan is held until the key works.
func TestKeyIsMountedLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.provider.revoke(t, firstKey, true)
	w.start()
	w.submit("scan", nil)
	w.awaitBudget(v1alpha1.ConditionReady, "False", v1alpha1.ReasonKeyRejected)
	refused := w.provider.refusals()
	w.storeKey("sk-second")
	awaitCount(t, "a call with the old key", float64(refused+1), func() float64 { return float64(w.provider.refusals()) })
	w.mountKey("sk-second")
	if scan := w.awaitSucceeded("scan"); stage(t, scan, v1alpha1.StageVision).Attempts != 1 {
		t.Errorf("a refused key counted as an attempt:\n%s", text(scan))
	}
	w.awaitBudget(v1alpha1.ConditionReady, "True", v1alpha1.ReasonKeyFound)
}
