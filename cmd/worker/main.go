// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command worker runs the stages of scans that the manager's scheduler assigns to it.
//
// The first SIGTERM or SIGINT makes it drain: it takes nothing new and finishes its calls. The second one makes it
// release its calls at once, for other workers to repeat. The third one ends it.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	runtimemetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/eco2-team/scan-operator/internal/cli"
	"github.com/eco2-team/scan-operator/internal/kube"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/pipeline/stages"
	"github.com/eco2-team/scan-operator/internal/provider"
	"github.com/eco2-team/scan-operator/internal/tracing"
	"github.com/eco2-team/scan-operator/internal/worker"
)

func main() { cli.Main(command()) }

func command() cli.Command {
	var o options
	return cli.Command{
		Name: "scan-worker", EnvPrefix: envPrefix,
		Summary: "Runs the stages of scans that the manager assigns to it.",
		Bind:    o.bind, Validate: o.validate,
		Run: func(ctx context.Context, p *cli.Process) error { return run(ctx, o, p) },
	}
}

// run works until ctx ends and returns when the worker has drained. An error means that it could not start.
func run(ctx context.Context, o options, p *cli.Process) error {
	pack, err := knowledge.LoadDir(o.knowledgeDir)
	if err != nil {
		return cli.Misconfigured(fmt.Errorf("--knowledge-dir: %w", err))
	}
	config, err := kube.Config(p.Log)
	if err != nil {
		return err
	}
	work, leases, err := newClients(config, o)
	if err != nil {
		return err
	}
	lifetime, end := context.WithCancel(context.WithoutCancel(ctx)) // until the worker has drained
	defer end()
	tracer, flush, err := tracing.Start(lifetime, "scan-worker", p.Getenv, p.Log.WithName("tracing"))
	if err != nil {
		return cli.Misconfigured(err)
	}
	defer flush()
	listener, err := (&net.ListenConfig{}).Listen(lifetime, "tcp", o.probeAddr)
	if err != nil {
		return fmt.Errorf("listen on --health-probe-bind-address: %w", err)
	}
	p.Log.Info("serving probes", "address", listener.Addr().String())
	endpoints := worker.NewEndpoints(work, o.namespace, o.defaultEndpoint)
	leaderClock := worker.NewLeaderClock(clock.RealClock{})
	completer := tracing.TraceCalls(provider.New(provider.Options{
		Keys: provider.DirKeys(o.keysDir), Endpoints: endpoints, HTTPClient: provider.NewHTTPClient(o.capacity),
		Clock: leaderClock, Log: p.Log.WithName("provider"),
	}), tracer)
	w, err := worker.New(worker.Options{
		Namespace: o.namespace, Pool: o.pool, Track: o.track, Stages: o.stages, Capacity: o.capacity,
		Pod: o.podName, PodUID: types.UID(o.podUID), DrainTimeout: o.drainTimeout,
		Client: work, LeaseClient: leases,
		Runner: tracing.TraceStages(stages.NewRunner(pack, completer, leaderClock), tracer, leaderClock),
		Clock:  clock.RealClock{}, LeaderClock: leaderClock, Log: p.Log.WithName("worker"),
		Registry: runtimemetrics.Registry, Gatherer: runtimemetrics.Registry, Listener: listener,
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	p.OnSecondSignal(w.HandBack)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		endpoints.Run(lifetime)
	}()
	w.Run(ctx)
	end()
	<-watched
	return nil
}
