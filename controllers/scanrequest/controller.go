// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scanrequest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

// overdueGrace is how long an assignment may outlast its deadline. The worker cancels the run at the deadline and has
// this long to report the outcome.
const overdueGrace = 15 * time.Second

// defaultTTL applies to objects that were stored before the field had a default.
const defaultTTL = time.Hour

// Reconciler keeps a scan's timers: its deadline, the deadline of its assignment, and the time to live of a finished
// scan. Everything else happens on watch events, in the scheduler and in the workers.
type Reconciler struct {
	Client client.Client
	Status scheduler.StatusWriter
	Clock  clock.Clock
}

// +kubebuilder:rbac:groups=scan.growbin.app,resources=scanrequests,verbs=get;list;watch;delete
// +kubebuilder:rbac:groups=scan.growbin.app,resources=scanrequests/status,verbs=get;update;patch

var _ reconcile.Reconciler = (*Reconciler)(nil)

// Reconcile acts on the timer that is due and requeues for the next one.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	scan := &v1alpha1.ScanRequest{}
	if err := r.Client.Get(ctx, req.NamespacedName, scan); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !scan.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	now := r.Clock.Now()
	if pipeline.IsFinished(&scan.Status) {
		return r.collect(ctx, scan, now)
	}
	deadline := pipeline.Deadline(scan.Spec, scan.CreationTimestamp.Time)
	if !now.Before(deadline) {
		return ctrl.Result{}, r.write(ctx, scan, pipeline.Expired{}, "deadline exceeded")
	}
	next := deadline
	if a := scan.Status.Assignment; a != nil {
		overdue := a.Deadline.Add(overdueGrace)
		if !now.Before(overdue) {
			return ctrl.Result{}, r.write(ctx, scan, overdueEvent(a, now), "assignment overdue")
		}
		if overdue.Before(next) {
			next = overdue
		}
	}
	return ctrl.Result{RequeueAfter: next.Sub(now)}, nil
}

// overdueEvent ends an assignment whose worker is alive but has not reported in time. It counts as an attempt.
func overdueEvent(a *v1alpha1.Assignment, now time.Time) pipeline.Event {
	return pipeline.Completed{AssignmentID: a.ID, Outcomes: []pipeline.Outcome{{
		Stage: a.Stage, StartedAt: a.AssignedAt.Time, FinishedAt: now,
		Failure: &pipeline.Failure{
			Class:   v1alpha1.FailureTimeout,
			Message: fmt.Sprintf("worker %s reported no outcome by %s", a.Worker, a.Deadline.UTC().Format(time.RFC3339)),
		},
	}}}
}

// collect deletes a finished scan when its time to live is over.
func (r *Reconciler) collect(ctx context.Context, scan *v1alpha1.ScanRequest, now time.Time) (ctrl.Result, error) {
	ttl := defaultTTL
	if s := scan.Spec.TTLSecondsAfterFinished; s != nil {
		ttl = time.Duration(*s) * time.Second
	}
	if due := scan.Status.FinishedAt.Add(ttl); now.Before(due) {
		return ctrl.Result{RequeueAfter: due.Sub(now)}, nil
	}
	pre := client.Preconditions{UID: &scan.UID, ResourceVersion: &scan.ResourceVersion}
	if err := r.Client.Delete(ctx, scan, pre); client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("delete finished scan: %w", err)
	}
	return ctrl.Result{}, nil
}

// write stores the event of an expired timer. A scan that has moved on meanwhile is not an error: the watch delivers
// its new state.
func (r *Reconciler) write(ctx context.Context, scan *v1alpha1.ScanRequest, ev pipeline.Event, what string) error {
	_, err := r.Status.Write(ctx, scan, ev)
	if errors.Is(err, pipeline.ErrStale) || errors.Is(err, pipeline.ErrFenced) || errors.Is(err, pipeline.ErrGone) {
		return nil
	}
	if err == nil {
		ctrl.LoggerFrom(ctx).Info(what, "stage", pipeline.NextStage(&scan.Status))
	}
	return err
}

// SetupWithManager registers the controller.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, concurrency int) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("scanrequest").
		For(&v1alpha1.ScanRequest{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: concurrency}).
		Complete(r)
}
