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

// Reconciler keeps as many workers for each WorkerPool as its load and its budgets call for, in a Deployment
// and where the pool has a canary in a second one.
type Reconciler struct {
	Client client.Client
	// Live reads past the cache: pods, which are read only when a pool shrinks.
	APIReader client.Reader
	Scheduler *scheduler.Scheduler
	Clock     clock.Clock
	Recorder  events.EventRecorder
	Workers   WorkerDefaults
	// Loads tells which pools' load has changed.
	Loads <-chan event.TypedGenericEvent[*v1alpha1.WorkerPool]

	pace     *statusthrottle.Throttle
	memories map[types.NamespacedName]*poolMemory
}

// +kubebuilder:rbac:groups=scan.growbin.app,resources=workerpools,verbs=get;list;watch
// +kubebuilder:rbac:groups=scan.growbin.app,resources=workerpools/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=scan.growbin.app,resources=workerpools/finalizers,verbs=update
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

var _ reconcile.Reconciler = (*Reconciler)(nil)

// poolScope is what one reconciliation works on.
type poolScope struct {
	pool    *v1alpha1.WorkerPool
	budgets map[string]*v1alpha1.TokenBudget
	// deployments are those that exist, by track.
	deployments map[string]*appsv1.Deployment
	decision    autoscale.Decision
	groups      []workerGroup
	applyErr    error
}

// Reconcile decides how many workers the pool has, applies its Deployments and writes the pool's status, each only where something changed.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (result ctrl.Result, err error) {
	pool := &v1alpha1.WorkerPool{}
	if err := r.Client.Get(ctx, req.NamespacedName, pool); err != nil {
		r.pace.Forget(req.NamespacedName)
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
	case scope.applyErr == nil, rejected && len(scope.deployments) > 0: // those go on with the template that they have
		r.decided(ctx, scope)
	case rejected:
	case isRefused(scope.applyErr): // by the cluster, which may change its mind
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

// gather reads what the pool refers to and what it owns.
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

// applyDeployments applies the Deployments of the pool's groups where those that are there do not show what is wanted,
// and removes that of a canary that is over: its workers finish what they have. A template that the API server rejects
// does not keep the other group from what it is to have.
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
		if err := r.preferIdle(ctx, scope.pool, g); err != nil { // the pool shrinks nevertheless, by the usual order
			ctrl.LoggerFrom(ctx).Error(err, "cannot have the idle workers removed first")
		}
	}
	err = r.Client.Apply(ctx, want, fieldOwner, client.ForceOwnership) // want becomes what is stored
	if err == nil {
		m.applied(want)
		return nil
	}
	err = fmt.Errorf("apply Deployment %q: %w", g.name, err)
	if !isRejected(err) || !scaled {
		return err
	}
	// The template is of no use, but the workers that are there are: let the pool follow its load with those.
	before := d.DeepCopy()
	d.Spec.Replicas = &g.replicas
	if scaleErr := r.Client.Patch(ctx, d, client.MergeFrom(before), fieldOwner); scaleErr != nil {
		return fmt.Errorf("scale Deployment %q: %w", g.name, scaleErr)
	}
	return err
}

// isRejected says whether the API server refused what people wrote, which another try does not change.
func isRejected(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)
}

// isRefused says whether the cluster does not allow the Deployment: a policy, an admission webhook or a missing right.
func isRefused(err error) bool { return apierrors.IsForbidden(err) }

// SetupWithManager registers the controller.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.pace = statusthrottle.New(r.Clock)
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
