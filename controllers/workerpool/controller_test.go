// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package workerpool

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/controllers/controllertest"
	"github.com/eco2-team/scan-operator/controllers/statusthrottle"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

func poolReconciler(c client.Client, clk *clocktesting.FakeClock) *Reconciler {
	return &Reconciler{
		Client: c, APIReader: c, Clock: clk, Recorder: events.NewFakeRecorder(100), throttle: statusthrottle.New(clk),
		Scheduler: scheduler.New(scheduler.Options{Clock: clk, Pack: knowledge.Default(), Log: logr.Discard(), LeaderTerm: "t"}),
		Workers:   WorkerDefaults{Image: "scan-operator:1", ServiceAccountName: "scan-worker", DefaultEndpoint: "https://api.example.org/v1"},
	}
}

func TestWorkerPoolComesToRest(t *testing.T) {
	var n controllertest.Calls
	clk := clocktesting.NewFakeClock(controllertest.T0)
	c := controllertest.NewClient(t, &n, controllertest.MakePool(), controllertest.MakeBudget())
	r := poolReconciler(c, clk)
	reconcile := func() {
		t.Helper()
		result, err := r.Reconcile(t.Context(), controllertest.Request("vision"))
		if err != nil {
			t.Fatal(err)
		}
		if result.RequeueAfter > 0 { // the throttle: come back then
			clk.Step(result.RequeueAfter)
			if _, err := r.Reconcile(t.Context(), controllertest.Request("vision")); err != nil {
				t.Fatal(err)
			}
		}
	}
	reconcile()
	d := &appsv1.Deployment{}
	if err := c.Get(t.Context(), types.NamespacedName{Namespace: "ns", Name: "vision-workers"}, d); err != nil {
		t.Fatal(err)
	}
	if *d.Spec.Replicas != 2 || n.Applies != 1 {
		t.Errorf("%d replicas after %d applies, want 2 after 1", *d.Spec.Replicas, n.Applies)
	}
	reconcile() // sees its own Deployment
	d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2}
	if err := c.Status().Update(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	clk.Step(statusthrottle.Interval)
	reconcile()
	pool := &v1alpha1.WorkerPool{}
	if err := c.Get(t.Context(), controllertest.Request("vision").NamespacedName, pool); err != nil {
		t.Fatal(err)
	}
	if !meta.IsStatusConditionTrue(pool.Status.Conditions, v1alpha1.ConditionReady) ||
		!meta.IsStatusConditionFalse(pool.Status.Conditions, v1alpha1.ConditionProgressing) ||
		ptr.Deref(pool.Status.ReadyReplicas, -1) != 2 || ptr.Deref(pool.Status.DesiredReplicas, -1) != 2 || pool.Status.LimitedBy != v1alpha1.LimitedByMinReplicas {
		t.Errorf("status = %+v", pool.Status)
	}
	before := n
	for range 10 {
		clk.Step(statusthrottle.Interval)
		reconcile()
	}
	if n != before {
		t.Errorf("an idle pool was written to: %+v, before %+v", n, before)
	}

	pool.Spec.StageDefaults.TimeoutSeconds = 90
	if err := c.Update(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	reconcile()
	if n.Applies != before.Applies+1 {
		t.Errorf("%d applies for a changed pool, want one more than %d", n.Applies, before.Applies)
	}
}

func TestWorkerPoolStatusIsPaced(t *testing.T) {
	var n controllertest.Calls
	clk := clocktesting.NewFakeClock(controllertest.T0)
	c := controllertest.NewClient(t, &n, controllertest.MakePool())
	r := poolReconciler(c, clk)
	if _, err := r.Reconcile(t.Context(), controllertest.Request("vision")); err != nil {
		t.Fatal(err)
	}
	pool := &v1alpha1.WorkerPool{}
	if err := c.Get(t.Context(), controllertest.Request("vision").NamespacedName, pool); err != nil {
		t.Fatal(err)
	}
	c1 := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.ConditionReady)
	if c1 == nil || c1.Reason != v1alpha1.ReasonBudgetNotFound || !strings.Contains(c1.Message, "b; create") {
		t.Errorf("Ready = %+v, want BudgetNotFound", c1)
	}
	if err := c.Create(t.Context(), controllertest.MakeBudget()); err != nil {
		t.Fatal(err)
	}
	clk.Step(time.Second)
	result, err := r.Reconcile(t.Context(), controllertest.Request("vision"))
	if err != nil || result.RequeueAfter != 4*time.Second || n.Patches != 1 {
		t.Errorf("one second after a write: requeue after %s, %d patches, error %v; want 4s, 1", result.RequeueAfter, n.Patches, err)
	}
}

