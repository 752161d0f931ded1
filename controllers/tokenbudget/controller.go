// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tokenbudget

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
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
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

// Reconciler passes budgets and the state of their keys to the scheduler, and writes the ledger's figures to the
// budget's status.
type Reconciler struct {
	Client          client.Client
	Scheduler       *scheduler.Scheduler
	Keys            *SecretChecker
	Clock           clock.Clock
	Recorder        events.EventRecorder
	DefaultEndpoint string
	// Loads delivers the budgets whose figures changed.
	Loads <-chan event.TypedGenericEvent[*v1alpha1.TokenBudget]

	throttle *statusthrottle.Throttle
}

// +kubebuilder:rbac:groups=scan.growbin.app,resources=tokenbudgets,verbs=get;list;watch
// +kubebuilder:rbac:groups=scan.growbin.app,resources=tokenbudgets/status,verbs=get;update;patch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch

var _ reconcile.Reconciler = (*Reconciler)(nil)

// Reconcile passes the budget and the state of its key to the scheduler. It writes the status if it changed, at most
// every statusthrottle.Interval. It waits until a new leader has restored its scheduler from the status: an empty ledger
// must not overwrite what the previous leader stored.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	if err := r.Scheduler.AwaitRestore(ctx); err != nil {
		return ctrl.Result{}, err
	}
	b := &v1alpha1.TokenBudget{}
	if err := r.Client.Get(ctx, req.NamespacedName, b); err != nil {
		if client.IgnoreNotFound(err) == nil {
			r.Scheduler.BudgetGone(req.NamespacedName)
			r.throttle.Forget(req.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	key, err := r.Keys.Check(ctx, b)
	if err != nil {
		return ctrl.Result{}, err
	}
	r.Scheduler.BudgetChanged(b, key)
	return r.writeStatus(ctx, b, key)
}

func (r *Reconciler) writeStatus(ctx context.Context, b *v1alpha1.TokenBudget, key scheduler.KeyState) (ctrl.Result, error) {
	name := client.ObjectKeyFromObject(b)
	stats, ok := r.Scheduler.BudgetStats(name)
	if !ok {
		return ctrl.Result{}, nil // deleted meanwhile
	}
	before := b.DeepCopy()
	computeBudgetStatus(b, budgetInput{
		key: key, stats: stats, estimates: r.Scheduler.BudgetEstimates(name), providerError: r.Scheduler.LastProviderError(name),
		defaultEndpoint: r.DefaultEndpoint, now: r.Clock.Now(),
	})
	if !worthWriting(&before.Status, &b.Status) {
		return ctrl.Result{}, nil
	}
	if wait := r.throttle.Wait(name); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	if err := r.Client.Status().Patch(ctx, b, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return ctrl.Result{}, fmt.Errorf("patch status: %w", err)
	}
	r.announce(ctx, before, b)
	return ctrl.Result{}, nil
}

// announce records an Event and a log line for each condition that changed.
func (r *Reconciler) announce(ctx context.Context, before, after *v1alpha1.TokenBudget) {
	for _, c := range after.Status.Conditions {
		old := meta.FindStatusCondition(before.Status.Conditions, c.Type)
		if old != nil && old.Status == c.Status && old.Reason == c.Reason {
			continue
		}
		kind := corev1.EventTypeNormal
		if (c.Type == v1alpha1.ConditionReady) != (c.Status == "True") {
			kind = corev1.EventTypeWarning
		}
		if old == nil && kind == corev1.EventTypeNormal {
			continue
		}
		ctrl.LoggerFrom(ctx).Info("budget changed", "condition", c.Type, "status", c.Status, "reason", c.Reason)
		r.Recorder.Eventf(after, nil, kind, c.Reason, "Follow", "%s", c.Message)
	}
}

// SetupWithManager registers the controller.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.throttle = statusthrottle.New(r.Clock)
	return ctrl.NewControllerManagedBy(mgr).
		Named("tokenbudget").
		For(&v1alpha1.TokenBudget{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.budgetsOfSecret)).
		WatchesRawSource(source.TypedChannel(r.Loads, &handler.TypedEnqueueRequestForObject[*v1alpha1.TokenBudget]{})).
		Complete(r)
}

// budgetsOfSecret returns the budgets whose secretRef names the Secret.
func (r *Reconciler) budgetsOfSecret(ctx context.Context, obj client.Object) []ctrl.Request {
	var budgets v1alpha1.TokenBudgetList
	if err := r.Client.List(ctx, &budgets, client.InNamespace(obj.GetNamespace())); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "list the budgets of a Secret", "secret", obj.GetName())
		return nil
	}
	var requests []ctrl.Request
	for i := range budgets.Items {
		if budgets.Items[i].Spec.SecretRef.Name == obj.GetName() {
			requests = append(requests, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(&budgets.Items[i])})
		}
	}
	return requests
}
