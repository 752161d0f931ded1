// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package workerpool

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/controllers/controllertest"
	"github.com/eco2-team/scan-operator/controllers/statusthrottle"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

// poolWorld is a pool's controller with its scheduler.
type poolWorld struct {
	t   *testing.T
	n   controllertest.Calls
	clk *clocktesting.FakeClock
	c   client.WithWatch
	r   *Reconciler
}

func newPoolWorld(t *testing.T, pool *v1alpha1.WorkerPool, objs ...client.Object) *poolWorld {
	t.Helper()
	w := &poolWorld{t: t, clk: clocktesting.NewFakeClock(controllertest.T0)}
	b := controllertest.MakeBudget()
	b.Spec.TokensPerMinute, b.Spec.RequestsPerMinute = 2_000_000, 100_000
	w.c = controllertest.NewClient(t, &w.n, append(objs, pool, b)...)
	w.r = poolReconciler(w.c, w.clk)
	w.r.Scheduler.PoolChanged(pool)
	w.r.Scheduler.BudgetChanged(b, scheduler.KeyState{Ready: true, Version: "1"})
	return w
}

func (w *poolWorld) reconcile() ctrl.Result {
	w.t.Helper()
	result, err := w.r.Reconcile(w.t.Context(), controllertest.Request("vision"))
	if err != nil {
		w.t.Fatal(err)
	}
	return result
}

// queue makes so many scans wait for the pool, in place of those before.
func (w *poolWorld) queue(n int) {
	for i := range 2000 {
		s := controllertest.MakeScan(func(s *v1alpha1.ScanRequest) {
			s.Name, s.UID, s.ResourceVersion = "s"+strconv.Itoa(i), types.UID(strconv.Itoa(i)), "1"
		})
		if i < n {
			w.r.Scheduler.ScanChanged(s)
		} else {
			w.r.Scheduler.ScanGone(client.ObjectKeyFromObject(s))
		}
	}
}

func (w *poolWorld) deployment(name string) *appsv1.Deployment {
	w.t.Helper()
	d := &appsv1.Deployment{}
	if err := w.c.Get(w.t.Context(), types.NamespacedName{Namespace: "ns", Name: name}, d); err != nil {
		w.t.Fatal(err)
	}
	return d
}

func (w *poolWorld) replicas(name string) int32 { return *w.deployment(name).Spec.Replicas }

func (w *poolWorld) pool() *v1alpha1.WorkerPool {
	w.t.Helper()
	p := &v1alpha1.WorkerPool{}
	if err := w.c.Get(w.t.Context(), controllertest.Request("vision").NamespacedName, p); err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *poolWorld) update(change func(*v1alpha1.WorkerPool)) {
	w.t.Helper()
	p := w.pool()
	change(p)
	if err := w.c.Update(w.t.Context(), p); err != nil {
		w.t.Fatal(err)
	}
	w.r.Scheduler.PoolChanged(p)
}

func (w *poolWorld) wantEvent(parts ...string) {
	w.t.Helper()
	select {
	case got := <-w.r.Recorder.(*events.FakeRecorder).Events:
		for _, part := range parts {
			if !strings.Contains(got, part) {
				w.t.Errorf("event %q, want %q in it", got, part)
			}
		}
	default:
		w.t.Errorf("no event, want one with %q", parts)
	}
}

func (w *poolWorld) wantNoEvent() {
	w.t.Helper()
	select {
	case got := <-w.r.Recorder.(*events.FakeRecorder).Events:
		w.t.Errorf("event %q, want none", got)
	default:
	}
}

// settled is when a pool that has just grown may grow again.
const settled = time.Second

func fromZero(p *v1alpha1.WorkerPool) { p.Spec.MinReplicas = new(int32) }

// TestBurstOnAnEmptyPool takes a pool from zero to its size and back.
func TestBurstOnAnEmptyPool(t *testing.T) {
	w := newPoolWorld(t, controllertest.MakePool(fromZero))
	w.reconcile()
	if got := w.replicas("vision-workers"); got != 0 {
		t.Fatalf("%d workers without work, want none", got)
	}
	w.queue(1000)
	before := w.n.Applies
	w.reconcile()
	if got := w.replicas("vision-workers"); got != 8 || w.n.Applies != before+1 {
		t.Errorf("%d workers after %d writes, want 8 after one", got, w.n.Applies-before)
	}
	w.wantEvent("0 → 8: 1000 calls to run, budgets allow ", ", 100 per worker, at most 8 workers")
	w.clk.Step(statusthrottle.Interval)
	w.reconcile()
	p := w.pool()
	limited := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionScalingLimited)
	if p.Status.LimitedBy != v1alpha1.LimitedByMaxReplicas || limited.Status != metav1.ConditionTrue || !strings.Contains(limited.Message, "10 workers needed, 8 allowed") {
		t.Errorf("limited by %s, %+v", p.Status.LimitedBy, limited)
	}
	if ptr.Deref(p.Status.ReadyReplicas, -1) != 0 || ptr.Deref(p.Status.DesiredReplicas, -1) != 8 || p.Status.TokensLastMinute != 0 ||
		p.Status.TokensPerMinute != 2_000_000 || ptr.Deref(p.Status.Queued, -1) != 1000 {
		t.Errorf("status = %+v", p.Status)
	}

	w.queue(0)
	w.clk.Step(statusthrottle.Interval)
	result := w.reconcile()
	if got := w.replicas("vision-workers"); got != 8 || result.RequeueAfter != 300*time.Second {
		t.Errorf("%d workers when the work is done, next look after %s; want 8 for five minutes", got, result.RequeueAfter)
	}
	w.clk.Step(result.RequeueAfter)
	w.reconcile()
	if got := w.replicas("vision-workers"); got != 0 {
		t.Errorf("%d workers after five minutes without work, want none", got)
	}
	w.wantEvent("8 → 0: 0 calls to run")
}

