package workerpool

import (
	"context"
	"fmt"
	"slices"
	"strconv"
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

// writeStatus stores the pool's status if it changed, as often as the throttle allows.
func (r *Reconciler) writeStatus(ctx context.Context, scope *poolScope) (ctrl.Result, error) {
	name := client.ObjectKeyFromObject(scope.pool)
	demand, _ := r.Scheduler.PoolDemand(name)
	before := scope.pool.DeepCopy()
	computePoolStatus(scope, &demand, BudgetTokens(r.Scheduler, scope.pool))
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
func computePoolStatus(scope *poolScope, demand *scheduler.PoolDemand, tokens string) {
	pool, s := scope.pool, &scope.pool.Status
	s.ObservedGeneration = pool.Generation
	s.Selector = labels.SelectorFromSet(poolLabels(pool)).String()
	s.DesiredReplicas, s.LimitedBy = totalReplicas(scope.groups), scope.decision.LimitedBy
	s.Queued, s.InFlight = int32(demand.Queued), int32(demand.InFlight)
	s.Replicas, s.ReadyReplicas, s.CanaryReplicas = 0, 0, 0
	for track, d := range scope.deployments {
		s.Replicas += d.Status.Replicas
		s.ReadyReplicas += d.Status.ReadyReplicas
		if track == v1alpha1.TrackCanary {
			s.CanaryReplicas = d.Status.Replicas
		}
	}
	s.Stages, s.Tokens = stageList(pool), tokens
	s.Ready = fmt.Sprintf("%d/%d", s.ReadyReplicas, s.DesiredReplicas)
	setPoolCondition(pool, availableCondition(scope))
	setPoolCondition(pool, progressingCondition(scope))
	setPoolCondition(pool, limitedCondition(scope))
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
		c.Reason, c.Message = v1alpha1.ReasonInvalidTemplate, scope.applyErr.Error()+"; correct "+templates(scope.pool)
	case isForbidden(scope.applyErr):
		c.Reason = v1alpha1.ReasonDeploymentRefused
		c.Message = scope.applyErr.Error() + "; allow it, or correct " + templates(scope.pool)
	case len(missing) > 0:
		c.Reason = v1alpha1.ReasonBudgetNotFound
		c.Message = "spec.budgets names TokenBudgets that do not exist: " + strings.Join(missing, ", ") + "; create them"
	case s.DesiredReplicas == 0:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, v1alpha1.ReasonScaledToZero, "the pool has no load and is scaled to zero"
	case s.ReadyReplicas < s.DesiredReplicas:
		c.Reason = v1alpha1.ReasonWorkersUnready
		c.Message = fmt.Sprintf("%d of %d workers are ready", s.ReadyReplicas, s.DesiredReplicas)
	default:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonWorkersReady
		c.Message = fmt.Sprintf("%d of %d workers are ready", s.ReadyReplicas, s.DesiredReplicas)
	}
	return c
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

// BudgetTokens is what the pool's budgets were charged in the last minute, and what they may be: "1.9M/2M". It is empty
// for a pool without budgets.
func BudgetTokens(s *scheduler.Scheduler, pool *v1alpha1.WorkerPool) string {
	var used, limit int64
	for _, ref := range pool.Spec.Budgets {
		if stats, ok := s.BudgetStats(client.ObjectKey{Namespace: pool.Namespace, Name: ref.Name}); ok {
			used += stats.TokensLastMinute
			limit += stats.TokensPerMinute
		}
	}
	if limit == 0 {
		return ""
	}
	return compact(used) + "/" + compact(limit)
}

// compact prints a number of two or three digits and its unit: "412", "9.5k", "120k", "1.9M".
func compact(n int64) string {
	for _, unit := range []struct {
		size int64
		name string
	}{{1_000_000_000, "G"}, {1_000_000, "M"}, {1000, "k"}} {
		if n >= unit.size {
			tenths := n * 10 / unit.size
			if tenths >= 100 || tenths%10 == 0 {
				return strconv.FormatInt(tenths/10, 10) + unit.name
			}
			return fmt.Sprintf("%d.%d%s", tenths/10, tenths%10, unit.name)
		}
	}
	return strconv.FormatInt(n, 10)
}
