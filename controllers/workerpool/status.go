// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package workerpool

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

// writeStatus stores the pool's status if it changed, as often as the throttle allows.
func (r *Reconciler) writeStatus(ctx context.Context, scope *poolScope) (ctrl.Result, error) {
	name := client.ObjectKeyFromObject(scope.pool)
	demand, _ := r.Scheduler.PoolDemand(name)
	before := scope.pool.DeepCopy()
	scope.pool.Status.TokensLastMinute, scope.pool.Status.TokensPerMinute = BudgetTokens(r.Scheduler, scope.pool)
	computePoolStatus(scope, &demand)
	if apiequality.Semantic.DeepEqual(before.Status, scope.pool.Status) {
		return ctrl.Result{}, nil
	}
	if wait := r.throttle.Wait(name); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	if err := r.Client.Status().Patch(ctx, scope.pool, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return ctrl.Result{}, fmt.Errorf("patch status: %w", err)
	}
	return ctrl.Result{}, nil
}

// computePoolStatus derives the pool's status from the gathered state.
func computePoolStatus(scope *poolScope, demand *scheduler.PoolDemand) {
	pool, s := scope.pool, &scope.pool.Status
	s.ObservedGeneration = pool.Generation
	s.Selector = labels.SelectorFromSet(poolLabels(pool)).String()
	s.DesiredReplicas, s.LimitedBy = new(totalReplicas(scope.groups)), scope.decision.LimitedBy
	s.Queued, s.InFlight = new(int32(demand.Queued)), new(int32(demand.InFlight))
	s.Replicas, s.ReadyReplicas, s.CanaryReplicas = new(int32), new(int32), 0
	for track, d := range scope.deployments {
		*s.Replicas += d.Status.Replicas
		*s.ReadyReplicas += d.Status.ReadyReplicas
		if track == v1alpha1.TrackCanary {
			s.CanaryReplicas = d.Status.Replicas
		}
	}
	setPoolCondition(pool, readyCondition(scope))
	setPoolCondition(pool, progressingCondition(scope))
	setPoolCondition(pool, limitedCondition(scope))
}

func setPoolCondition(pool *v1alpha1.WorkerPool, c metav1.Condition) {
	c.ObservedGeneration = pool.Generation
	meta.SetStatusCondition(&pool.Status.Conditions, c)
}

// readyCondition is True when the pool's Deployments are applied, and as many workers are ready as are desired and run the
// current template.
func readyCondition(scope *poolScope) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse}
	s := &scope.pool.Status
	ready, desired, updated := ptr.Deref(s.ReadyReplicas, 0), ptr.Deref(s.DesiredReplicas, 0), updatedReplicas(scope)
	switch missing := missingBudgets(scope); {
	case isRejected(scope.applyErr):
		c.Reason, c.Message = v1alpha1.ReasonInvalidTemplate, scope.applyErr.Error()+"; correct "+templates(scope.pool)
	case isForbidden(scope.applyErr):
		c.Reason = v1alpha1.ReasonDeploymentForbidden
		c.Message = scope.applyErr.Error() + "; allow it, or correct " + templates(scope.pool)
	case len(missing) > 0:
		c.Reason = v1alpha1.ReasonBudgetNotFound
		c.Message = "spec.budgets names TokenBudgets that do not exist: " + strings.Join(missing, ", ") + "; create them"
	case desired == 0:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, v1alpha1.ReasonScaledToZero, "the pool has no load and is scaled to zero"
	case ready < desired:
		c.Reason = v1alpha1.ReasonWorkersUnready
		c.Message = fmt.Sprintf("%d of %d workers are ready", ready, desired)
	case updated < desired:
		c.Reason = v1alpha1.ReasonRollingOut
		c.Message = fmt.Sprintf("%d of %d workers run the current template", updated, desired)
	default:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonWorkersReady
		c.Message = fmt.Sprintf("%d of %d workers are ready", ready, desired)
	}
	return c
}

// updatedReplicas is the number of workers that run their Deployment's current template.
func updatedReplicas(scope *poolScope) int32 {
	var updated int32
	for _, d := range scope.deployments {
		if d.Status.ObservedGeneration >= d.Generation {
			updated += d.Status.UpdatedReplicas
		}
	}
	return updated
}

// templates names the fields that define the workers' pods.
func templates(pool *v1alpha1.WorkerPool) string {
	if pool.Spec.Canary != nil {
		return "spec.template or spec.canary.template"
	}
	return "spec.template"
}

func missingBudgets(scope *poolScope) []string {
	var missing []string
	for _, ref := range scope.pool.Spec.Budgets {
		if scope.budgets[ref.Name] == nil {
			missing = append(missing, ref.Name)
		}
	}
	slices.Sort(missing)
	return missing
}

func progressingCondition(scope *poolScope) metav1.Condition {
	c := metav1.Condition{
		Type: v1alpha1.ConditionProgressing, Status: metav1.ConditionFalse,
		Reason: v1alpha1.ReasonRolloutComplete, Message: "all workers run the current template",
	}
	rolling := len(scope.deployments) > len(scope.groups) // a canary that was removed
	for _, g := range scope.groups {
		d := scope.deployments[g.track]
		rolling = rolling || d == nil || rollingOut(d, g.replicas)
	}
	if rolling {
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonRollingOut
		c.Message = "workers are starting, being replaced or stopping"
	}
	return c
}

func limitedCondition(scope *poolScope) metav1.Condition {
	c := metav1.Condition{
		Type: v1alpha1.ConditionScalingLimited, Status: metav1.ConditionFalse,
		Reason: v1alpha1.ReasonNotLimited, Message: "the pool has as many workers as its load requires",
	}
	if scope.decision.Limited {
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, v1alpha1.ReasonLimited, scope.decision.Limit
	}
	return c
}

// rollingOut reports whether the Deployment's status lags behind its specification.
func rollingOut(d *appsv1.Deployment, replicas int32) bool {
	s := d.Status
	return s.ObservedGeneration < d.Generation || s.UpdatedReplicas != replicas || s.Replicas != replicas || s.AvailableReplicas != replicas
}

// BudgetTokens returns how many tokens the pool's budgets were charged in the last minute, and the sum of their limits per
// minute. Both are zero for a pool without budgets.
func BudgetTokens(s *scheduler.Scheduler, pool *v1alpha1.WorkerPool) (used, limit int64) {
	for _, ref := range pool.Spec.Budgets {
		if stats, ok := s.BudgetStats(client.ObjectKey{Namespace: pool.Namespace, Name: ref.Name}); ok {
			used += stats.TokensLastMinute
			limit += stats.TokensPerMinute
		}
	}
	return used, limit
}
