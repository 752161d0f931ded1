// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package workerpool

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/controllers/statusthrottle"
	"github.com/eco2-team/scan-operator/internal/autoscale"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

// fieldOwner owns the fields that this operator applies.
const fieldOwner = client.FieldOwner("scan-operator")

// Reconciler runs as many workers for each WorkerPool as its load and its budgets require. They are in one Deployment, and
// the canary's in a second one.
type Reconciler struct {
	Client client.Client
	// APIReader reads pods past the cache; only a pool that shrinks needs them.
	APIReader client.Reader
	Scheduler *scheduler.Scheduler
	Clock     clock.Clock
	Recorder  events.EventRecorder
	Workers   WorkerDefaults
	// Loads delivers the pools whose load changed.
	Loads <-chan event.TypedGenericEvent[*v1alpha1.WorkerPool]

	throttle *statusthrottle.Throttle
	// memories needs no lock: SetupWithManager allows one reconciliation at a time.
	memories map[types.NamespacedName]*poolMemory
}

// +kubebuilder:rbac:groups=scan.growbin.app,resources=workerpools,verbs=get;list;watch
// +kubebuilder:rbac:groups=scan.growbin.app,resources=workerpools/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=scan.growbin.app,resources=workerpools/finalizers,verbs=update
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

var _ reconcile.Reconciler = (*Reconciler)(nil)

// poolScope is the state of one reconciliation.
type poolScope struct {
	pool    *v1alpha1.WorkerPool
	budgets map[string]*v1alpha1.TokenBudget
	// deployments are the existing ones, by track.
	deployments map[string]*appsv1.Deployment
	decision    autoscale.Decision
	groups      []workerGroup
	applyErr    error
}

// Reconcile decides the pool's number of workers, applies its Deployments and writes its status, each only if it changed.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (result ctrl.Result, err error) {
	pool := &v1alpha1.WorkerPool{}
	if err := r.Client.Get(ctx, req.NamespacedName, pool); err != nil {
		r.throttle.Forget(req.NamespacedName)
		delete(r.memories, req.NamespacedName)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !pool.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil // the Deployments go with their owner
	}
	scope := &poolScope{pool: pool}
	if err := r.gather(ctx, scope); err != nil {
		return ctrl.Result{}, err
	}
	r.warnIgnoredReplicas(scope)
	scope.decision = r.decide(scope)
	scope.applyErr = r.applyDeployments(ctx, scope)
	switch rejected := isRejected(scope.applyErr); {
	case scope.applyErr == nil, rejected && len(scope.deployments) > 0: // those keep their last valid template
		r.decided(ctx, scope)
	case rejected:
	case isForbidden(scope.applyErr): // retried: a policy or a role may change
		if result, err := r.writeStatus(ctx, scope); err != nil || result.RequeueAfter > 0 {
			return result, err
		}
		return ctrl.Result{}, scope.applyErr
	default:
		return ctrl.Result{}, scope.applyErr
	}
	result, err = r.writeStatus(ctx, scope)
	if again := scope.decision.Again; again > 0 && (result.RequeueAfter == 0 || again < result.RequeueAfter) {
		result.RequeueAfter = again
	}
	return result, err
}

// gather reads the objects that the pool refers to and owns.
func (r *Reconciler) gather(ctx context.Context, scope *poolScope) error {
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
	scope.deployments = map[string]*appsv1.Deployment{}
	for track, name := range map[string]string{v1alpha1.TrackStable: stableName(scope.pool), v1alpha1.TrackCanary: canaryName(scope.pool)} {
		d := &appsv1.Deployment{}
		switch err := r.Client.Get(ctx, client.ObjectKey{Namespace: scope.pool.Namespace, Name: name}, d); {
		case err == nil && metav1.IsControlledBy(d, scope.pool):
			scope.deployments[track] = d
		case client.IgnoreNotFound(err) != nil:
			return fmt.Errorf("get Deployment %q: %w", name, err)
		}
	}
	return nil
}

// applyDeployments applies the Deployments of the pool's groups that differ from what they should be, and deletes the
// Deployment of a canary that was removed; its workers finish their runs. A template that the API server rejects does
// not keep the other group from being applied.
func (r *Reconciler) applyDeployments(ctx context.Context, scope *poolScope) (rejected error) {
	scope.groups = workerGroups(scope.pool, scope.decision.Replicas)
	for _, g := range scope.groups {
		switch err := r.applyGroup(ctx, scope, g); {
		case isRejected(err):
			rejected = errors.Join(rejected, err)
		case err != nil:
			return err
		}
	}
	if d := scope.deployments[v1alpha1.TrackCanary]; d != nil && scope.pool.Spec.Canary == nil && d.DeletionTimestamp.IsZero() {
		if err := r.Client.Delete(ctx, d, client.Preconditions{UID: &d.UID}); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete Deployment %q: %w", d.Name, err)
		}
	}
	return rejected
}

func (r *Reconciler) applyGroup(ctx context.Context, scope *poolScope, g workerGroup) error {
	want, err := workerDeployment(scope.pool, g, scope.budgets, r.Workers)
	if err != nil {
		return err
	}
	d, m := scope.deployments[g.track], r.memory(scope)
	scaled := d != nil && d.Spec.Replicas != nil && *d.Spec.Replicas != g.replicas
	if d != nil && !scaled && d.Annotations[annotationApplied] == want.Annotations[annotationApplied] && m.untouched(d) {
		return nil
	}
	if scaled && g.replicas > 0 && g.replicas < *d.Spec.Replicas {
		if err := r.preferIdle(ctx, scope.pool, g); err != nil { // the pool shrinks nevertheless, in the ReplicaSet's own order
			ctrl.LoggerFrom(ctx).Error(err, "set the deletion costs of pods; workers with scans may be removed before idle ones")
		}
	}
	err = r.Client.Apply(ctx, want, fieldOwner, client.ForceOwnership) // fills want with the stored object
	if err == nil {
		m.applied(want)
		return nil
	}
	err = fmt.Errorf("apply Deployment %q: %w", g.name, err)
	if !isRejected(err) || !scaled {
		return err
	}
	// The template is invalid, but the running workers are not: scale those with the load.
	before := d.DeepCopy()
	d.Spec.Replicas = &g.replicas
	if scaleErr := r.Client.Patch(ctx, d, client.MergeFrom(before), fieldOwner); scaleErr != nil {
		return fmt.Errorf("scale Deployment %q: %w", g.name, scaleErr)
	}
	return err
}

// isRejected reports whether the API server found the Deployment invalid. A retry does not help; the pool must change.
func isRejected(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)
}

// isForbidden reports whether the cluster forbids the Deployment: a policy, an admission webhook or a missing role.
func isForbidden(err error) bool { return apierrors.IsForbidden(err) }

// SetupWithManager registers the controller.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.throttle = statusthrottle.New(r.Clock)
	return ctrl.NewControllerManagedBy(mgr).
		Named("workerpool").
		For(&v1alpha1.WorkerPool{}, builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		Owns(&appsv1.Deployment{}).
		Watches(&v1alpha1.TokenBudget{}, handler.EnqueueRequestsFromMapFunc(r.poolsOfBudget),
			builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(source.TypedChannel(r.Loads, &handler.TypedEnqueueRequestForObject[*v1alpha1.WorkerPool]{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: 1}). // see memories
		Complete(r)
}

// poolsOfBudget returns the pools that name the budget: their workers mount its key.
func (r *Reconciler) poolsOfBudget(ctx context.Context, obj client.Object) []ctrl.Request {
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
