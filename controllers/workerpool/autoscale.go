// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package workerpool

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/autoscale"
)

// poolMemory is the controller's state of a pool between reconciliations.
type poolMemory struct {
	uid     types.UID
	history autoscale.History
	// replicas is the number that was last decided and applied.
	replicas int32
	// generations are those of the Deployments when they were applied, by UID.
	generations map[types.UID]int64
	// ignored is the spec.replicas that the last Event about ignored replicas named.
	ignored *int32
}

// untouched reports whether a Deployment's specification is the one that this process applied.
func (m *poolMemory) untouched(d *appsv1.Deployment) bool {
	generation, known := m.generations[d.UID]
	return known && d.Generation <= generation // a lower one is an old version, from the cache
}

// applied records the Deployment as the API server stored it.
func (m *poolMemory) applied(d *appsv1ac.DeploymentApplyConfiguration) {
	if m.generations == nil {
		m.generations = map[types.UID]int64{}
	}
	m.generations[ptr.Deref(d.UID, "")] = ptr.Deref(d.Generation, 0)
}

// memory returns a pool's state. That of a pool which is new to this process is restored from its Deployments.
func (r *Reconciler) memory(scope *poolScope) *poolMemory {
	name := client.ObjectKeyFromObject(scope.pool)
	m := r.memories[name]
	if m == nil || m.uid != scope.pool.UID {
		m = &poolMemory{uid: scope.pool.UID, replicas: deployedReplicas(scope.pool, scope.deployments)}
		if r.memories == nil {
			r.memories = map[types.NamespacedName]*poolMemory{}
		}
		r.memories[name] = m
	}
	return m
}

// decide decides the pool's number of workers. The number stays as it is until the scheduler has the pool's load, which
// it has not when this process has just become the leader.
func (r *Reconciler) decide(scope *poolScope) autoscale.Decision {
	m := r.memory(scope)
	demand, known := r.Scheduler.PoolDemand(client.ObjectKeyFromObject(scope.pool))
	in := AutoscaleInput(scope.pool, &demand, m.replicas, r.Clock.Now())
	in.Manual = manualReplicas(scope.pool, m.replicas, len(scope.deployments) > 0)
	if !known && in.Manual == nil && len(scope.deployments) > 0 {
		return autoscale.Decision{
			From: m.replicas, Replicas: m.replicas, Recommended: m.replicas, Needed: m.replicas,
			LimitedBy: scope.pool.Status.LimitedBy, Why: "the load is not known yet",
		}
	}
	return autoscale.Decide(in, &m.history)
}

// warnIgnoredReplicas records an Event, once for each number, when spec.replicas is set of a pool that is autoscaled.
func (r *Reconciler) warnIgnoredReplicas(scope *poolScope) {
	m, chosen := r.memory(scope), scope.pool.Spec.Replicas
	if manualReplicas(scope.pool, m.replicas, len(scope.deployments) > 0) != nil {
		chosen = nil
	}
	if chosen != nil && !ptr.Equal(chosen, m.ignored) {
		r.Recorder.Eventf(scope.pool, nil, "Normal", "ReplicasIgnored", "Scale",
			"spec.replicas is %d, but autoscaling is on and decides; to scale by hand annotate the pool with %s=%s",
			*chosen, v1alpha1.AnnotationAutoscaling, v1alpha1.AutoscalingPaused)
	}
	m.ignored = chosen
}

// decided records a decision that was applied, and announces a change.
func (r *Reconciler) decided(ctx context.Context, scope *poolScope) {
	d, m, now := scope.decision, r.memory(scope), r.Clock.Now()
	m.history.Note(d, now)
	m.history.Scaled(d.From, d.Replicas, now)
	m.replicas = d.Replicas
	if d.From == d.Replicas {
		return
	}
	ctrl.LoggerFrom(ctx).Info("pool scaled", "from", d.From, "to", d.Replicas, "limitedBy", d.LimitedBy, "why", d.Why)
	r.Recorder.Eventf(scope.pool, nil, "Normal", "Scaled", "Scale", "%s", d)
}

func minReplicas(pool *v1alpha1.WorkerPool) int32 {
	if m := pool.Spec.MinReplicas; m != nil {
		return *m
	}
	return 1
}

// manualReplicas is the number of workers while autoscaling is off, or nil while it is on. A pool that is paused without
// spec.replicas keeps its present number. Equal bounds leave nothing to decide, so spec.replicas may set the number.
func manualReplicas(pool *v1alpha1.WorkerPool, replicas int32, exists bool) *int32 {
	least := minReplicas(pool)
	paused := pool.Annotations[v1alpha1.AnnotationAutoscaling] == v1alpha1.AutoscalingPaused
	switch {
	case paused && pool.Spec.Replicas == nil && exists:
		return &replicas
	case paused && pool.Spec.Replicas == nil:
		return &least
	case paused || least == pool.Spec.MaxReplicas:
		return pool.Spec.Replicas
	default:
		return nil
	}
}
