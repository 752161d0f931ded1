// Command api serves the HTTP API of the scans of one namespace.
//
// SIGTERM or SIGINT makes it fail readiness, end the streams and answer what runs; a second one ends it.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	runtimemetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/cli"
	"github.com/eco2-team/scan-operator/internal/httpapi"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/queuestatus"
	"github.com/eco2-team/scan-operator/internal/rewatch"
	"github.com/eco2-team/scan-operator/internal/tracing"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

func main() {
	var o options
	o.bind(flag.CommandLine, os.Getenv)
	err := cli.Parse(flag.CommandLine, envPrefix, os.Args[1:])
	if err == nil {
		err = o.validate()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "api:", err)
		os.Exit(1)
	}
	log := zap.New(zap.UseFlagOptions(&o.zap))
	ctrl.SetLogger(log)
	klog.SetLogger(log)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	// From the first signal on, signals have their usual effect again.
	context.AfterFunc(ctx, stop)
	err = run(ctx, o, log)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "api:", err)
		os.Exit(1)
	}
}

// run serves until ctx is done and the server has drained.
func run(ctx context.Context, o options, log logr.Logger) error {
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the API server: %w; set --kubeconfig or run in a cluster", err)
	}
	rewatch.Soon(config, clock.RealClock{}, log.WithName("apiserver"))
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return fmt.Errorf("register the API types: %w", err)
	}
	backend, err := httpapi.NewBackend(config, scheme, o.namespace)
	if err != nil {
		return err
	}
	authenticator, err := newAuthenticator(o, config)
	if err != nil {
		return err
	}
	queue, err := newQueue(o, log)
	if err != nil {
		return err
	}
	categories, err := loadCategories(o.knowledgeDir)
	if err != nil {
		return err
	}
	tracer, flush, err := tracing.Start(ctx, "scan-api", os.Getenv, log.WithName("tracing"))
	if err != nil {
		return err
	}
	defer flush()
	server, err := httpapi.New(httpapi.Options{
		Namespace: o.namespace, Scans: backend, Models: backend, Synced: backend.Synced,
		Categories: categories, Queue: queue, Authenticator: authenticator, AllowedOrigins: o.origins(),
		MaxEstimatedWait: o.maxEstimatedWait, MaxUnfinishedPerUser: o.maxUnfinishedPerUser, MaxUnfinished: o.maxUnfinished,
		MaxStreams: o.maxStreams, MaxStreamsPerUser: o.maxStreamsPerUser, Keepalive: o.keepalive,
		Tracer: tracer, Log: log.WithName("api"), MetricsRegistry: runtimemetrics.Registry,
	})
	if err != nil {
		return err
	}
	tlsConfig, certificate, err := newTLS(o)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.bindAddress)
	if err != nil {
		return fmt.Errorf("--bind-address: %w", err)
	}
	serve := func(ctx context.Context) error {
		return server.Serve(ctx, listener, httpapi.ServeOptions{
			TLS: tlsConfig, DrainDelay: o.drainDelay, ShutdownTimeout: o.shutdownTimeout,
		})
	}
	watch := func(ctx context.Context) error { return backend.Run(ctx, server.WatchHandler()) }
	return runAll(ctx, serve, watch, queue.Run, certificate)
}

// runAll runs serve until ctx is done or something fails, and the others for as long as serve needs them.
func runAll(ctx context.Context, serve func(context.Context) error, others ...func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// A server that drains still answers polls and streams.
	lasting, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	results := make(chan error, len(others))
	for _, other := range others {
		go func() {
			err := other(lasting)
			stop()
			results <- err
		}()
	}
	err := serve(ctx)
	end()
	for range others {
		err = errors.Join(err, <-results)
	}
	return err
}

// newTLS returns the configuration that serves the certificate, nil for plain HTTP, and what keeps it current.
func newTLS(o options) (*tls.Config, func(context.Context) error, error) {
	if o.tlsCertFile == "" {
		return nil, func(ctx context.Context) error { <-ctx.Done(); return nil }, nil
	}
	watcher, err := certwatcher.New(o.tlsCertFile, o.tlsKeyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("read --tls-cert-file and --tls-key-file: %w", err)
	}
	return &tls.Config{GetCertificate: watcher.GetCertificate, MinVersion: tls.VersionTLS12}, watcher.Start, nil
}

// newQueue returns the client of the leader among --queue-urls. Without any, no position or wait is known.
func newQueue(o options, log logr.Logger) (*queuestatus.Client, error) {
	urls, err := queuestatus.ParseURLs(o.queueURLs)
	if err != nil {
		return nil, fmt.Errorf("--queue-urls: %w", err)
	}
	return queuestatus.NewClient(queuestatus.ClientOptions{
		Namespace: o.namespace, URLs: urls, MetricsRegistry: runtimemetrics.Registry, Log: log.WithName("queue"),
	})
}

// loadCategories lists the classes of waste of a knowledge pack.
func loadCategories(dir string) ([]scanapi.Category, error) {
	pack, err := knowledge.LoadDir(dir)
	if err != nil {
		return nil, err
	}
	var categories []scanapi.Category
	for _, c := range pack.Categories() {
		categories = append(categories, scanapi.Category{
			ID: c.ID, Name: c.Name, DisplayName: c.DisplayName, Instructions: append([]string{}, c.Instructions...),
		})
	}
	return categories, nil
}
