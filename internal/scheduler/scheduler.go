// Package scheduler gives waiting scans to workers, as fast as the token budgets allow and no faster.
//
// It is a model in memory, fed by watch events: scans, pools, budgets and workers as they are seen. A loop
// picks the next scans in fair order, reserves tokens and a place at a worker in memory (it assumes), and hands
// the write to a StatusWriter, many at a time. A write that fails gives everything back. The package is pure:
// no Kubernetes client, no HTTP, no wall clock.
package scheduler

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/budget"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/queue"
)

// StatusWriter folds an event into a scan's status and stores it.
type StatusWriter interface {
	// Write returns the newest version of the scan that it knows, also next to an error. It does not return
	// before it knows whether the write took place, unless ctx ends: it looks again and folds again where the
	// scan was changed by others or an answer was lost. The error is pipeline.ErrStale or pipeline.ErrFenced
	// where the scan has moved on so that nothing was stored, and ErrGone where it no longer exists.
	Write(ctx context.Context, scan *v1alpha1.ScanRequest, ev pipeline.Event) (*v1alpha1.ScanRequest, error)
}

// LeaseStore reads workers' Leases.
type LeaseStore interface {
	// Read reads a worker's Lease from the API server itself; found is false where it is gone or released.
	Read(ctx context.Context, name types.NamespacedName) (w Worker, found bool, err error)
	// Remove deletes the expired Lease of a worker, unless it was renewed after w.RenewedAt. A worker that was
	// frozen and goes on sees from this that its scans are others' now.
	Remove(ctx context.Context, w Worker)
}

// Options configure a Scheduler. The zero value of a field means its default.
type Options struct {
	// Clock tells the time. Required.
	Clock clock.WithTicker
	// Pack is the knowledge pack the workers use too; it decides how large the calls are. Required.
	Pack *knowledge.Pack
	// Log receives one line per change of state.
	Log logr.Logger
	// LeaderTerm makes assignment ids unique between leaders. Required.
	LeaderTerm string
	// MaxWrites bounds the status writes that are under way at the same time. Default 16: at 10 ms a write that is
	// 1600 a second, and where the API server has no more processor for it, more requests at a time only make it
	// slower for all, until it ends the watches that it cannot serve in time.
	MaxWrites int
	// ReasonDelay is how long a reason for waiting must have held before it is written to the scan. Default 5 s.
	ReasonDelay time.Duration
	// ReasonsPerSecond bounds the writes of reasons for waiting. Default 20.
	ReasonsPerSecond int
	// Observer is told of decisions, for metrics. Default: none.
	Observer Observer
	// ScaleUp is called when a pool's calls begin to want more workers than they did. It is called with the
	// scheduler's lock held, must not block and must not call back. Default: none.
	ScaleUp func(pool types.NamespacedName)
}

// Observer is told what the scheduler does. Its methods are called with the scheduler's lock held and must not
// call back.
type Observer interface {
	// Assigned is called when a stage is given to a worker, with the time since the scan began to wait for it.
	Assigned(pool string, stage v1alpha1.StageName, waited time.Duration)
	// Settled is called when a try of a stage has ended.
	Settled(t StageRun)
	// Dispatched is called when an assignment is stored, with the time since it was decided.
	Dispatched(took time.Duration)
	// WriteFailed is called when an assignment could not be stored.
	WriteFailed()
}

// StageRun is a try of a stage that has ended.
type StageRun struct {
	// Budget and Model are empty for stages that need no tokens.
	Budget, Model string
	Stage         v1alpha1.StageName
	// Canary says that a worker with its pool's canary settings had it.
	Canary bool
	// Class is the class of failure, empty for a success.
	Class v1alpha1.FailureClass
	// Reserved is what was taken from the budget, Charged what the provider's headers prove it took, zero where
	// they do not. In tokens.
	Reserved, Charged int64
	// Usage is what the provider reported.
	Usage v1alpha1.TokenUsage
	// Took is the time at the worker.
	Took time.Duration
}

