package rewards

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

const (
	// webhookConcurrency is the number of rewards posted at the same time.
	webhookConcurrency = 16
	// webhookRetryMax is the longest time between two tries to post a reward.
	webhookRetryMax = 5 * time.Minute
)

// Poster posts a finished scan's reward to another service.
type Poster interface {
	Post(ctx context.Context, scan *v1alpha1.ScanRequest) error
}

// Reconciler posts the rewards of finished scans, at least once each: until the receiver has taken
// it, and again after a restart, which forgets what was posted. It writes nothing: the receiver tells repetitions
// by their Idempotency-Key, and a scan is not failed by a receiver that is down.
type Reconciler struct {
	Client client.Client
	Poster Poster

	mu     sync.Mutex
	posted map[types.NamespacedName]types.UID
}

var _ reconcile.Reconciler = (*Reconciler)(nil)

// Reconcile posts the scan's reward if there is one and it was not posted yet.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	scan := &v1alpha1.ScanRequest{}
	if err := r.Client.Get(ctx, req.NamespacedName, scan); err != nil {
		if client.IgnoreNotFound(err) == nil {
			r.forget(req.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !rewarded(scan) || r.wasPosted(scan) {
		return ctrl.Result{}, nil
	}
	if err := r.Poster.Post(ctx, scan); err != nil {
		return ctrl.Result{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.posted == nil {
		r.posted = map[types.NamespacedName]types.UID{}
	}
	r.posted[req.NamespacedName] = scan.UID
	return ctrl.Result{}, nil
}

// rewarded says whether a scan has finished with a reward.
func rewarded(scan *v1alpha1.ScanRequest) bool {
	return pipeline.IsFinished(&scan.Status) && scan.Status.Result != nil && scan.Status.Result.Reward != nil
}

func (r *Reconciler) wasPosted(scan *v1alpha1.ScanRequest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.posted[client.ObjectKeyFromObject(scan)] == scan.UID
}

func (r *Reconciler) forget(name types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.posted, name)
}

// SetupWithManager registers the controller.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	finished := predicate.NewPredicateFuncs(func(obj client.Object) bool {
		scan, ok := obj.(*v1alpha1.ScanRequest)
		return ok && rewarded(scan)
	})
	return ctrl.NewControllerManagedBy(mgr).
		Named("rewardwebhook").
		For(&v1alpha1.ScanRequest{}, builder.WithPredicates(finished)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: webhookConcurrency,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[ctrl.Request](time.Second, webhookRetryMax),
		}).
		Complete(r)
}
