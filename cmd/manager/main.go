// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command manager runs the scheduler and the controllers. Several may run: one leads, and the others keep their caches
// filled to take over.
//
// The first SIGTERM or SIGINT makes it finish its reconciliations and give up its lead; a second one ends it.
package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-logr/logr"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/eco2-team/scan-operator/controllers"
	"github.com/eco2-team/scan-operator/controllers/workerpool"
	"github.com/eco2-team/scan-operator/internal/cli"
	"github.com/eco2-team/scan-operator/internal/kube"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/rewardhook"
)

func main() { cli.Main(command()) }

func command() cli.Command {
	var o options
	return cli.Command{
		Name: "scan-manager", EnvPrefix: envPrefix,
		Summary: "Schedules the scans of a namespace, and keeps its worker pools and token budgets.",
		Bind:    o.bind, Validate: o.validate,
		Run: func(ctx context.Context, p *cli.Process) error { return run(ctx, o, p.Log) },
	}
}

// run works until ctx ends or the lead is lost.
func run(ctx context.Context, o options, log logr.Logger) error {
	pack, err := knowledge.LoadDir(o.knowledgeDir)
	if err != nil {
		return cli.Misconfigured(fmt.Errorf("--knowledge-dir: %w", err))
	}
	config, err := kube.Config(log)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = float32(o.qps), o.burst
	mgr, err := newManager(config, o)
	if err != nil {
		return err
	}
	setup := controllers.Options{
		Namespace: o.namespace, Pack: pack, MaxWrites: o.maxStatusWrites, ScanConcurrency: o.scanConcurrency,
		QueueAddress: o.queueAddr, MaxFinished: o.maxFinished,
		Clock: clock.RealClock{}, Registry: metrics.Registry,
		Workers: workerpool.WorkerDefaults{
			Image: o.workerImage, ServiceAccountName: o.workerAccount,
			DefaultEndpoint: o.defaultEndpoint, KnowledgeConfigMap: o.knowledgeConfigMap,
		},
	}
	if o.webhookURL != "" {
		setup.Rewards = &rewardhook.Client{URL: o.webhookURL, TokenFile: o.webhookTokenFile}
	}
	if err := controllers.Setup(ctx, mgr, setup); err != nil {
		return err
	}
	if err := mgr.AddHealthzCheck("healthz", healthz.Ping); err != nil {
		return fmt.Errorf("add the health check: %w", err)
	}
	if err := mgr.AddReadyzCheck("caches", ready(mgr)); err != nil {
		return fmt.Errorf("add the readiness check: %w", err)
	}
	if err := mgr.Start(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("run the controllers: %w", err)
	}
	return nil
}