// TestEditedDeployment: what people change in a pool's Deployment is set back, and nothing else is written.
func TestEditedDeployment(t *testing.T) {
	w := newPoolWorld(t, controllertest.MakePool())
	w.reconcile()
	edited := w.deployment("vision-workers")
	edited.Spec.Template.Spec.Containers[0].Image = "another:3"
	edited.Generation = 7
	if err := w.c.Update(t.Context(), edited); err != nil {
		t.Fatal(err)
	}
	before := w.n.Applies
	for range 3 {
		w.reconcile()
	}
	if got := w.deployment("vision-workers").Spec.Template.Spec.Containers[0].Image; got != "scan-operator:1" || w.n.Applies != before+1 {
		t.Errorf("image %s after %d writes, want scan-operator:1 after one", got, w.n.Applies-before)
	}

	edited = w.deployment("vision-workers")
	edited.Spec.Template.Spec.Containers[0].Image = "another:3"
	if err := w.c.Update(t.Context(), edited); err != nil {
		t.Fatal(err)
	}
	w.r.memories = nil // another leader, which has not seen the edit happen
	w.reconcile()
	if got := w.deployment("vision-workers").Spec.Template.Spec.Containers[0].Image; got != "scan-operator:1" {
		t.Errorf("image %s under a new leader, want scan-operator:1", got)
	}
}

// TestRejectedDeployment: a pool whose template the API server rejects goes on with the workers that it has, and says
// why it has no others.
func TestRejectedDeployment(t *testing.T) {
	invalid := apierrors.NewInvalid(appsv1.SchemeGroupVersion.WithKind("Deployment").GroupKind(), "vision-workers", nil)
	forbidden := apierrors.NewForbidden(appsv1.Resource("deployments"), "vision-workers", errors.New("images must be signed"))
	tests := map[string]struct {
		err         error
		wantErr     bool
		want        int32
		wantReason  string
		wantMessage string
	}{
		"invalid":   {err: invalid, want: 5, wantReason: v1alpha1.ReasonInvalidTemplate, wantMessage: "correct spec.template"},
		"forbidden": {err: forbidden, wantErr: true, want: 2, wantReason: v1alpha1.ReasonDeploymentForbidden, wantMessage: "images must be signed; allow it"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newPoolWorld(t, controllertest.MakePool())
			w.reconcile()
			w.clk.Step(statusthrottle.Interval)
			w.n.ApplyErr = tc.err
			w.update(func(p *v1alpha1.WorkerPool) { p.Spec.Template = &v1alpha1.WorkerTemplate{Image: "bad"} })
			w.queue(500)
			if _, err := w.r.Reconcile(t.Context(), controllertest.Request("vision")); (err != nil) != tc.wantErr {
				t.Errorf("error %v, want one: %t", err, tc.wantErr)
			}
			if got := w.replicas("vision-workers"); got != tc.want {
				t.Errorf("%d workers, want %d", got, tc.want)
			}
			ready := meta.FindStatusCondition(w.pool().Status.Conditions, v1alpha1.ConditionReady)
			if ready.Reason != tc.wantReason || !strings.Contains(ready.Message, tc.wantMessage) {
				t.Errorf("ready: %+v, want %s, %s", ready, tc.wantReason, tc.wantMessage)
			}
			w.n.ApplyErr = nil
			w.clk.Step(statusthrottle.Interval)
			w.reconcile()
			d := w.deployment("vision-workers")
			if got := d.Spec.Template.Spec.Containers[0].Image; got != "bad" || *d.Spec.Replicas != 5 {
				t.Errorf("image %s and %d workers when it is accepted, want bad and 5", got, *d.Spec.Replicas)
			}
		})
	}
}