// Scheduler is the model and the loop. All methods are safe for concurrent use.
type Scheduler struct {
	opts Options
	clk  clock.WithTicker
	log  logr.Logger

	mu        sync.Mutex
	queue     *queue.Queue
	estimator *budget.Estimator
	scans     map[types.NamespacedName]*scanState
	pools     map[types.NamespacedName]*pool
	byStage   map[stageKey][]*pool
	// running counts the assignments by stage.
	running map[stageKey]int
	budgets map[types.NamespacedName]*budgetState
	// groups names the group of each budget; see domain.
	groups  map[types.NamespacedName]types.NamespacedName
	workers map[types.NamespacedName]*worker
	blocked map[queue.Lane]waitReason
	// claimed are the budgets that fill up for a scan which is first in line, and until when: those behind it,
	// of other stages too, must not take what it waits for. It is made anew in every cycle.
	claimed map[types.NamespacedName]time.Time
	// blockedSince outlives a cycle, which blocked does not.
	blockedSince  map[queue.Lane]laneWait
	outbox        []*write      // writes that are not picks: releases and rejections
	checks        []reasonCheck // scans whose reason for waiting is to be looked at, in order
	toExplain     []*scanState  // scans whose reason is to be written, in order
	unschedulable []*scanState  // scans that may never fit, found while picking
	expired       []Worker      // workers whose Lease is to be removed
	nextID        uint64
	writes        int
	storing       time.Duration // how long it usually takes to store an assignment
	reasons       *rate.Limiter

	wakeup chan struct{}
	// restored is closed by Load.
	restored chan struct{}
}

// stageKey finds the pools that run a stage.
type stageKey struct {
	namespace string
	stage     v1alpha1.StageName
}

// New returns an empty scheduler. Feed it with Load before Run.
func New(opts Options) *Scheduler {
	if opts.MaxWrites == 0 {
		opts.MaxWrites = 16
	}
	if opts.ReasonDelay == 0 {
		opts.ReasonDelay = 5 * time.Second
	}
	if opts.ReasonsPerSecond == 0 {
		opts.ReasonsPerSecond = 20
	}
	if opts.ScaleUp == nil {
		opts.ScaleUp = func(types.NamespacedName) {}
	}
	if opts.Observer == nil {
		opts.Observer = noObserver{}
	}
	s := &Scheduler{
		opts: opts, clk: opts.Clock, log: opts.Log,
		estimator:    budget.NewEstimator(),
		scans:        map[types.NamespacedName]*scanState{},
		pools:        map[types.NamespacedName]*pool{},
		byStage:      map[stageKey][]*pool{},
		running:      map[stageKey]int{},
		budgets:      map[types.NamespacedName]*budgetState{},
		workers:      map[types.NamespacedName]*worker{},
		blocked:      map[queue.Lane]waitReason{},
		blockedSince: map[queue.Lane]laneWait{},
		claimed:      map[types.NamespacedName]time.Time{},
		reasons:      rate.NewLimiter(rate.Limit(opts.ReasonsPerSecond), opts.ReasonsPerSecond),
		wakeup:       make(chan struct{}, 1),
		restored:     make(chan struct{}),
	}
	s.queue = queue.New(queue.WithDomain(s.domain))
	return s
}

// wake makes the loop look again.
func (s *Scheduler) wake() {
	select {
	case s.wakeup <- struct{}{}:
	default:
	}
}

// assignmentID returns an id that no other assignment has.
func (s *Scheduler) assignmentID() string {
	s.nextID++
	return s.opts.LeaderTerm + "-" + strconv.FormatUint(s.nextID, 36)
}

type noObserver struct{}

func (noObserver) Assigned(string, v1alpha1.StageName, time.Duration) {}
func (noObserver) Settled(StageRun)                                   {}
func (noObserver) Dispatched(time.Duration)                           {}
func (noObserver) WriteFailed()                                       {}
