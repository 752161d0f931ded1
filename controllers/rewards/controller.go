// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

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
	// postConcurrency is the number of rewards posted at the same time.
	postConcurrency = 16
	// maxRetryDelay bounds the delay between two attempts to post the same reward.
	maxRetryDelay = 5 * time.Minute
)

// Poster posts a finished scan's reward to another service.
type Poster interface {
	Post(ctx context.Context, scan *v1alpha1.ScanRequest) error
}

// Reconciler posts the reward of each finished scan at least once. It retries until the receiver accepts the reward, and
// posts again after a restart, because posted rewards are kept in memory only. The receiver recognizes repetitions by
// their Idempotency-Key. A receiver that is down does not fail a scan.
type Reconciler struct {
	Client client.Client
	Poster Poster

	mu     sync.Mutex
	posted map[types.NamespacedName]types.UID
}

var _ reconcile.Reconciler = (*Reconciler)(nil)

// Reconcile posts the scan's reward if it has one that was not posted yet.
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

// rewarded reports whether a scan has finished with a reward.
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
		Named("rewards").
		For(&v1alpha1.ScanRequest{}, builder.WithPredicates(finished)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: postConcurrency,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[ctrl.Request](time.Second, maxRetryDelay),
		}).
		Complete(r)
}
