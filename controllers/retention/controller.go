// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package retention

import (
	"context"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/heap"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// Deletions share the client's rate limit with the scheduler, so they come in batches with a pause in between.
const (
	deleteBatch = 100
	deletePause = 250 * time.Millisecond
)

// MinAge is how long a finished scan is kept at least, unless its own time to live is shorter: long enough for a client to
// fetch the result, and for an idempotency key to find it.
const MinAge = 5 * time.Minute

// Reconciler keeps at most Max finished scans in each namespace. Beyond that it deletes scans of the user who has the
// most, those that finished first, before their time to live is over. It deletes none that is younger than MinAge, even
// if that leaves more than Max. It follows finished scans by watch events and lists nothing.
type Reconciler struct {
	Client client.Client
	Clock  clock.PassiveClock
	// Max is how many finished scans a namespace may have, at least 0.
	Max int

	mu       sync.Mutex
	finished map[string]*finishedScans
}

// +kubebuilder:rbac:groups=scan.growbin.app,resources=scanrequests,verbs=get;list;watch;delete

var _ reconcile.Reconciler = (*Reconciler)(nil)

// Reconcile deletes a namespace's surplus of finished scans. The request has a namespace and no name.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	deleted, next := 0, time.Duration(0)
	for ; deleted < deleteBatch; deleted++ {
		scan, wait, ok := r.surplus(req.Namespace)
		if !ok {
			next = wait
			break
		}
		obj := &v1alpha1.ScanRequest{}
		obj.Namespace, obj.Name = req.Namespace, scan.name
		err := r.Client.Delete(ctx, obj, client.Preconditions{UID: &scan.uid})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) { // a conflict: another scan has that name now
			return ctrl.Result{}, fmt.Errorf("delete finished scan %q: %w", scan.name, err)
		}
		r.forget(req.Namespace, scan.uid)
	}
	if deleted == 0 {
		return ctrl.Result{RequeueAfter: next}, nil
	}
	ctrl.LoggerFrom(ctx).Info("deleted finished scans beyond the limit", "namespace", req.Namespace, "deleted", deleted, "max", r.Max)
	return ctrl.Result{RequeueAfter: deletePause}, nil
}

// surplus returns the scan to delete next if the namespace has more than Max. If it is too young, wait is the time until
// it is not.
func (r *Reconciler) surplus(namespace string) (scan finishedScan, wait time.Duration, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.finished[namespace]
	if f == nil || len(f.byUID) <= r.Max {
		return finishedScan{}, 0, false
	}
	scan = *f.users.Top().scans.Top()
	wait = scan.at.Add(MinAge).Sub(r.Clock.Now())
	return scan, max(wait, 0), wait <= 0
}

// note records a finished scan and reports whether its namespace now has more than Max.
func (r *Reconciler) note(scan *v1alpha1.ScanRequest) (tooMany bool) {
	if !pipeline.IsFinished(&scan.Status) || !scan.DeletionTimestamp.IsZero() {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.finished[scan.Namespace]
	if f == nil {
		f = newFinishedScans()
		if r.finished == nil {
			r.finished = map[string]*finishedScans{}
		}
		r.finished[scan.Namespace] = f
	}
	if f.byUID[scan.UID] == nil {
		f.add(&finishedScan{name: scan.Name, uid: scan.UID, user: scan.Spec.UserID, at: scan.Status.FinishedAt.Time})
	}
	return len(f.byUID) > r.Max
}

func (r *Reconciler) forget(namespace string, uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.finished[namespace]; f != nil && f.byUID[uid] != nil {
		f.remove(uid)
		if len(f.byUID) == 0 {
			delete(r.finished, namespace)
		}
	}
}

// SetupWithManager registers the controller.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	noted := func(obj client.Object, q workqueue.TypedRateLimitingInterface[ctrl.Request]) {
		if scan, ok := obj.(*v1alpha1.ScanRequest); ok && r.note(scan) {
			q.Add(ctrl.Request{NamespacedName: types.NamespacedName{Namespace: scan.Namespace}})
		}
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("retention").
		Watches(&v1alpha1.ScanRequest{}, handler.Funcs{
			CreateFunc: func(_ context.Context, e event.CreateEvent, q workqueue.TypedRateLimitingInterface[ctrl.Request]) {
				noted(e.Object, q)
			},
			UpdateFunc: func(_ context.Context, e event.UpdateEvent, q workqueue.TypedRateLimitingInterface[ctrl.Request]) {
				noted(e.ObjectNew, q)
			},
			DeleteFunc: func(_ context.Context, e event.DeleteEvent, _ workqueue.TypedRateLimitingInterface[ctrl.Request]) {
				r.forget(e.Object.GetNamespace(), e.Object.GetUID())
			},
		}).
		Complete(r)
}

// finishedScan is a finished scan that has not been deleted.
type finishedScan struct {
	name  string
	uid   types.UID
	user  string
	at    time.Time
	index int
}

// userScans are a user's finished scans, the one that finished first on top of the heap.
type userScans struct {
	scans heap.Heap[finishedScan]
	index int
}

// finishedScans are a namespace's finished scans. The user who has the most is on top of the heap.
type finishedScans struct {
	users  heap.Heap[userScans]
	byUser map[string]*userScans
	byUID  map[types.UID]*finishedScan
}

func newFinishedScans() *finishedScans {
	return &finishedScans{
		users:  heap.New(hasMore, func(u *userScans) *int { return &u.index }),
		byUser: map[string]*userScans{},
		byUID:  map[types.UID]*finishedScan{},
	}
}

func hasMore(a, b *userScans) bool {
	if n, m := a.scans.Len(), b.scans.Len(); n != m {
		return n > m
	}
	return finishedBefore(a.scans.Top(), b.scans.Top())
}

func finishedBefore(a, b *finishedScan) bool {
	if !a.at.Equal(b.at) {
		return a.at.Before(b.at)
	}
	return a.name < b.name
}

func (f *finishedScans) add(scan *finishedScan) {
	f.byUID[scan.uid] = scan
	if u := f.byUser[scan.user]; u != nil {
		u.scans.Push(scan)
		f.users.Fix(u)
		return
	}
	u := &userScans{scans: heap.New(finishedBefore, func(s *finishedScan) *int { return &s.index })}
	u.scans.Push(scan)
	f.byUser[scan.user] = u
	f.users.Push(u)
}

func (f *finishedScans) remove(uid types.UID) {
	scan := f.byUID[uid]
	delete(f.byUID, uid)
	u := f.byUser[scan.user]
	if u.scans.Len() == 1 {
		f.users.Remove(u)
		delete(f.byUser, scan.user)
		return
	}
	u.scans.Remove(scan)
	f.users.Fix(u)
}
