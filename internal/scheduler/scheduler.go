// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package scheduler assigns waiting scans to workers, as fast as the token budgets allow and no faster.
//
// It holds a model in memory, fed by watch events: scans, pools, budgets and workers. A loop picks the next scans in
// fair order, reserves tokens and a slot at a worker in memory (it assumes the assignment), and passes the writes to a
// StatusWriter, several at a time. A failed write releases what was reserved and requeues the scan. The package is
// pure: no Kubernetes client, no HTTP, no wall clock.
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
	// Write returns the newest known version of the scan, with an error too. It returns once it is certain whether the
	// write took place, or when ctx ends: after a conflict or a lost response it reads the scan and folds again. The
	// error is pipeline.ErrStale or pipeline.ErrFenced if the scan has moved on and nothing was stored, pipeline.ErrGone
	// if the scan no longer exists, and another one if the write failed and was given up.
	Write(ctx context.Context, scan *v1alpha1.ScanRequest, ev pipeline.Event) (*v1alpha1.ScanRequest, error)
}

// LeaseStore reads and removes the workers' Leases.
type LeaseStore interface {
	// Read reads a worker's Lease from the API server, not from a cache; found is false if it is gone or released.
	Read(ctx context.Context, name types.NamespacedName) (w Worker, found bool, err error)
	// Remove deletes the expired Lease of a worker, unless it was renewed after w.RenewedAt. A worker that was frozen
	// and resumes finds its Lease gone, and so learns that its scans were reassigned.
	Remove(ctx context.Context, w Worker)
}

// Options configure a Scheduler. The zero value of a field means its default.
type Options struct {
	// Clock is the source of time. Required.
	Clock clock.WithTicker
	// Pack is the knowledge pack that the workers use too. It determines the size of the calls. Required.
	Pack *knowledge.Pack
	// Log receives one line per change of state.
	Log logr.Logger
	// LeaderTerm makes assignment ids unique across leaders. Required.
	LeaderTerm string
	// MaxWrites bounds the concurrent status writes. Default 16: at 10 ms per write that is 1600 a second. On an API
	// server without spare CPU, more concurrency slows down all requests, until watches that fall behind are closed.
	MaxWrites int
	// ReasonDelay is how long a reason for waiting must have held before it is written to the scan. Default 5 s.
	ReasonDelay time.Duration
	// ReasonsPerSecond bounds the writes of reasons for waiting. Default 20.
	ReasonsPerSecond int
	// Observer receives scheduling events, for metrics. Default: none.
	Observer Observer
	// ScaleUp is called when the calls of a pool need more workers than before. It is called with the scheduler's
	// lock held; it must not block and must not call back. Default: none.
	ScaleUp func(pool types.NamespacedName)
}

// Observer receives scheduling events. Its methods are called with the scheduler's lock held; they must not block and
// must not call back.
type Observer interface {
	// Assigned is called when a stage is assigned to a worker, with the time since the scan became ready for it.
	Assigned(pool string, stage v1alpha1.StageName, waited time.Duration)
	// Settled is called when a run of a stage has ended.
	Settled(run StageRun)
	// Dispatched is called when an assignment is stored, with the time since it was decided.
	Dispatched(took time.Duration)
	// WriteFailed is called when a status could not be stored: an assign, release, reject or reason.
	WriteFailed(kind string)
}

// StageRun is one run of a stage that has ended.
type StageRun struct {
	// Budget and Model are empty for stages that need no tokens.
	Budget, Model string
	Stage         v1alpha1.StageName
	// Canary is true for a run on a worker with its pool's canary settings.
	Canary bool
	// Class is the failure class, empty for a success.
	Class v1alpha1.FailureClass
	// Reserved is what was reserved from the budget. Charged is what the provider charged, as proved by its headers;
	// zero without proof. In tokens.
	Reserved, Charged int64
	// Usage is what the provider reported.
	Usage v1alpha1.TokenUsage
	// Took is the duration at the worker.
	Took time.Duration
}

// Scheduler is the model and the loop. All methods are safe for concurrent use.
//
// Exported methods take the lock; unexported ones expect it to be held, except Run's.
type Scheduler struct {
	// Set by New and never changed: readable without the lock.
	opts Options
	clk  clock.WithTicker
	log  logr.Logger
	// wakeup holds one pending wake-up of the loop. restored is closed by Restore.
	wakeup   chan struct{}
	restored chan struct{}

	// mu guards everything below.
	mu sync.Mutex

	// The model: what watch events show, and what was decided since.
	scans   map[types.NamespacedName]*scanState
	pools   map[types.NamespacedName]*pool
	budgets map[types.NamespacedName]*budgetState
	workers map[types.NamespacedName]*worker
	// queue orders the scans that wait, and estimator learns what calls cost.
	queue     *queue.Queue
	estimator *budget.Estimator

	// Indexes of the model: updated together with it.

	// byStage lists the pools that run a stage, by name.
	byStage map[stageKey][]*pool
	// running counts the assignments by stage.
	running map[stageKey]int
	// groups is the group of each budget; see domain.
	groups map[types.NamespacedName]types.NamespacedName

	// Work for the next cycles, in order.

	// outbox holds writes that are not picks: releases and rejections.
	outbox []*write
	// expired holds workers whose Lease is to be removed.
	expired []Worker
	// reasonChecks holds scans whose reason for waiting is to be checked, toExplain those whose reason is to be written.
	reasonChecks []reasonCheck
	toExplain    []*scanState
	// reasons limits the rate of such writes.
	reasons *rate.Limiter
	// specsSettle is when the changed specs of a namespace will have stood for specSettle.
	specsSettle map[string]time.Time
	// blockedSince is how long each lane has been blocked for the same reason.
	blockedSince map[queue.Lane]laneWait

	// writes counts the writes under way, storing averages how long the store of an assignment takes, and nextID
	// numbers the assignments.
	// retries counts those of scans whose previous write failed.
	writes  int
	retries int
	storing time.Duration
	nextID  uint64

	// Scratch of the latest pick: cleared before the next one.

	// blocked is the reason why the first scan of each lane could not be assigned. It is read until the next pick.
	blocked map[queue.Lane]waitReason
	// claimed holds the budgets that accumulate tokens for the first scan in line, and until when. Scans behind it,
	// of other stages too, must not take these tokens.
	claimed map[types.NamespacedName]time.Time
	// requeue holds the scans that the queue dropped: no budget can ever admit them, or something that only concerns
	// them is in the way for a moment.
	requeue []*scanState
}

// stageKey finds the pools that run a stage.
type stageKey struct {
	namespace string
	stage     v1alpha1.StageName
}

// New returns an empty scheduler. Call Restore before Run.
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
		specsSettle:  map[string]time.Time{},
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

// wake makes the loop run another cycle.
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
func (noObserver) WriteFailed(string)                                 {}
