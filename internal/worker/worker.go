// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// MaxCapacity is the most scans one worker may run at a time: the bound of a WorkerPool's concurrencyPerWorker.
const MaxCapacity = 5000

// Options configure a Worker.
type Options struct {
	// Namespace is the namespace of the scans, the Lease and the budgets.
	Namespace string
	// Pool is the name of the WorkerPool. It becomes a label value.
	Pool string
	// Track is v1alpha1.TrackStable or TrackCanary. Empty means stable.
	Track string
	// Stages are the pool's stages.
	Stages []v1alpha1.StageName
	// Capacity is the number of scans that run at a time, 1 to MaxCapacity.
	Capacity int
	// Pod is the name of the worker's pod. The name of the Lease starts with it.
	Pod string
	// PodUID makes the pod the owner of the Lease. It may be empty.
	PodUID types.UID
	// DrainTimeout is how long running calls may continue after the context of Run ends. Releasing the rest and
	// deleting the Lease takes up to four seconds more.
	DrainTimeout time.Duration

	// Client reads, writes and watches. It must not read from a cache.
	Client client.WithWatch
	// LeaseClient writes the Lease. It should not share a rate limit with Client, so that a worker with many outcomes
	// to write does not miss a renewal.
	LeaseClient client.Client
	// Runner runs the stages.
	Runner Runner
	// Clock is the source of time of the Lease and of everything that no other process sees.
	Clock clock.Clock
	// LeaderClock is the clock of deadlines and outcomes. The Runner should have it too. Default: one made of Clock.
	LeaderClock *LeaderClock
	// Log receives one line per change of state.
	Log logr.Logger
	// Registry receives the worker's metrics.
	Registry prometheus.Registerer
	// Gatherer provides what /metrics serves.
	Gatherer prometheus.Gatherer
	// Listener serves /healthz, /readyz and /metrics; nil disables them. Run closes it.
	Listener net.Listener
}

func (o *Options) validate() error {
	if o.Namespace == "" {
		return errors.New("namespace: must be set")
	}
	if problems := validation.IsValidLabelValue(o.Pool); o.Pool == "" || len(problems) > 0 {
		return fmt.Errorf("pool %q: must be the name of a WorkerPool %v", o.Pool, problems)
	}
	if len(o.Stages) == 0 {
		return errors.New("stages: at least one is required")
	}
	if o.Capacity < 1 || o.Capacity > MaxCapacity {
		return fmt.Errorf("capacity %d: must be 1 to %d", o.Capacity, MaxCapacity)
	}
	if o.DrainTimeout < 0 {
		return fmt.Errorf("drain timeout %s: must not be negative", o.DrainTimeout)
	}
	return checkPodName(o.Pod)
}

// Worker is one worker process.
type Worker struct {
	options     Options
	clock       clock.Clock
	log         logr.Logger
	lease       *lease
	assignments *assignments
	health      *health

	handBackOnce sync.Once
	handBack     chan struct{}
}

// New returns a worker. The error names the option that is not valid.
func New(options Options) (*Worker, error) {
	if err := options.validate(); err != nil {
		return nil, err
	}
	leaderClock := options.LeaderClock
	if leaderClock == nil {
		leaderClock = NewLeaderClock(options.Clock)
	}
	m := newMetrics(options.Registry, options.Pool)
	l := newLease(registrant{
		namespace: options.Namespace, pool: options.Pool, track: options.Track, stages: options.Stages, capacity: options.Capacity,
		pod: options.Pod, podUID: options.PodUID,
	}, options.LeaseClient, options.Clock, options.Log, m)
	return &Worker{
		options: options, clock: options.Clock, log: options.Log, lease: l,
		assignments: newAssignments(assignmentsOptions{
			runner: options.Runner, stages: options.Stages, capacity: options.Capacity,
			reporter:   newStatusReporter(options.Client, leaderClock, options.Log, m),
			membership: l, clock: leaderClock, leaderClock: leaderClock, log: options.Log, metrics: m,
		}),
		health:   newHealth(options.Clock, l),
		handBack: make(chan struct{}),
	}, nil
}

// Run processes assignments until ctx ends, then drains, and returns when the Lease is deleted.
func (w *Worker) Run(ctx context.Context) {
	var parts sync.WaitGroup
	defer parts.Wait()
	life, end := context.WithCancel(context.WithoutCancel(ctx)) // of what continues during a drain
	defer end()
	if w.options.Listener != nil {
		parts.Go(func() { serve(life, w.options.Listener, w.health.handler(w.options.Gatherer), w.log) })
	}
	parts.Go(func() {
		w.health.pulse(life, func() {
			w.assignments.load()
			w.lease.registered()
		})
	})

	membership, leave := context.WithCancel(life)
	defer leave()
	left := make(chan struct{})
	parts.Go(func() {
		defer close(left)
		w.registerLoop(membership, life)
	})

	<-ctx.Done()
	w.drain(life)
	leave()
	<-left
	release, cancel := context.WithTimeout(life, releaseTimeout)
	defer cancel()
	if err := w.lease.release(release); err != nil {
		w.log.Error(err, "Lease not deleted; it will expire")
	}
	end()
	stopped, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	w.assignments.awaitIdle(stopped)
}

// registerLoop keeps the worker registered until ctx ends, under a new identity after each loss of the Lease. life is
// the context of the runs.
func (w *Worker) registerLoop(ctx, life context.Context) {
	for {
		identity := newIdentity(w.options.Pod)
		err := w.runRegistration(ctx, life, identity)
		if ctx.Err() != nil {
			return
		}
		w.log.Info("registration lost", "worker", identity, "cause", err.Error())
		w.assignments.cancelAll(errLeaseLost)
		if sleep(ctx, w.clock, jittered(renewRetryInterval)) != nil {
			return
		}
	}
}

// runRegistration runs one registration: it watches the assignments of an identity and, once the watch has synced,
// creates and renews the Lease. In this order nothing is assigned to a worker that would not see it.
func (w *Worker) runRegistration(ctx, life context.Context, identity string) error {
	ctx, cancel := context.WithCancel(ctx)
	w.assignments.setIdentity(identity)
	store := newSyncedStore(&assignedScans{ctx: life, assignments: w.assignments})
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watching.Go(func() {
		mirror(ctx, w.options.Client, w.options.Namespace, &v1alpha1.ScanRequest{},
			func() client.ObjectList { return &v1alpha1.ScanRequestList{} },
			fields.OneTermEqualSelector("status.assignment.worker", identity), store)
	})
	defer w.health.synced.Store(false)
	select {
	case <-store.synced:
		w.health.synced.Store(true)
	case <-ctx.Done():
		return ctx.Err()
	}
	return w.lease.keep(ctx, identity)
}
