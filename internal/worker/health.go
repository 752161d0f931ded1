// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/utils/clock"
)

const (
	// pulseInterval is the time between two checks that the locks of the worker's state can be taken.
	pulseInterval = 5 * time.Second
	// pulseTimeout is the age of the last check at which the worker counts as dead. Neither the provider nor the API
	// server nor load can delay a check that long. Only a deadlock or a lack of processor time can.
	pulseTimeout = time.Minute
)

// Bounds of the health server, which serves only probes and scrapes.
const (
	headerTimeout   = 5 * time.Second
	exchangeTimeout = 30 * time.Second
	idleTimeout     = 2 * time.Minute
	maxHeaderBytes  = 16 << 10
	shutdownTimeout = time.Second
)

// health answers probes from the worker's own state.
type health struct {
	clock     clock.Clock
	lastPulse atomic.Int64 // Unix nanoseconds
	synced    atomic.Bool
	lease     *lease
}

func newHealth(clk clock.Clock, l *lease) *health {
	h := &health{clock: clk, lease: l}
	h.lastPulse.Store(clk.Now().UnixNano())
	return h
}

// pulse checks again and again that the worker is not stuck, until ctx ends. touch takes the locks of its state.
func (h *health) pulse(ctx context.Context, touch func()) {
	for {
		touch()
		h.lastPulse.Store(h.clock.Now().UnixNano())
		if sleep(ctx, h.clock, pulseInterval) != nil {
			return
		}
	}
}

// live is nil unless the worker is stuck.
func (h *health) live() error {
	if age := h.clock.Since(time.Unix(0, h.lastPulse.Load())); age > pulseTimeout {
		return fmt.Errorf("stuck for %s", age.Round(time.Second))
	}
	return nil
}

// ready is nil if the worker can take assignments.
func (h *health) ready() error {
	switch {
	case h.lease.isDraining():
		return errors.New("draining")
	case !h.synced.Load():
		return errors.New("the watch of the assignments has not synced")
	case !h.lease.registered():
		return errors.New("the Lease has not been created")
	default:
		return nil
	}
}

// handler serves /healthz, /readyz and /metrics.
func (h *health) handler(metrics prometheus.Gatherer) http.Handler {
	probe := func(check func() error) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			if err := check(); err != nil {
				http.Error(rw, err.Error(), http.StatusServiceUnavailable)
				return
			}
			fmt.Fprintln(rw, "ok")
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", probe(h.live))
	mux.HandleFunc("GET /readyz", probe(h.ready))
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	return mux
}

// serve serves the handler until ctx ends.
func serve(ctx context.Context, listener net.Listener, handler http.Handler, log logr.Logger) {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       exchangeTimeout,
		WriteTimeout:      exchangeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
	}
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			server.Close() //nolint:errcheck // the process ends
		}
	})
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Error(err, "health server stopped")
	}
}
