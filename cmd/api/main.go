// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command api serves the HTTP API of the scans of one namespace.
//
// The first SIGTERM or SIGINT makes it fail readiness, end the event streams and answer the requests that run; a
// second one ends it.
package main

import (
	"context"
	"fmt"
	"net"

	"k8s.io/apimachinery/pkg/runtime"
	runtimemetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/cli"
	"github.com/eco2-team/scan-operator/internal/httpapi"
	"github.com/eco2-team/scan-operator/internal/kube"
	"github.com/eco2-team/scan-operator/internal/tracing"
)

func main() { cli.Main(command()) }

func command() cli.Command {
	var o options
	return cli.Command{
		Name: "scan-api", EnvPrefix: envPrefix,
		Summary: "Serves the HTTP API of the scans of a namespace.",
		Bind:    o.bind, Validate: o.validate,
		Run: func(ctx context.Context, p *cli.Process) error { return run(ctx, o, p) },
	}
}

// run serves until ctx ends and the server has drained.
func run(ctx context.Context, o options, p *cli.Process) error {
	config, err := kube.Config(p.Log)
	if err != nil {
		return err
	}
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
	queue, err := newQueue(o, p.Log)
	if err != nil {
		return err
	}
	categories, err := loadCategories(o.knowledgeDir)
	if err != nil {
		return cli.Misconfigured(fmt.Errorf("--knowledge-dir: %w", err))
	}
	tlsConfig, watchCertificate, err := newTLS(o)
	if err != nil {
		return cli.Misconfigured(err)
	}
	tracer, flush, err := tracing.Start(ctx, "scan-api", p.Getenv, p.Log.WithName("tracing"))
	if err != nil {
		return cli.Misconfigured(err)
	}
	defer flush()
	server, err := httpapi.New(httpapi.Options{
		Namespace: o.namespace, Scans: backend, Models: backend, Synced: backend.Synced,
		Categories: categories, Queue: queue, Authenticator: authenticator, AllowedOrigins: o.origins(),
		MaxEstimatedWait: o.maxEstimatedWait, MaxUnfinishedPerUser: o.maxUnfinishedPerUser, MaxUnfinished: o.maxUnfinished,
		MaxStreams: o.maxStreams, MaxStreamsPerUser: o.maxStreamsPerUser, Keepalive: o.keepalive,
		Tracer: tracer, Log: p.Log.WithName("api"), MetricsRegistry: runtimemetrics.Registry,
	})
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.bindAddress)
	if err != nil {
		return fmt.Errorf("listen on --bind-address: %w", err)
	}
	serve := func(ctx context.Context) error {
		return server.Serve(ctx, listener, httpapi.ServeOptions{
			TLS: tlsConfig, DrainDelay: o.drainDelay, ShutdownTimeout: o.shutdownTimeout,
		})
	}
	watchScans := func(ctx context.Context) error { return backend.Run(ctx, server.WatchHandler()) }
	return runAll(ctx, serve, watchScans, queue.Run, watchCertificate)
}
