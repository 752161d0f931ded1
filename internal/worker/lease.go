package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/go-logr/logr"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

const (
	// leaseDuration is how long the scheduler trusts a worker that it does not hear of.
	leaseDuration = 15 * time.Second
	// renewInterval is the time between renewals: two may fail before the Lease expires.
	renewInterval = 5 * time.Second
	// renewRetryInterval is the time after which a failed renewal is tried again.
	renewRetryInterval = time.Second
	// renewJitter spreads the renewals of workers that started together, as a share of the interval.
	renewJitter = 0.1
	// leaseRequestTimeout bounds one request: with the retry interval, three fit into a Lease's duration.
	leaseRequestTimeout = 4 * time.Second
)

// errLeaseLost ends a registration: the Lease was deleted or taken by somebody else. The scheduler has given this
// worker's scans to others, or is about to.
var errLeaseLost = errors.New("the worker's Lease was taken away")

// registrant is what a worker says of itself in its Lease.
type registrant struct {
	namespace string
	pool      string
	track     string
	stages    []v1alpha1.StageName
	capacity  int
	pod       string
	podUID    types.UID
}

// lease keeps the worker's entry in the registry of workers.
//
// A Lease that could not be renewed in time is not given up. The usual cause is an API server that nobody
// reaches, in which case nobody has replaced this worker either and its calls, which were paid for when they were
// sent, are worth finishing; and if somebody has, the watch says so for each scan as soon as it is back, and the
// fence drops the late writes. What such a worker must not do is to begin anything: it may have been frozen, and
// be reading watch events that were true a minute ago. See assignments.confirm.
//
// A Lease that was deleted or taken is different: that is a decision about this worker. It aborts its calls and
// registers under a new identity.
type lease struct {
	registrant
	client  client.Client
	clock   clock.Clock
	log     logr.Logger
	metrics *metrics

	drainOnce sync.Once
	draining  chan struct{}

	mu        sync.Mutex
	renewedAt time.Time     // when the last successful request was sent; zero while not registered
	renewed   chan struct{} // closed at the next success
	object    *coordinationv1.Lease
}

func newLease(r registrant, c client.Client, clk clock.Clock, log logr.Logger, m *metrics) *lease {
	return &lease{
		registrant: r, client: c, clock: clk, log: log, metrics: m,
		draining: make(chan struct{}), renewed: make(chan struct{}),
	}
}

// keep registers identity and renews the Lease until ctx ends or the Lease is lost, which is errLeaseLost.
func (l *lease) keep(ctx context.Context, identity string) error {
	if err := l.create(ctx, identity); err != nil {
		return err
	}
	l.log.Info("registered", "worker", identity, "pool", l.pool, "stages", l.stages, "capacity", l.capacity)
	defer l.forget()
	draining, expired := l.draining, false
	for next := renewInterval; ; {
		timer := l.clock.NewTimer(jittered(next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-draining:
			timer.Stop()
			draining = nil // once is enough: renewals repeat the state from here on
		case <-timer.C():
		}
		lapsed := !l.valid() // with no failed renewal before it, this process was frozen
		err := l.renew(ctx, identity)
		switch {
		case err == nil:
			if lapsed || expired {
				l.log.Info("renewed the Lease after it had expired", "worker", identity)
			}
			next, expired = renewInterval, false
		case errors.Is(err, errLeaseLost):
			l.disown()
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			l.metrics.renewFailures.Inc()
			next = renewRetryInterval
			if !expired && !l.valid() {
				expired = true
				l.log.Info("the Lease expired: it could not be renewed", "worker", identity, "cause", err.Error())
			}
		}
	}
}

// create stores a new Lease, however long that takes. An identity that is taken is errLeaseLost.
func (l *lease) create(ctx context.Context, identity string) error {
	unsure := false
	for next := renewRetryInterval; ; next = min(2*next, renewInterval) {
		object := l.describe(identity)
		sent := l.clock.Now()
		err := l.request(ctx, func(ctx context.Context) error { return l.client.Create(ctx, object) })
		if unsure && apierrors.IsAlreadyExists(err) {
			// An earlier request was carried out although its answer was lost: the name is random, and nobody
			// else makes it.
			err = l.request(ctx, func(ctx context.Context) error {
				return l.client.Get(ctx, client.ObjectKeyFromObject(object), object)
			})
		}
		switch {
		case err == nil:
			l.succeeded(sent, object)
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case apierrors.IsAlreadyExists(err):
			return fmt.Errorf("register as %s: the name is in use: %w", identity, errLeaseLost)
		}
		l.metrics.renewFailures.Inc()
		l.log.Info("could not register; trying again", "worker", identity, "cause", err.Error())
		unsure = true
		if err := sleep(ctx, l.clock, jittered(next)); err != nil {
			return err
		}
	}
}

// renew says that the worker is alive, and in which state it is.
func (l *lease) renew(ctx context.Context, identity string) error {
	l.mu.Lock()
	object := l.object.DeepCopy()
	l.mu.Unlock()

	sent := l.clock.Now()
	return l.request(ctx, func(ctx context.Context) error {
		for {
			l.stamp(object, sent)
			err := l.client.Update(ctx, object)
			if apierrors.IsConflict(err) {
				// Somebody has changed it: it may be a label, it may be the holder.
				err = l.client.Get(ctx, client.ObjectKeyFromObject(object), object)
				if err == nil && ptr.Deref(object.Spec.HolderIdentity, "") == identity {
					continue
				}
				if err == nil {
					return fmt.Errorf("renew Lease %s: it has another holder: %w", identity, errLeaseLost)
				}
			}
			if apierrors.IsNotFound(err) {
				return fmt.Errorf("renew Lease %s: it was deleted: %w", identity, errLeaseLost)
			}
			if err != nil {
				return fmt.Errorf("renew Lease %s: %w", identity, err)
			}
			l.succeeded(sent, object)
			return nil
		}
	})
}

// release deletes the Lease, so that the worker is known to have left. The caller must have ended keep.
func (l *lease) release(ctx context.Context) error {
	l.mu.Lock()
	object := l.object
	l.mu.Unlock()
	if object == nil {
		return nil
	}
	for {
		err := l.request(ctx, func(ctx context.Context) error {
			return l.client.Delete(ctx, object, client.Preconditions{UID: &object.UID})
		})
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil // a conflict means that the name belongs to another Lease now
		}
		if sleep(ctx, l.clock, jittered(renewRetryInterval)) != nil {
			return fmt.Errorf("delete Lease %s: %w", object.Name, err)
		}
	}
}

