// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
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
	Clock     clock.Clock
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
	state, ok := r.loadUntilItWorks(ctx)
	if !ok {
		return nil
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

// Delays between attempts to load the scheduler's state.
const (
	loadDelayFirst = time.Second
	loadDelayLast  = 15 * time.Second
)

// loadUntilItWorks loads the scheduler's state, again and again until that works or ctx ends. An API server that is
// overloaded or away would otherwise end one manager after the other, until their restarts are minutes apart and nothing
// leads when it is back.
func (r *Runner) loadUntilItWorks(ctx context.Context) (scheduler.State, bool) {
	for delay := loadDelayFirst; ; delay = min(2*delay, loadDelayLast) {
		state, err := r.load(ctx)
		if err == nil || ctx.Err() != nil {
			return state, err == nil
		}
		r.Log.Error(err, "load of the scheduler's state failed", "retryIn", delay.String())
		select {
		case <-ctx.Done():
			return state, false
		case <-r.Clock.After(delay):
		}
	}
}

// loadPage is how many objects one response has. A response with every scan would be hundreds of megabytes for the API
// server to build and for this process to decode.
const loadPage = 500

// listAll lists the objects of the namespace page by page. add is called with each page, a list of its own.
func listAll[L client.ObjectList](ctx context.Context, r *Runner, newList func() L, add func(L)) error {
	next := ""
	for {
		page := newList()
		if err := r.APIReader.List(ctx, page, client.InNamespace(r.Namespace), client.Limit(loadPage), client.Continue(next)); err != nil {
			return fmt.Errorf("list %T: %w", page, err)
		}
		add(page)
		if next = page.GetContinue(); next == "" {
			return nil
		}
	}
}

// load reads the scheduler's initial state from the API server itself. A cache may lag, above all after an outage of
// the API server, and a leader that starts from a stale state assigns scans that are already assigned.
func (r *Runner) load(ctx context.Context) (scheduler.State, error) {
	var state scheduler.State
	err := errors.Join(
		listAll(ctx, r, func() *v1alpha1.WorkerPoolList { return &v1alpha1.WorkerPoolList{} }, func(page *v1alpha1.WorkerPoolList) {
			for i := range page.Items {
				state.Pools = append(state.Pools, &page.Items[i])
			}
		}),
		listAll(ctx, r, func() *v1alpha1.TokenBudgetList { return &v1alpha1.TokenBudgetList{} }, func(page *v1alpha1.TokenBudgetList) {
			for i := range page.Items {
				state.Budgets = append(state.Budgets, &page.Items[i])
			}
		}),
		listAll(ctx, r, func() *coordinationv1.LeaseList { return &coordinationv1.LeaseList{} }, func(page *coordinationv1.LeaseList) {
			for i := range page.Items {
				if w, ok := workerOf(&page.Items[i]); ok {
					state.Workers = append(state.Workers, w)
				}
			}
		}),
		listAll(ctx, r, func() *v1alpha1.ScanRequestList { return &v1alpha1.ScanRequestList{} }, func(page *v1alpha1.ScanRequestList) {
			for i := range page.Items {
				page.Items[i].ManagedFields = nil // as in the cache
				// Copied, for the objects of a page share one array: a single one would keep all others in memory.
				state.Scans = append(state.Scans, page.Items[i].DeepCopy())
			}
		}),
	)
	if err != nil {
		return state, err
	}
	for _, b := range state.Budgets {
		key, err := r.Keys.Check(ctx, b)
		if err != nil {
			return state, err
		}
		state.Keys = append(state.Keys, key)
	}
	return state, nil
}

// Read implements scheduler.LeaseStore.
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

// Remove implements scheduler.LeaseStore. A failure does no harm: the Lease stays expired.
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