// TestLoadUnknown: a new leader that does not know the load yet changes nothing.
func TestLoadUnknown(t *testing.T) {
	none := int32(0)
	w := newPoolWorld(t, controllertest.MakePool(fromZero, func(p *v1alpha1.WorkerPool) {
		p.Spec.Behavior = controllertest.BehaviorDown(none)
	}))
	w.queue(500)
	w.reconcile()
	w.r.memories = nil
	w.r.Scheduler.PoolGone(controllertest.Request("vision").NamespacedName)
	w.clk.Step(time.Hour)
	w.reconcile()
	if got := w.replicas("vision-workers"); got != 5 {
		t.Errorf("%d workers before the load is known, want the 5 that are there", got)
	}
}

func TestScaleByHand(t *testing.T) {
	w := newPoolWorld(t, controllertest.MakePool(fromZero))
	w.queue(250)
	w.reconcile()
	w.update(func(p *v1alpha1.WorkerPool) {
		p.Annotations = map[string]string{v1alpha1.AnnotationAutoscaling: v1alpha1.AutoscalingPaused}
	})
	w.queue(800)
	w.reconcile()
	if got := w.replicas("vision-workers"); got != 3 {
		t.Errorf("%d workers while paused, want the 3 of before", got)
	}
	w.update(func(p *v1alpha1.WorkerPool) { p.Spec.Replicas = new(int32(6)) })
	w.clk.Step(statusthrottle.Interval)
	w.reconcile()
	if got := w.replicas("vision-workers"); got != 6 || w.pool().Status.LimitedBy != v1alpha1.LimitedByManual {
		t.Errorf("%d workers by %s, want 6 by hand", got, w.pool().Status.LimitedBy)
	}
	w.clk.Step(settled)
	w.wantEvent("0 → 3: 250 calls to run")
	w.wantEvent("3 → 6: autoscaling is off; 800 calls to run")
	w.update(func(p *v1alpha1.WorkerPool) { p.Annotations = nil })
	w.reconcile()
	if got := w.replicas("vision-workers"); got != 8 {
		t.Errorf("%d workers when autoscaling is on again, want 8", got)
	}
	w.wantEvent("ReplicasIgnored", "spec.replicas is 6, but autoscaling is on", "scan.growbin.app/autoscaling=paused")
	w.wantEvent("6 → 8: 800 calls to run")
	w.reconcile()
	w.wantNoEvent()
}

func TestCanary(t *testing.T) {
	w := newPoolWorld(t, controllertest.MakePool(fromZero, func(p *v1alpha1.WorkerPool) {
		p.Spec.Template = &v1alpha1.WorkerTemplate{Image: "stable:1", Env: []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "1"}}}
		p.Spec.Canary = &v1alpha1.CanaryWorkers{
			WeightPercent: new(int32(20)),
			Template:      &v1alpha1.WorkerTemplate{Image: "canary:2", Env: []corev1.EnvVar{{Name: "A", Value: "2"}}},
		}
	}))
	w.reconcile()
	if s, c := w.replicas("vision-workers"), w.replicas("vision-canary"); s != 0 || c != 0 {
		t.Errorf("%d and %d workers without work, want none", s, c)
	}
	w.queue(500)
	w.reconcile()
	stable, canary := w.deployment("vision-workers"), w.deployment("vision-canary")
	if *stable.Spec.Replicas != 4 || *canary.Spec.Replicas != 1 {
		t.Errorf("%d and %d workers, want 4 and 1", *stable.Spec.Replicas, *canary.Spec.Replicas)
	}
	for d, want := range map[*appsv1.Deployment]string{stable: "stable:1 stable [A=1 B=1]", canary: "canary:2 canary [B=1 A=2]"} {
		container := d.Spec.Template.Spec.Containers[0]
		var env []string
		for _, e := range container.Env {
			if e.ValueFrom == nil {
				env = append(env, e.Name+"="+e.Value)
			}
		}
		if got := fmt.Sprint(container.Image, " ", d.Spec.Selector.MatchLabels[v1alpha1.LabelTrack], " ", env); got != want {
			t.Errorf("%s: %s, want %s", d.Name, got, want)
		}
	}
	w.update(func(p *v1alpha1.WorkerPool) { p.Spec.Canary = nil })
	w.reconcile()
	err := w.c.Get(t.Context(), types.NamespacedName{Namespace: "ns", Name: "vision-canary"}, &appsv1.Deployment{})
	if !apierrors.IsNotFound(err) || w.replicas("vision-workers") != 5 {
		t.Errorf("%d workers and the canary %v, want 5 and no canary", w.replicas("vision-workers"), err)
	}
}

