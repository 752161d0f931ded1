// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/controllers"
	"github.com/eco2-team/scan-operator/controllers/workerpool"
	"github.com/eco2-team/scan-operator/internal/kube"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/pipeline/stages"
	llm "github.com/eco2-team/scan-operator/internal/provider"
	"github.com/eco2-team/scan-operator/internal/worker"
	"github.com/eco2-team/scan-operator/test/testenv"
)

// unlimited is a client's configuration without a limit on requests of its own.
func unlimited(config *rest.Config) *rest.Config {
	config.QPS = -1
	return config
}

// managerOptions are a test's settings of a manager in its own process.
type managerOptions struct {
	// clock is the real one by default.
	clock clock.WithTicker
}

// startManager runs a manager in this process, with the rights of its account. The returned function stops it in
// order and returns when it has ended; so does the end of the test.
func (w *world) startManager(o managerOptions) (stop func()) {
	w.t.Helper()
	if o.clock == nil {
		o.clock = clock.RealClock{}
	}
	config := unlimited(controlPlane.As(w.namespace, testenv.AccountManager))
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        scheme,
		MapperProvider:                kube.MapperProvider,
		Logger:                        w.logs.logger("manager"),
		Metrics:                       metricsserver.Options{BindAddress: "0"},
		LeaderElection:                true,
		LeaderElectionID:              "scan-operator-leader",
		LeaderElectionNamespace:       w.namespace,
		LeaderElectionReleaseOnCancel: true,
		Controller:                    ctrlconfig.Controller{SkipNameValidation: new(true)}, // several managers, one process
		Cache: cache.Options{
			DefaultNamespaces: map[string]cache.Config{w.namespace: {}},
			DefaultTransform:  cache.TransformStripManagedFields(),
		},
	})
	if err != nil {
		w.t.Fatalf("make a manager: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := controllers.Setup(ctx, mgr, controllers.Options{
		Namespace: w.namespace, Pack: knowledge.Default(), MaxWrites: 64, ScanConcurrency: 4,
		Workers: workerpool.WorkerDefaults{Image: "scan-worker:test", ServiceAccountName: testenv.AccountWorker},
		Clock:   o.clock, Registry: prometheus.NewRegistry(),
	}); err != nil {
		cancel()
		w.t.Fatalf("set up the manager: %v", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := mgr.Start(ctx); err != nil {
			w.t.Errorf("the manager ended: %v", err)
		}
	}()
	stop = func() {
		cancel()
		<-ended
	}
	w.t.Cleanup(stop)
	return stop
}

// workers counts the workers of this process, for the names of their pods.
var workers atomic.Int64

// podName names a pod that no other worker has.
func podName(pool string) string { return pool + "-" + strconv.FormatInt(workers.Add(1), 10) }

// startWorker runs a worker in this process, with the rights of its account. The returned function drains it and
// returns when it has left; so does the end of the test.
func (w *world) startWorker(pool string, names ...v1alpha1.StageName) (stop func()) {
	w.t.Helper()
	config := unlimited(controlPlane.As(w.namespace, testenv.AccountWorker))
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		w.t.Fatalf("make a client: %v", err)
	}
	log := w.logs.logger("worker " + pool)
	endpoints := worker.NewEndpoints(c, w.namespace, w.provider.url)
	completer := llm.New(llm.Options{
		Keys: llm.DirKeys(w.keysDir), Endpoints: endpoints, HTTPClient: llm.NewHTTPClient(100), Log: log,
	})
	registry := prometheus.NewRegistry()
	work, err := worker.New(worker.Options{
		Namespace: w.namespace, Pool: pool, Stages: names, Capacity: 100,
		Pod: podName(pool), DrainTimeout: 10 * time.Second, Client: c, LeaseClient: c,
		Runner: stages.NewRunner(knowledge.Default(), completer, clock.RealClock{}),
		Clock:  clock.RealClock{}, Log: log, Registry: registry, Gatherer: registry,
	})
	if err != nil {
		w.t.Fatalf("make a worker: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	following, unfollow := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { endpoints.Run(following) })
	parts.Go(func() {
		defer unfollow()
		work.Run(ctx)
	})
	stop = func() {
		cancel()
		parts.Wait()
	}
	w.t.Cleanup(stop)
	return stop
}
