// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/controllers/tokenbudget"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

// Runner feeds the scheduler from the caches while this process is the leader.
type Runner struct {
	Cache cache.Cache
	// APIReader reads past the cache.
	APIReader client.Reader
	// Client removes the Leases of lost workers.
	Client    client.Client
	Scheduler *scheduler.Scheduler
	Status    scheduler.StatusWriter
	Keys      *tokenbudget.SecretChecker
	Namespace string
	Log       logr.Logger
}

// leaseTimeout bounds each request for a Lease.
const leaseTimeout = 5 * time.Second

// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,verbs=get;list;watch;delete

var (
	_ manager.Runnable               = (*Runner)(nil)
	_ manager.LeaderElectionRunnable = (*Runner)(nil)
)

// NeedLeaderElection makes the scheduler run on the leader alone.
func (r *Runner) NeedLeaderElection() bool { return true }

// Start loads the scheduler from the objects, keeps it up to date, and schedules until ctx ends.
func (r *Runner) Start(ctx context.Context) error {
	state, err := r.load(ctx)
	if err != nil {
		return fmt.Errorf("load the scheduler: %w", err)
	}
	r.Scheduler.Restore(state)
	for _, watch := range []struct {
		obj     client.Object
		handler toolscache.ResourceEventHandler
	}{
		{&v1alpha1.WorkerPool{}, handlerFor(r.Scheduler.PoolChanged, r.Scheduler.PoolGone)},
		{&coordinationv1.Lease{}, handlerFor(r.leaseChanged, r.Scheduler.WorkerGone)},
		{&v1alpha1.ScanRequest{}, handlerFor(r.Scheduler.ScanChanged, r.Scheduler.ScanGone)},
	} {
		informer, err := r.Cache.GetInformer(ctx, watch.obj)
		if err != nil {
			return fmt.Errorf("watch %T: %w", watch.obj, err)
		}
		registration, err := informer.AddEventHandler(watch.handler)
		if err != nil {
			return fmt.Errorf("watch %T: %w", watch.obj, err)
		}
		defer func() { _ = informer.RemoveEventHandler(registration) }()
	}
	r.Scheduler.Run(ctx, r.Status, r)
	return nil
}

// load reads the scheduler's initial state from the API server itself. A cache may lag, above all after an outage of
// the API server, and a leader that starts from a stale state assigns scans that are already assigned.
func (r *Runner) load(ctx context.Context) (scheduler.State, error) {
	var (
		state   scheduler.State
		pools   v1alpha1.WorkerPoolList
		budgets v1alpha1.TokenBudgetList
		leases  coordinationv1.LeaseList
		scans   v1alpha1.ScanRequestList
		in      = client.InNamespace(r.Namespace)
	)
	for _, list := range []client.ObjectList{&pools, &budgets, &leases, &scans} {
		if err := r.APIReader.List(ctx, list, in); err != nil {
			return state, fmt.Errorf("list %T: %w", list, err)
		}
	}
	for i := range pools.Items {
		state.Pools = append(state.Pools, &pools.Items[i])
	}
	for i := range budgets.Items {
		key, err := r.Keys.Check(ctx, &budgets.Items[i])
		if err != nil {
			return state, err
		}
		state.Budgets = append(state.Budgets, &budgets.Items[i])
		state.Keys = append(state.Keys, key)
	}
	for i := range leases.Items {
		if w, ok := workerOf(&leases.Items[i]); ok {
			state.Workers = append(state.Workers, w)
		}
	}
	for i := range scans.Items {
		state.Scans = append(state.Scans, &scans.Items[i])
	}
	return state, nil
}

// Read implements scheduler.Registry.
func (r *Runner) Read(ctx context.Context, name types.NamespacedName) (scheduler.Worker, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	lease := &coordinationv1.Lease{}
	if err := r.APIReader.Get(ctx, name, lease); err != nil {
		if apierrors.IsNotFound(err) {
			return scheduler.Worker{}, false, nil
		}
		return scheduler.Worker{}, false, fmt.Errorf("read Lease %s: %w", name, err)
	}
	w, ok := workerOf(lease)
	return w, ok, nil
}

// Remove implements scheduler.Registry. A failure does no harm: the Lease stays expired.
func (r *Runner) Remove(ctx context.Context, w scheduler.Worker) {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	lease := &coordinationv1.Lease{}
	err := r.APIReader.Get(ctx, w.Name, lease)
	if err == nil {
		if now, ok := workerOf(lease); ok && !now.RenewedAt.Equal(w.RenewedAt) {
			return
		}
		err = r.Client.Delete(ctx, lease, client.Preconditions{UID: &lease.UID, ResourceVersion: &lease.ResourceVersion})
	}
	if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		r.Log.Error(err, "remove the Lease of a lost worker", "worker", w.Name.Name)
	}
}

func (r *Runner) leaseChanged(lease *coordinationv1.Lease) {
	name := client.ObjectKeyFromObject(lease)
	if w, ok := workerOf(lease); ok {
		r.Scheduler.WorkerChanged(w)
	} else if lease.Labels[v1alpha1.LabelComponent] == v1alpha1.ComponentWorker {
		r.Scheduler.WorkerGone(name)
	}
}

// workerOf reads a worker from its Lease; ok is false for other Leases and for released ones.
func workerOf(lease *coordinationv1.Lease) (w scheduler.Worker, ok bool) {
	spec := lease.Spec
	if lease.Labels[v1alpha1.LabelComponent] != v1alpha1.ComponentWorker || !lease.DeletionTimestamp.IsZero() ||
		spec.HolderIdentity == nil || *spec.HolderIdentity == "" || spec.RenewTime == nil || spec.LeaseDurationSeconds == nil {
		return scheduler.Worker{}, false
	}
	capacity, err := strconv.Atoi(lease.Annotations[v1alpha1.AnnotationCapacity])
	if err != nil || capacity < 1 {
		return scheduler.Worker{}, false
	}
	return scheduler.Worker{
		Name:          types.NamespacedName{Namespace: lease.Namespace, Name: lease.Name},
		Pool:          lease.Labels[v1alpha1.LabelPool],
		Pod:           lease.Annotations[v1alpha1.AnnotationPod],
		PodUID:        podUIDOf(lease),
		Canary:        lease.Labels[v1alpha1.LabelTrack] == v1alpha1.TrackCanary,
		Capacity:      capacity,
		Draining:      lease.Annotations[v1alpha1.AnnotationState] == v1alpha1.WorkerDraining,
		RenewedAt:     spec.RenewTime.Time,
		LeaseDuration: time.Duration(*spec.LeaseDurationSeconds) * time.Second,
	}, true
}

// podUIDOf returns the UID of the pod that owns a worker's Lease, or "" if none does.
func podUIDOf(lease *coordinationv1.Lease) types.UID {
	for i := range lease.OwnerReferences {
		if owner := &lease.OwnerReferences[i]; owner.Kind == "Pod" {
			return owner.UID
		}
	}
	return ""
}

// handlerFor passes additions and updates to changed, and deletions to gone.
func handlerFor[T client.Object](changed func(T), gone func(types.NamespacedName)) toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if o, ok := obj.(T); ok {
				changed(o)
			}
		},
		UpdateFunc: func(_, obj any) {
			if o, ok := obj.(T); ok {
				changed(o)
			}
		},
		DeleteFunc: func(obj any) {
			if tombstone, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
				obj = tombstone.Obj
			}
			if o, ok := obj.(T); ok {
				gone(client.ObjectKeyFromObject(o))
			}
		},
	}
}
