package controllers

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
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

// writeStatus stores the pool's status where it changed, and not more often than the pace allows.
func (r *WorkerPoolReconciler) writeStatus(ctx context.Context, scope *poolScope) (ctrl.Result, error) {
	name := client.ObjectKeyFromObject(scope.pool)
	load, _ := r.Scheduler.PoolLoad(name)
	before := scope.pool.DeepCopy()
	computePoolStatus(scope, load)
	if apiequality.Semantic.DeepEqual(before.Status, scope.pool.Status) {
		return ctrl.Result{}, nil
	}
	if wait := r.pace.due(name); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	if err := r.Client.Status().Patch(ctx, scope.pool, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return ctrl.Result{}, fmt.Errorf("patch status: %w", err)
	}
	return ctrl.Result{}, nil
}

// computePoolStatus derives the pool's status from what was read.
func computePoolStatus(scope *poolScope, load scheduler.PoolLoad) {
	pool, s := scope.pool, &scope.pool.Status
	s.ObservedGeneration = pool.Generation
	s.Selector = labels.SelectorFromSet(poolLabels(pool)).String()
	s.DesiredReplicas, s.LimitedBy = scope.decision.replicas, scope.decision.limitedBy
	s.Queued, s.InFlight = int32(load.Queued), int32(load.InFlight)
	if d := scope.deployment; d != nil {
		s.Replicas, s.ReadyReplicas = d.Status.Replicas, d.Status.ReadyReplicas
	}
	setPoolCondition(pool, availableCondition(scope))
	setPoolCondition(pool, progressingCondition(scope))
	setPoolCondition(pool, metav1.Condition{
		Type: v1alpha1.ConditionScalingLimited, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNotLimited,
		Message: "the pool has the number of workers it is configured to have",
	})
}

func setPoolCondition(pool *v1alpha1.WorkerPool, c metav1.Condition) {
	c.ObservedGeneration = pool.Generation
	meta.SetStatusCondition(&pool.Status.Conditions, c)
}

func availableCondition(scope *poolScope) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionAvailable, Status: metav1.ConditionFalse}
	s := &scope.pool.Status
	switch missing := missingBudgets(scope); {
	case isRejected(scope.applyErr):
		c.Reason, c.Message = v1alpha1.ReasonInvalidTemplate, scope.applyErr.Error()+"; correct spec.template"
	case len(missing) > 0:
		c.Reason = v1alpha1.ReasonBudgetNotFound
		c.Message = "spec.budgets names TokenBudgets that do not exist: " + strings.Join(missing, ", ") + "; create them"
	case s.DesiredReplicas == 0:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, v1alpha1.ReasonScaledToZero, "no workers are wanted"
	case s.ReadyReplicas < s.DesiredReplicas:
		c.Reason = v1alpha1.ReasonWorkersUnready
		c.Message = fmt.Sprintf("%d of %d workers are ready", s.ReadyReplicas, s.DesiredReplicas)
	default:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonWorkersReady
		c.Message = fmt.Sprintf("%d of %d workers are ready", s.ReadyReplicas, s.DesiredReplicas)
	}
	return c
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
	if d := scope.deployment; d == nil || rollingOut(d, scope.decision.replicas) {
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonRollingOut
		c.Message = "workers are being started, replaced or stopped"
	}
	return c
}

// rollingOut says whether the Deployment has not yet become what its specification says.
func rollingOut(d *appsv1.Deployment, replicas int32) bool {
	s := d.Status
	return s.ObservedGeneration < d.Generation || s.UpdatedReplicas != replicas || s.Replicas != replicas || s.AvailableReplicas != replicas
}
