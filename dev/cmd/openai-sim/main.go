// Command openai-sim runs the simulated LLM provider: the endpoints, limits,
// errors and latency of the real one, with faults on demand. See
// "curl http://127.0.0.1:9090/sim" for its controls.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/eco2-team/scan-operator/dev/openaisim"
)

const (
	readHeaderTimeout = 10 * time.Second
	// maxStreams is how many calls one HTTP/2 connection carries at a time.
	maxStreams = 1000
)

func main() {
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := start(os.Args[1:], logger); err != nil {
		logger.Error("openai-sim failed", "error", err)
		os.Exit(1)
	}
}

// start reads the settings and serves until a signal arrives.
func start(args []string, logger *slog.Logger) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parseOptions(args, os.Stderr)
	if errors.Is(err, errHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	return run(ctx, o, logger)
}

// run serves until ctx ends, then lets calls in flight finish.
func run(ctx context.Context, o *options, logger *slog.Logger) error {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", o.bindAddress)
	if err != nil {
		return fmt.Errorf("listening on %s: %w (choose another address with --bind-address)", o.bindAddress, err)
	}
	return serve(ctx, listener, o, logger)
}

// serve serves on a listener until ctx ends.
func serve(ctx context.Context, listener net.Listener, o *options, logger *slog.Logger) error {
	// Calls in flight outlive the signal, not the grace period.
	calls, cutOff := context.WithCancel(context.WithoutCancel(ctx))
	defer cutOff()
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
		return fmt.Errorf("serving on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	logger.Info("shutting down", "grace", o.grace)
	grace, done := context.WithTimeout(calls, o.grace)
	defer done()
	err := server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		logger.Info("cutting off the calls that are left")
		cutOff()
		err = server.Close()
	}
	if closed := <-served; !errors.Is(closed, http.ErrServerClosed) {
		err = errors.Join(err, closed)
	}
	if err != nil {
		return fmt.Errorf("shutting down: %w", err)
	}
	return nil
}