func TestManualReplicas(t *testing.T) {
	paused := func(p *v1alpha1.WorkerPool) {
		p.Annotations = map[string]string{v1alpha1.AnnotationAutoscaling: v1alpha1.AutoscalingPaused}
	}
	replicas := func(n int32) func(*v1alpha1.WorkerPool) {
		return func(p *v1alpha1.WorkerPool) { p.Spec.Replicas = &n }
	}
	fixed := func(p *v1alpha1.WorkerPool) { p.Spec.MaxReplicas = *p.Spec.MinReplicas }
	tests := map[string]struct {
		pool   *v1alpha1.WorkerPool
		exists bool
		want   *int32
	}{
		"autoscaled": {pool: controllertest.MakePool()},
		"spec.replicas counts for nothing while autoscaling is on": {pool: controllertest.MakePool(replicas(5))},
		"spec.replicas while paused":                               {pool: controllertest.MakePool(replicas(0), paused), want: new(int32(0))},
		"paused before spec.replicas is set":                       {pool: controllertest.MakePool(paused), exists: true, want: new(int32(7))},
		"paused from the beginning":                                {pool: controllertest.MakePool(paused), want: new(int32(2))},
		"spec.replicas where min equals max":                       {pool: controllertest.MakePool(replicas(3), fixed), want: new(int32(3))},
		"min equals max, without spec.replicas":                    {pool: controllertest.MakePool(fixed), exists: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, manualReplicas(tc.pool, 7, tc.exists)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWorkerDeployment(t *testing.T) {
	budgets := map[string]*v1alpha1.TokenBudget{"b": controllertest.MakeBudget()}
	defaults := WorkerDefaults{Image: "scan-operator:1", ServiceAccountName: "scan-worker", DefaultEndpoint: "https://api.example.org/v1"}
	template := &v1alpha1.WorkerTemplate{
		Labels: map[string]string{"team": "waste", v1alpha1.LabelPool: "other"},
		Image:  "mine:2", Env: []corev1.EnvVar{{Name: "HTTPS_PROXY", Value: "http://proxy:3128"}},
		NodeSelector: map[string]string{"disk": "fast"},
		Affinity:     &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}},
	}
	pool := controllertest.MakePool(func(p *v1alpha1.WorkerPool) { p.Spec.Template = template })
	group := func(p *v1alpha1.WorkerPool, replicas int32) workerGroup { return workerGroups(p, replicas)[0] }
	got, err := workerDeployment(pool, group(pool, 3), budgets, defaults)
	if err != nil {
		t.Fatal(err)
	}
	pod := got.Spec.Template.Spec
	container := pod.Containers[0]
	for _, want := range []string{"--stages=vision,rule", "--capacity=100", "--pool=vision", "--track=stable", "--drain-timeout=65s", "--default-endpoint=https://api.example.org/v1"} {
		if !slices.Contains(container.Args, want) {
			t.Errorf("args %q lack %s", container.Args, want)
		}
	}
	if *pod.TerminationGracePeriodSeconds != 70 {
		t.Errorf("grace period %d s, want the timeout and 10 s", *pod.TerminationGracePeriodSeconds)
	}
	if *container.Image != "mine:2" || pod.NodeSelector["disk"] != "fast" || pod.Affinity == nil || len(pod.TopologySpreadConstraints) != 0 {
		t.Errorf("the template's overrides are missing: %+v", pod)
	}
	if labels := got.Spec.Template.Labels; labels["team"] != "waste" || labels[v1alpha1.LabelPool] != "vision" {
		t.Errorf("labels = %v, want the template's but not for the selector's", labels)
	}
	if names := envNames(container.Env); !slices.Contains(names, "HTTPS_PROXY") || !slices.Contains(names, "POD_NAME") {
		t.Errorf("env = %v, want the template's on top of the defaults", names)
	}
	if len(pod.Volumes) != 1 || *pod.Volumes[0].Secret.SecretName != "provider-key" || *container.VolumeMounts[0].MountPath != keysDir+"/b" {
		t.Errorf("the budget's key is not mounted: %+v", pod.Volumes)
	}
	plain, err := workerDeployment(controllertest.MakePool(), group(controllertest.MakePool(), 3), budgets, defaults)
	if err != nil {
		t.Fatal(err)
	}
	if len(plain.Spec.Template.Spec.TopologySpreadConstraints) != 1 {
		t.Error("workers are not spread over the nodes by default")
	}
	more, err := workerDeployment(controllertest.MakePool(), group(controllertest.MakePool(), 4), budgets, defaults)
	if err != nil {
		t.Fatal(err)
	}
	if plain.Annotations[annotationApplied] == got.Annotations[annotationApplied] {
		t.Error("two pools have the same digest")
	}
	if plain.Annotations[annotationApplied] != more.Annotations[annotationApplied] {
		t.Error("the digest depends on the number of replicas")
	}
}

// TestDrainTimeout: whatever the grace period, there is time to hand back before its end.
func TestDrainTimeout(t *testing.T) {
	for grace, want := range map[int64]string{70: "65s", 6: "1s", 5: "0s", 1: "0s"} {
		pool := controllertest.MakePool(func(p *v1alpha1.WorkerPool) {
			p.Spec.Template = &v1alpha1.WorkerTemplate{TerminationGracePeriodSeconds: grace}
		})
		d, err := workerDeployment(pool, workerGroups(pool, 1)[0], nil, WorkerDefaults{})
		if err != nil {
			t.Fatal(err)
		}
		if args := d.Spec.Template.Spec.Containers[0].Args; !slices.Contains(args, "--drain-timeout="+want) {
			t.Errorf("grace period %d s: args %q, want a drain timeout of %s", grace, args, want)
		}
	}
}

func envNames(env []corev1ac.EnvVarApplyConfiguration) []string {
	names := make([]string, 0, len(env))
	for i := range env {
		names = append(names, *env[i].Name)
	}
	return names
}

// TestReadyWaitsForTheRollout: a pool is Ready when as many workers as desired run the current template, so that tools that
// wait for it see the change that they applied.
func TestReadyWaitsForTheRollout(t *testing.T) {
	tests := map[string]struct {
		status     appsv1.DeploymentStatus
		want       metav1.ConditionStatus
		wantReason string
	}{
		"no worker yet":         {appsv1.DeploymentStatus{ObservedGeneration: 3}, metav1.ConditionFalse, v1alpha1.ReasonWorkersUnready},
		"one of two":            {appsv1.DeploymentStatus{ObservedGeneration: 3, ReadyReplicas: 1, UpdatedReplicas: 2}, metav1.ConditionFalse, v1alpha1.ReasonWorkersUnready},
		"an older template":     {appsv1.DeploymentStatus{ObservedGeneration: 3, ReadyReplicas: 2, UpdatedReplicas: 1}, metav1.ConditionFalse, v1alpha1.ReasonRollingOut},
		"a change not acted on": {appsv1.DeploymentStatus{ObservedGeneration: 2, ReadyReplicas: 2, UpdatedReplicas: 2}, metav1.ConditionFalse, v1alpha1.ReasonRollingOut},
		"all on the new":        {appsv1.DeploymentStatus{ObservedGeneration: 3, ReadyReplicas: 2, UpdatedReplicas: 2}, metav1.ConditionTrue, v1alpha1.ReasonWorkersReady},
		"more than are desired": {appsv1.DeploymentStatus{ObservedGeneration: 3, ReadyReplicas: 3, UpdatedReplicas: 3}, metav1.ConditionTrue, v1alpha1.ReasonWorkersReady},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			pool := controllertest.MakePool()
			pool.Status.ReadyReplicas, pool.Status.DesiredReplicas = &tc.status.ReadyReplicas, ptr.To[int32](2)
			d := &appsv1.Deployment{Status: tc.status}
			d.Generation = 3
			c := readyCondition(&poolScope{
				pool: pool, deployments: map[string]*appsv1.Deployment{v1alpha1.TrackStable: d},
				budgets: map[string]*v1alpha1.TokenBudget{"b": controllertest.MakeBudget()},
			})
			if c.Type != "Ready" || c.Status != tc.want || c.Reason != tc.wantReason {
				t.Errorf("%+v, want %s, %s", c, tc.want, tc.wantReason)
			}
		})
	}
}
