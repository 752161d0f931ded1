// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

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
	// leaseDuration is how long the scheduler considers a worker alive after a renewal.
	leaseDuration = 15 * time.Second
	// renewInterval is the time between renewals. Two may fail before the Lease expires.
	renewInterval = 5 * time.Second
	// renewRetryInterval is the time between a failed renewal and the next attempt.
	renewRetryInterval = time.Second
	// renewJitter is the part of an interval that jitter adds or takes away, so that workers that started together do
	// not renew together.
	renewJitter = 0.1
	// leaseRequestTimeout bounds each request. With the retry interval, three fit into leaseDuration.
	leaseRequestTimeout = 4 * time.Second
)

// errLeaseLost ends a registration: the Lease was deleted or has another holder. The scheduler has assigned this
// worker's scans to other workers, or is about to.
var errLeaseLost = errors.New("the worker's Lease was lost")

// registrant is the description of a worker in its Lease.
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
// A Lease that expired is renewed when that is possible again, and calls continue. The usual cause is an outage of the
// API server. Then the scheduler cannot have replaced this worker either, and its calls are worth finishing because
// their tokens are spent. If the scheduler has replaced it, the watch reports each lost scan once it reconnects, and
// the fence drops late writes. But the worker must not start anything: it may have been suspended and may be reading
// old watch events. See assignments.confirm.
//
// A Lease that was deleted or has another holder means that the scheduler has given this worker up. It cancels its
// calls and registers under a new identity.
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
	renewed   chan struct{} // closed by the next success
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
			draining = nil // renewals carry the state from here on
		case <-timer.C():
		}
		lapsed := !l.valid() // without a failed renewal before, this process was suspended
		err := l.renew(ctx, identity)
		switch {
		case err == nil:
			if lapsed || expired {
				l.log.Info("expired Lease renewed", "worker", identity)
			}
			next, expired = renewInterval, false
		case errors.Is(err, errLeaseLost):
			l.dropLease()
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			l.metrics.renewFailures.Inc()
			next = renewRetryInterval
			if !expired && !l.valid() {
				expired = true
				l.log.Info("Lease expired: renewal failed", "worker", identity, "cause", err.Error())
			}
		}
	}
}

// create creates the Lease and retries until ctx ends. A name that is in use is errLeaseLost.
func (l *lease) create(ctx context.Context, identity string) error {
	unsure := false
	for next := renewRetryInterval; ; next = min(2*next, renewInterval) {
		object := l.describe(identity)
		sent := l.clock.Now()
		err := l.request(ctx, func(ctx context.Context) error { return l.client.Create(ctx, object) })
		if unsure && apierrors.IsAlreadyExists(err) {
			// An earlier request was carried out and its answer was lost: the name is random, so the Lease is this
			// worker's own.
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
			return fmt.Errorf("create Lease %s: the name is in use: %w", identity, errLeaseLost)
		}
		l.metrics.renewFailures.Inc()
		l.log.Info("registration failed; trying again", "worker", identity, "cause", err.Error())
		unsure = true
		if err := sleep(ctx, l.clock, jittered(next)); err != nil {
			return err
		}
	}
}

// renew updates the time and the state in the Lease.
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
				// Another client changed it: perhaps a label, perhaps the holder.
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

// release deletes the Lease, so that the scheduler knows at once that the worker has left. keep must have returned.
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
			return nil // a conflict means that another Lease has the name now
		}
		if sleep(ctx, l.clock, jittered(renewRetryInterval)) != nil {
			return fmt.Errorf("delete Lease %s: %w", object.Name, err)
		}
	}
}

// drain marks the Lease as draining, at once and in every later renewal.
func (l *lease) drain() { l.drainOnce.Do(func() { close(l.draining) }) }

// isDraining reports whether drain was called.
func (l *lease) isDraining() bool {
	select {
	case <-l.draining:
		return true
	default:
		return false
	}
}

// registered reports whether the Lease exists, as far as this worker knows.
func (l *lease) registered() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.renewedAt.IsZero()
}

// valid reports whether the scheduler considers this worker alive: the Lease was renewed within its duration, measured
// from the time at which the renewal was sent.
func (l *lease) valid() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.renewedAt.IsZero() && l.clock.Since(l.renewedAt) < leaseDuration
}

// awaitValid returns nil once the Lease is valid, or the cause of ctx's end.
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

// succeeded records the Lease that the API server has stored.
func (l *lease) succeeded(sent time.Time, object *coordinationv1.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewedAt, l.object = sent, object
	close(l.renewed)
	l.renewed = make(chan struct{})
}

// forget records that the Lease is no longer renewed. The object is kept, so that release can delete it.
func (l *lease) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewedAt = time.Time{}
}

// dropLease records that the stored Lease is no longer this worker's, so that release does not delete it.
func (l *lease) dropLease() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.object = nil
}

// request runs do with a timeout.
func (*lease) request(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, leaseRequestTimeout)
	defer cancel()
	return do(ctx)
}

// describe returns the Lease to create.
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
		// The garbage collector deletes the Lease with the pod if the worker cannot.
		object.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: l.pod, UID: l.podUID}}
	}
	l.stamp(object, now)
	return object
}

// stamp sets the fields that each renewal changes.
func (l *lease) stamp(object *coordinationv1.Lease, now time.Time) {
	state := v1alpha1.WorkerActive
	if l.isDraining() {
		state = v1alpha1.WorkerDraining
	}
	metav1.SetMetaDataAnnotation(&object.ObjectMeta, v1alpha1.AnnotationState, state)
	object.Spec.RenewTime = &metav1.MicroTime{Time: now}
}

// jittered returns d with renewJitter applied.
func jittered(d time.Duration) time.Duration {
	return d + time.Duration((2*rand.Float64()-1)*renewJitter*float64(d))
}

// sleep waits for d. It returns the cause of ctx's end if that comes first.
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