func TestWorkerGroups(t *testing.T) {
	tests := map[string]struct {
		replicas, weight       int32
		wantStable, wantCanary int32
	}{
		"none":                     {replicas: 0, weight: 50},
		"one":                      {replicas: 1, weight: 10, wantStable: 1, wantCanary: 1},
		"a tenth of ten":           {replicas: 10, weight: 10, wantStable: 9, wantCanary: 1},
		"half of three":            {replicas: 3, weight: 50, wantStable: 2, wantCanary: 2},
		"a canary with no weight":  {replicas: 3, weight: 0, wantStable: 3},
		"a canary that is it all":  {replicas: 3, weight: 100, wantCanary: 3},
		"a hundredth of a hundred": {replicas: 100, weight: 1, wantStable: 99, wantCanary: 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			pool := controllertest.MakePool(func(p *v1alpha1.WorkerPool) { p.Spec.Canary = &v1alpha1.CanaryWorkers{WeightPercent: &tc.weight} })
			groups := workerGroups(pool, tc.replicas)
			if groups[0].replicas != tc.wantStable || groups[1].replicas != tc.wantCanary {
				t.Errorf("%d and %d, want %d and %d", groups[0].replicas, groups[1].replicas, tc.wantStable, tc.wantCanary)
			}
			deployments := map[string]*appsv1.Deployment{}
			for _, g := range groups {
				deployments[g.track] = &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Replicas: &g.replicas}}
			}
			if again := totalReplicas(workerGroups(pool, deployedReplicas(pool, deployments))); again != totalReplicas(groups) {
				t.Errorf("a new leader takes the workers for %d, want %d", again, totalReplicas(groups))
			}
		})
	}
}

// TestIdleWorkersGoFirst shrinks a pool whose workers have different loads.
func TestIdleWorkersGoFirst(t *testing.T) {
	none := int32(0)
	pool := controllertest.MakePool(func(p *v1alpha1.WorkerPool) {
		p.Spec.Behavior, p.Spec.ConcurrencyPerWorker = controllertest.BehaviorDown(none), 10
	})
	w := newPoolWorld(t, pool)
	w.queue(40)
	w.reconcile()
	labels := workerGroups(pool, 4)[0].labels(pool)
	for i, load := range []int{7, 0, 9, 2} { // as the pods' workers have been given
		pod := "pod-" + strconv.Itoa(i)
		if err := w.c.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: pod, Labels: labels}}); err != nil {
			t.Fatal(err)
		}
		w.r.Scheduler.WorkerChanged(scheduler.Worker{
			Name: types.NamespacedName{Namespace: "ns", Name: "w" + pod}, Pool: "vision", Pod: pod, Capacity: 10, RenewedAt: controllertest.T0, LeaseDuration: time.Minute,
		})
		for n := range load {
			w.r.Scheduler.ScanChanged(controllertest.MakeScan(controllertest.AssignedUntil(controllertest.T0.Add(time.Minute)), func(s *v1alpha1.ScanRequest) {
				s.Name = fmt.Sprint(pod, "-", n)
				s.UID, s.ResourceVersion, s.Status.Assignment.ID, s.Status.Assignment.Worker = types.UID(s.Name), "1", s.Name, "w"+pod
			}))
		}
	}
	costs := func() map[string]string {
		var pods corev1.PodList
		if err := w.c.List(t.Context(), &pods); err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for i := range pods.Items {
			got[pods.Items[i].Name] = pods.Items[i].Annotations[corev1.PodDeletionCost]
		}
		return got
	}
	w.reconcile()
	if w.n.PodPatches != 0 {
		t.Errorf("%d pods were written to while the pool does not shrink", w.n.PodPatches)
	}
	w.queue(0)
	w.reconcile()
	if diff := cmp.Diff(map[string]string{"pod-0": "7", "pod-1": "", "pod-2": "9", "pod-3": "2"}, costs()); diff != "" || w.replicas("vision-workers") != 2 {
		t.Errorf("%d workers, costs %s", w.replicas("vision-workers"), diff)
	}
	written := w.n.PodPatches
	g := workerGroups(pool, 3)[0]
	if err := w.r.preferIdle(t.Context(), pool, g); err != nil || w.n.PodPatches != written {
		t.Errorf("%d more writes where the order was right, error %v", w.n.PodPatches-written, err)
	}
}
