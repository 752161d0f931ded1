// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command openai-sim runs the simulated LLM provider: the endpoints, limits, errors and latency of the real one, with
// faults on demand. "curl http://127.0.0.1:9090/sim" lists its controls.
//
// The first SIGTERM or SIGINT makes it finish the calls in flight; a second one ends it.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/go-logr/logr"

	"github.com/eco2-team/scan-operator/dev/openaisim"
	"github.com/eco2-team/scan-operator/internal/cli"
)

const (
	readHeaderTimeout = 10 * time.Second
	// maxStreams is the limit of concurrent calls on one HTTP/2 connection.
	maxStreams = 1000
)

func main() { cli.Main(command()) }

func command() cli.Command {
	var o options
	return cli.Command{
		Name: "openai-sim", EnvPrefix: envPrefix,
		Summary: "Simulates the LLM provider: its endpoints, limits, errors and latency.",
		Bind:    o.bind, Validate: o.validate,
		Run: func(ctx context.Context, p *cli.Process) error {
			return run(ctx, &o, slog.New(logr.ToSlogHandler(p.Log)))
		},
	}
}

// run serves until ctx ends, then lets calls in flight finish.
func run(ctx context.Context, o *options, logger *slog.Logger) error {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", o.bindAddress)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; choose another address with --bind-address", o.bindAddress, err)
	}
	return serve(ctx, listener, o, logger)
}

// serve serves on a listener until ctx ends.
func serve(ctx context.Context, listener net.Listener, o *options, logger *slog.Logger) error {
	// Calls in flight outlive the signal, not the grace period.
	calls, endCalls := context.WithCancel(context.WithoutCancel(ctx))
	defer endCalls()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	sim := openaisim.New(openaisim.Options{Config: o.config, Logger: logger})
	server := &http.Server{
		Handler:           sim.Handler(),
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ReadHeaderTimeout: readHeaderTimeout,
		BaseContext:       func(net.Listener) context.Context { return calls },
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	config := sim.Config()
	logger.Info("serving", "address", listener.Addr().String(), "tls", o.tlsCert != "", "speed", config.Speed,
		"tokensPerMinute", config.TokensPerMinute, "requestsPerMinute", config.RequestsPerMinute)

	served := make(chan error, 1)
	go func() {
		if o.tlsCert != "" {
			served <- server.ServeTLS(listener, o.tlsCert, o.tlsKey)
			return
		}
		served <- server.Serve(listener)
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	logger.Info("shutting down", "grace", o.grace)
	grace, done := context.WithTimeout(calls, o.grace)
	defer done()
	err := server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		logger.Info("ending the calls that are left")
		endCalls()
		err = server.Close()
	}
	if closed := <-served; !errors.Is(closed, http.ErrServerClosed) {
		err = errors.Join(err, closed)
	}
	if err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	return nil
}
