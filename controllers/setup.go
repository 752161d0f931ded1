// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/controllers/dispatch"
	"github.com/eco2-team/scan-operator/controllers/retention"
	"github.com/eco2-team/scan-operator/controllers/rewards"
	"github.com/eco2-team/scan-operator/controllers/scanrequest"
	"github.com/eco2-team/scan-operator/controllers/tokenbudget"
	"github.com/eco2-team/scan-operator/controllers/workerpool"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/scanstatus"
	"github.com/eco2-team/scan-operator/internal/scheduler"
	scanmetrics "github.com/eco2-team/scan-operator/internal/scheduler/metrics"
)

// Options configure what Setup builds.
type Options struct {
	// Namespace is the namespace of scans, pools and budgets.
	Namespace string
	// Pack is the knowledge pack; the workers must have the same.
	Pack *knowledge.Pack
	// Workers are the defaults of worker pods.
	Workers workerpool.WorkerDefaults
	// MaxWrites bounds the scheduler's concurrent status writes.
	MaxWrites int
	// ScanConcurrency is the number of ScanRequests that are reconciled concurrently.
	ScanConcurrency int
	// MaxFinished bounds the finished scans of a namespace; the oldest ones beyond it are deleted. 0 means unlimited.
	MaxFinished int
	// Clock is the source of time.
	Clock clock.WithTicker
	// Rewards receives the reward of each finished scan; nil disables it.
	Rewards rewards.Poster
	// QueueAddress is where the leader serves the positions of waiting scans; empty for nowhere.
	QueueAddress string
	// Registry takes the metrics.
	Registry prometheus.Registerer
}

// Setup builds the scheduler and the controllers and adds them to the manager, which starts them when it leads.
func Setup(ctx context.Context, mgr ctrl.Manager, o Options) error {
	clk := o.Clock
	status := scanstatus.New(scanstatus.Options{
		Client: mgr.GetClient(), APIReader: mgr.GetAPIReader(), Clock: clk, Log: mgr.GetLogger().WithName("scanstatus"),
		Policy: scanstatus.GiveUp,
	})
	keys := &tokenbudget.SecretChecker{APIReader: mgr.GetAPIReader()}
	scaleUp := dispatch.NewScaleUpSignal()
	sched := scheduler.New(scheduler.Options{
		Clock: clk, Pack: o.Pack, Log: mgr.GetLogger().WithName("scheduler"),
		LeaderTerm: strings.ToLower(rand.Text()[:8]),
		MaxWrites:  o.MaxWrites,
		Observer:   scanmetrics.NewDecisions(o.Registry),
		ScaleUp:    scaleUp.Raise,
	})
	o.Registry.MustRegister(scanmetrics.NewLevels(sched))
	notifier := dispatch.NewLoadNotifier(mgr.GetCache(), sched, scaleUp, clk, o.Namespace)

	// Every replica fills its caches, so that a new leader starts at once.
	for _, obj := range []client.Object{&v1alpha1.ScanRequest{}, &v1alpha1.WorkerPool{}, &v1alpha1.TokenBudget{}, &coordinationv1.Lease{}} {
		if _, err := mgr.GetCache().GetInformer(ctx, obj); err != nil {
			return fmt.Errorf("watch %T: %w", obj, err)
		}
	}
	runner := &dispatch.Runner{
		Cache: mgr.GetCache(), APIReader: mgr.GetAPIReader(), Client: mgr.GetClient(), Scheduler: sched, Status: status, Keys: keys, Namespace: o.Namespace, Clock: clk,
		Log: mgr.GetLogger().WithName("scheduler"),
	}
	if err := mgr.Add(runner); err != nil {
		return fmt.Errorf("add the scheduler: %w", err)
	}
	if o.Rewards != nil {
		if err := (&rewards.Reconciler{Client: mgr.GetClient(), Poster: o.Rewards}).SetupWithManager(mgr); err != nil {
			return fmt.Errorf("set up controller rewards: %w", err)
		}
	}
	if o.QueueAddress != "" {
		if err := mgr.Add(&dispatch.QueueServer{Address: o.QueueAddress, Scheduler: sched, Log: mgr.GetLogger().WithName("queue")}); err != nil {
			return fmt.Errorf("add the queue's server: %w", err)
		}
	}
	if err := mgr.Add(notifier); err != nil {
		return fmt.Errorf("add the load notifier: %w", err)
	}
	if err := (&scanrequest.Reconciler{Client: mgr.GetClient(), Status: status, Clock: clk}).
		SetupWithManager(mgr, o.ScanConcurrency); err != nil {
		return fmt.Errorf("set up controller scanrequest: %w", err)
	}
	if o.MaxFinished > 0 {
		if err := (&retention.Reconciler{Client: mgr.GetClient(), Clock: clk, Max: o.MaxFinished}).SetupWithManager(mgr); err != nil {
			return fmt.Errorf("set up controller retention: %w", err)
		}
	}
	if err := (&tokenbudget.Reconciler{
		Client: mgr.GetClient(), Scheduler: sched, Keys: keys, Clock: clk,
		Recorder: mgr.GetEventRecorder("tokenbudget"), DefaultEndpoint: o.Workers.DefaultEndpoint, Loads: notifier.Budgets(),
	}).SetupWithManager(mgr); err != nil {
		return fmt.Errorf("set up controller tokenbudget: %w", err)
	}
	if err := (&workerpool.Reconciler{
		Client: mgr.GetClient(), APIReader: mgr.GetAPIReader(), Scheduler: sched, Clock: clk,
		Recorder: mgr.GetEventRecorder("workerpool"), Loads: notifier.Pools(),
		Workers: o.Workers,
	}).SetupWithManager(mgr); err != nil {
		return fmt.Errorf("set up controller workerpool: %w", err)
	}
	return nil
}