// drain marks the Lease as draining, at once and with every renewal from now on.
func (l *lease) drain() { l.drainOnce.Do(func() { close(l.draining) }) }

// isDraining says whether drain was called.
func (l *lease) isDraining() bool {
	select {
	case <-l.draining:
		return true
	default:
		return false
	}
}

// registered says whether the Lease exists as far as known.
func (l *lease) registered() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.renewedAt.IsZero()
}

// valid says whether the scheduler still trusts this worker: the Lease was renewed within its duration, counted
// from when the renewal was sent.
func (l *lease) valid() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.renewedAt.IsZero() && l.clock.Since(l.renewedAt) < leaseDuration
}

// awaitValid returns when the Lease is valid, or with the cause of ctx's end.
func (l *lease) awaitValid(ctx context.Context) error {
	for {
		l.mu.Lock()
		renewed := l.renewed
		l.mu.Unlock()
		if l.valid() {
			return nil
		}
		select {
		case <-renewed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// succeeded notes what the API server has stored.
func (l *lease) succeeded(sent time.Time, object *coordinationv1.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewedAt, l.object = sent, object
	close(l.renewed)
	l.renewed = make(chan struct{})
}

// forget notes that the Lease is not kept any more. The object stays known: it may be there to be deleted.
func (l *lease) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewedAt = time.Time{}
}

// disown notes that the stored Lease is not this worker's any more, so that it does not delete it.
func (l *lease) disown() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.object = nil
}

// request bounds one request in time.
func (*lease) request(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, leaseRequestTimeout)
	defer cancel()
	return do(ctx)
}

// describe is the Lease as it is first stored.
func (l *lease) describe(identity string) *coordinationv1.Lease {
	now := l.clock.Now()
	object := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: l.namespace, Name: identity,
			Labels: map[string]string{
				v1alpha1.LabelComponent: v1alpha1.ComponentWorker,
				v1alpha1.LabelPool:      l.pool,
				v1alpha1.LabelTrack:     cmp.Or(l.track, v1alpha1.TrackStable),
			},
			Annotations: map[string]string{
				v1alpha1.AnnotationCapacity: strconv.Itoa(l.capacity),
				v1alpha1.AnnotationPod:      l.pod,
			},
		},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity:       &identity,
			LeaseDurationSeconds: ptr.To(int32(leaseDuration / time.Second)),
			AcquireTime:          &metav1.MicroTime{Time: now},
		},
	}
	if l.podUID != "" {
		// The garbage collector removes the Leases of pods that could not do so themselves.
		object.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: l.pod, UID: l.podUID}}
	}
	l.stamp(object, now)
	return object
}

// stamp sets what every renewal sets.
func (l *lease) stamp(object *coordinationv1.Lease, now time.Time) {
	state := v1alpha1.WorkerActive
	if l.isDraining() {
		state = v1alpha1.WorkerDraining
	}
	metav1.SetMetaDataAnnotation(&object.ObjectMeta, v1alpha1.AnnotationState, state)
	object.Spec.RenewTime = &metav1.MicroTime{Time: now}
}

// jittered is d, more or less.
func jittered(d time.Duration) time.Duration {
	return d + time.Duration((2*rand.Float64()-1)*renewJitter*float64(d))
}

// sleep waits for d, or returns the cause of ctx's end.
func sleep(ctx context.Context, clk clock.Clock, d time.Duration) error {
	timer := clk.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
