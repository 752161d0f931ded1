package controllers

import (
	"context"
	"fmt"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

// fieldOwner owns the fields that this operator applies.
const fieldOwner = client.FieldOwner("scan-operator")

// WorkerPoolReconciler keeps one Deployment of workers for each WorkerPool.
type WorkerPoolReconciler struct {
	Client    client.Client
	Scheduler *scheduler.Scheduler
	Clock     clock.Clock
	Recorder  events.EventRecorder
	Workers   WorkerDefaults
	// Loads tells which pools' load has changed.
	Loads <-chan event.TypedGenericEvent[*v1alpha1.WorkerPool]

	pace *pace
}

// +kubebuilder:rbac:groups=scan.growbin.app,resources=workerpools,verbs=get;list;watch
// +kubebuilder:rbac:groups=scan.growbin.app,resources=workerpools/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=scan.growbin.app,resources=workerpools/finalizers,verbs=update
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

var _ reconcile.Reconciler = (*WorkerPoolReconciler)(nil)

// poolScope is what one reconciliation works on.
type poolScope struct {
	pool       *v1alpha1.WorkerPool
	budgets    map[string]*v1alpha1.TokenBudget
	deployment *appsv1.Deployment // nil before the first apply
	decision   replicaDecision
	applyErr   error
}

// Reconcile applies the pool's Deployment and writes the pool's status, each only where something changed.
func (r *WorkerPoolReconciler) Reconcile(ctx context.Context, req ctrl.Request) (result ctrl.Result, err error) {
	pool := &v1alpha1.WorkerPool{}
	if err := r.Client.Get(ctx, req.NamespacedName, pool); err != nil {
		r.pace.forget(req.NamespacedName)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !pool.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil // the Deployment goes with its owner
	}
	scope := &poolScope{pool: pool}
	if err := r.gather(ctx, scope); err != nil {
		return ctrl.Result{}, err
	}
	scope.decision = decideReplicas(pool)
	if scope.applyErr = r.applyDeployment(ctx, scope); scope.applyErr != nil && !isRejected(scope.applyErr) {
		return ctrl.Result{}, scope.applyErr
	}
	return r.writeStatus(ctx, scope)
}

// gather reads what the pool refers to and what it owns.
func (r *WorkerPoolReconciler) gather(ctx context.Context, scope *poolScope) error {
	scope.budgets = make(map[string]*v1alpha1.TokenBudget, len(scope.pool.Spec.Budgets))
	for _, ref := range scope.pool.Spec.Budgets {
		b := &v1alpha1.TokenBudget{}
		switch err := r.Client.Get(ctx, client.ObjectKey{Namespace: scope.pool.Namespace, Name: ref.Name}, b); {
		case err == nil:
			scope.budgets[ref.Name] = b
		case !apierrors.IsNotFound(err):
			return fmt.Errorf("get TokenBudget %q: %w", ref.Name, err)
		}
	}
	d := &appsv1.Deployment{}
	switch err := r.Client.Get(ctx, client.ObjectKey{Namespace: scope.pool.Namespace, Name: deploymentName(scope.pool)}, d); {
	case err == nil:
		scope.deployment = d
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("get Deployment: %w", err)
	}
	return nil
}

// applyDeployment applies the Deployment where the one that is there does not show what is wanted.
func (r *WorkerPoolReconciler) applyDeployment(ctx context.Context, scope *poolScope) error {
	want, err := workerDeployment(scope.pool, scope.budgets, r.Workers, scope.decision.replicas)
	if err != nil {
		return err
	}
	if d := scope.deployment; d != nil && d.Annotations[annotationApplied] == want.Annotations[annotationApplied] &&
		d.Spec.Replicas != nil && *d.Spec.Replicas == scope.decision.replicas {
		return nil
	}
	if err := r.Client.Apply(ctx, want, fieldOwner, client.ForceOwnership); err != nil {
		return fmt.Errorf("apply Deployment %q: %w", *want.Name, err)
	}
	before := "none"
	if d := scope.deployment; d != nil && d.Spec.Replicas != nil {
		before = strconv.Itoa(int(*d.Spec.Replicas))
	}
	if before != strconv.Itoa(int(scope.decision.replicas)) {
		ctrl.LoggerFrom(ctx).Info("pool scaled", "from", before, "to", scope.decision.replicas, "limitedBy", scope.decision.limitedBy)
		r.Recorder.Eventf(scope.pool, nil, "Normal", "Scaled", "Scale", "%s → %d: %s", before, scope.decision.replicas, scope.decision.why)
	}
	return nil
}

// isRejected says whether the API server refused what people wrote, which another try does not change.
func isRejected(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)
}

// replicaDecision is the number of workers wanted, and which term decided it.
type replicaDecision struct {
	replicas  int32
	limitedBy v1alpha1.PoolLimit
	why       string
}

// decideReplicas is the number of workers a pool is given: spec.replicas where autoscaling is off, else
// minReplicas.
func decideReplicas(pool *v1alpha1.WorkerPool) replicaDecision {
	least := int32(1)
	if pool.Spec.MinReplicas != nil {
		least = *pool.Spec.MinReplicas
	}
	manual := pool.Annotations[v1alpha1.AnnotationAutoscaling] == v1alpha1.AutoscalingPaused || least == pool.Spec.MaxReplicas
	if manual && pool.Spec.Replicas != nil {
		return replicaDecision{*pool.Spec.Replicas, v1alpha1.LimitedByManual, "spec.replicas, while autoscaling is off"}
	}
	return replicaDecision{least, v1alpha1.LimitedByMinReplicas, "spec.minReplicas"}
}

// SetupWithManager registers the controller.
func (r *WorkerPoolReconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.pace = newPace(r.Clock)
	return ctrl.NewControllerManagedBy(mgr).
		Named("workerpool").
		For(&v1alpha1.WorkerPool{}, builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		Owns(&appsv1.Deployment{}).
		Watches(&v1alpha1.TokenBudget{}, handler.EnqueueRequestsFromMapFunc(r.poolsOfBudget),
			builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(source.TypedChannel(r.Loads, &handler.TypedEnqueueRequestForObject[*v1alpha1.WorkerPool]{})).
		Complete(r)
}

// poolsOfBudget finds the pools that a changed budget matters to: their workers mount its key.
func (r *WorkerPoolReconciler) poolsOfBudget(ctx context.Context, obj client.Object) []ctrl.Request {
	var pools v1alpha1.WorkerPoolList
	if err := r.Client.List(ctx, &pools, client.InNamespace(obj.GetNamespace())); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "list the pools of a budget", "budget", obj.GetName())
		return nil
	}
	var requests []ctrl.Request
	for i := range pools.Items {
		for _, ref := range pools.Items[i].Spec.Budgets {
			if ref.Name == obj.GetName() {
				requests = append(requests, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(&pools.Items[i])})
			}
		}
	}
	return requests
}
