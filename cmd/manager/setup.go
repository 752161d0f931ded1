package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/controllers"
	scanmetrics "github.com/eco2-team/scan-operator/internal/metrics"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

// setup builds the scheduler and the controllers and hands them to the manager.
func setup(ctx context.Context, mgr ctrl.Manager, o options, pack *knowledge.Pack) error {
	clk := clock.RealClock{}
	status := &controllers.StatusWriter{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Clock: clk}
	keys := &controllers.KeyReader{Live: mgr.GetAPIReader()}
	sched := scheduler.New(scheduler.Options{
		Clock: clk, Pack: pack, Log: mgr.GetLogger().WithName("scheduler"),
		Incarnation: strings.ToLower(rand.Text()[:8]),
		MaxWrites:   o.maxWrites,
		Observer:    scanmetrics.NewDecisions(metrics.Registry),
	})
	metrics.Registry.MustRegister(scanmetrics.NewLevels(sched))
	notifier := controllers.NewLoadNotifier(mgr.GetCache(), sched, clk, o.namespace)

	// Warm on every replica, so that a new leader starts from full caches.
	for _, obj := range []client.Object{&v1alpha1.ScanRequest{}, &v1alpha1.WorkerPool{}, &v1alpha1.TokenBudget{}, &coordinationv1.Lease{}} {
		if _, err := mgr.GetCache().GetInformer(ctx, obj); err != nil {
			return fmt.Errorf("watch %T: %w", obj, err)
		}
	}
	runner := &controllers.SchedulerRunner{
		Cache: mgr.GetCache(), Scheduler: sched, Status: status, Keys: keys, Namespace: o.namespace,
		Log: mgr.GetLogger().WithName("scheduler"),
	}
	if err := mgr.Add(runner); err != nil {
		return fmt.Errorf("add the scheduler: %w", err)
	}
	if err := mgr.Add(notifier); err != nil {
		return fmt.Errorf("add the load notifier: %w", err)
	}
	if err := (&controllers.ScanRequestReconciler{Client: mgr.GetClient(), Status: status, Clock: clk}).
		SetupWithManager(mgr, o.scanWorkers); err != nil {
		return fmt.Errorf("set up controller scanrequest: %w", err)
	}
	if err := (&controllers.TokenBudgetReconciler{
		Client: mgr.GetClient(), Scheduler: sched, Keys: keys, Clock: clk,
		Recorder: mgr.GetEventRecorder("tokenbudget"), DefaultEndpoint: o.defaultEndpoint, Loads: notifier.Budgets(),
	}).SetupWithManager(mgr); err != nil {
		return fmt.Errorf("set up controller tokenbudget: %w", err)
	}
	if err := (&controllers.WorkerPoolReconciler{
		Client: mgr.GetClient(), Scheduler: sched, Clock: clk,
		Recorder: mgr.GetEventRecorder("workerpool"), Loads: notifier.Pools(),
		Workers: controllers.WorkerDefaults{
			Image: o.workerImage, ServiceAccountName: o.workerAccount,
			DefaultEndpoint: o.defaultEndpoint, KnowledgeConfigMap: o.knowledgeConfigMap,
		},
	}).SetupWithManager(mgr); err != nil {
		return fmt.Errorf("set up controller workerpool: %w", err)
	}
	if err := mgr.AddHealthzCheck("healthz", healthz.Ping); err != nil {
		return fmt.Errorf("add the health check: %w", err)
	}
	if err := mgr.AddReadyzCheck("caches", ready(mgr)); err != nil {
		return fmt.Errorf("add the readiness check: %w", err)
	}
	return nil
}
