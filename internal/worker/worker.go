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

// Options say who a worker is and what it works with.
type Options struct {
	// Namespace is where the scans, the Lease and the budgets are.
	Namespace string
	// Pool names the WorkerPool. It becomes a label's value.
	Pool string
	// Track is v1alpha1.TrackStable, TrackCanary or empty, which means stable.
	Track string
	// Stages are the pool's stages.
	Stages []v1alpha1.StageName
	// Capacity is how many scans run at a time, 1 to MaxCapacity.
	Capacity int
	// Pod is the name of the worker's pod. The Lease's name begins with it.
	Pod string
	// PodUID makes the Lease go with the pod. It may be empty.
	PodUID types.UID
	// DrainTimeout is how long running calls may go on after Run was told to stop. Hand-back and the removal of
	// the Lease take up to four seconds more.
	DrainTimeout time.Duration

	// Client reads, writes and watches at the API server; it must not be a cache.
	Client client.WithWatch
	// LeaseClient is used for the Lease. It should not share its rate limit with Client: a worker with many
	// results to write must not miss its renewals.
	LeaseClient client.Client
	// Runner runs the stages.
	Runner Runner
	// Clock is the clock of everything but the calls' deadlines.
	Clock clock.Clock
	// Log receives one line per change of state.
	Log logr.Logger
	// Registry takes the worker's metrics.
	Registry prometheus.Registerer
	// Gatherer is what /metrics shows.
	Gatherer prometheus.Gatherer
	// Listener is where /healthz, /readyz and /metrics are served; nil for nowhere. Run closes it.
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
		return errors.New("stages: there must be at least one")
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

// New returns a worker that has not begun, or an error that names the option that is wrong.
func New(options Options) (*Worker, error) {
	if err := options.validate(); err != nil {
		return nil, err
	}
	m := newMetrics(options.Registry, options.Pool)
	l := newLease(registrant{
		namespace: options.Namespace, pool: options.Pool, track: options.Track, stages: options.Stages, capacity: options.Capacity,
		pod: options.Pod, podUID: options.PodUID,
	}, options.LeaseClient, options.Clock, options.Log, m)
	reporter := newStatusReporter(options.Client, options.Clock, options.Log, m)
	return &Worker{
		options: options, clock: options.Clock, log: options.Log, lease: l,
		assignments: newAssignments(options.Runner, options.Stages, options.Capacity, reporter, l, options.Clock, options.Log, m),
		health:      newHealth(options.Clock, l),
		handBack:    make(chan struct{}),
	}, nil
}

// Run works until ctx ends, then drains, and returns when the worker has left the registry.
func (w *Worker) Run(ctx context.Context) {
	var parts sync.WaitGroup
	defer parts.Wait()
	life, end := context.WithCancel(context.WithoutCancel(ctx)) // of everything that goes on during a drain
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
		w.belong(membership, life)
	})

	<-ctx.Done()
	w.drain(life)
	leave()
	<-left
	release, cancel := context.WithTimeout(life, releaseTimeout)
	defer cancel()
	if err := w.lease.release(release); err != nil {
		w.log.Error(err, "could not remove the Lease; it expires")
	}
	end()
	stopped, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	w.assignments.awaitIdle(stopped)
}

// belong keeps the worker registered until ctx ends, under a new identity whenever the Lease was taken away. life
// is the context of the runs.
func (w *Worker) belong(ctx, life context.Context) {
	for {
		identity := newIdentity(w.options.Pod)
		err := w.serveAs(ctx, life, identity)
		if ctx.Err() != nil {
			return
		}
		w.log.Info("the registration was lost", "worker", identity, "cause", err.Error())
		w.assignments.abandon(errLeaseLost)
		if sleep(ctx, w.clock, jittered(renewRetryInterval)) != nil {
			return
		}
	}
}

// serveAs is one registration: the watch of the identity's assignments, and the Lease as soon as the watch is
// there, so that nothing is assigned to a worker that does not listen.
func (w *Worker) serveAs(ctx, life context.Context, identity string) error {
	ctx, cancel := context.WithCancel(ctx)
	w.assignments.adopt(identity)
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
