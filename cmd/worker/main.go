// Command worker runs the stages of scans that the manager's scheduler assigns to it.
//
// The first SIGTERM or SIGINT makes it take nothing new and finish what runs; a second one makes it hand back what
// runs at once; a third one ends it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	runtimemetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/eco2-team/scan-operator/internal/cli"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/pipeline/stages"
	"github.com/eco2-team/scan-operator/internal/provider"
	"github.com/eco2-team/scan-operator/internal/rewatch"
	"github.com/eco2-team/scan-operator/internal/tracing"
	"github.com/eco2-team/scan-operator/internal/worker"
)

func main() {
	var o options
	o.bind(flag.CommandLine, os.Getenv)
	err := cli.Parse(flag.CommandLine, envPrefix, os.Args[1:])
	if err == nil {
		err = o.validate()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
	log := zap.New(zap.UseFlagOptions(&o.zap))
	ctrl.SetLogger(log)
	klog.SetLogger(log)
	if err := run(o, log); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

// run works until the first signal and returns when the worker has left. An error means that it could not start.
func run(o options, log logr.Logger) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)

	pack, err := knowledge.LoadDir(o.knowledgeDir)
	if err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the API server: %w; set --kubeconfig or run in a cluster", err)
	}
	rewatch.Soon(config, clock.RealClock{}, log.WithName("apiserver"))
	work, leases, err := newClients(config, o)
	if err != nil {
		return err
	}
	tracer, flush, err := tracing.Start(context.Background(), "scan-worker", os.Getenv, log.WithName("tracing"))
	if err != nil {
		return err
	}
	defer flush()
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", o.healthAddr)
	if err != nil {
		return fmt.Errorf("--health-bind-address: %w", err)
	}
	log.Info("serving probes", "address", listener.Addr().String())
	endpoints := worker.NewEndpoints(work, o.namespace, o.defaultEndpoint)
	completer := tracing.TraceCalls(provider.New(provider.Options{
		Keys: provider.DirKeys(o.keysDir), Endpoints: endpoints, HTTPClient: provider.NewHTTPClient(o.capacity),
		Log: log.WithName("provider"),
	}), tracer)
	w, err := worker.New(worker.Options{
		Namespace: o.namespace, Pool: o.pool, Track: o.track, Stages: o.stages, Capacity: o.capacity,
		Pod: o.podName, PodUID: types.UID(o.podUID), DrainTimeout: o.drainTimeout,
		Client: work, LeaseClient: leases,
		Runner: tracing.TraceStages(stages.NewRunner(pack, completer, clock.RealClock{}), tracer, clock.RealClock{}),
		Clock:  clock.RealClock{}, Log: log.WithName("worker"),
		Registry: runtimemetrics.Registry, Gatherer: runtimemetrics.Registry, Listener: listener,
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}

	draining, drain := context.WithCancel(context.Background())
	defer drain()
	life, end := context.WithCancel(context.Background())
	go obey(life, signals, drain, w.HandBack)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		endpoints.Run(life)
	}()
	w.Run(draining)
	end()
	<-followed
	return nil
}

// obey turns the first signal into a drain and the second into a hand-back. The third has its usual effect. It
// returns when it has nothing left to do or ctx ends.
func obey(ctx context.Context, signals chan os.Signal, orders ...func()) {
	for _, order := range orders {
		select {
		case <-signals:
			order()
		case <-ctx.Done():
			return
		}
	}
	signal.Stop(signals)
}
