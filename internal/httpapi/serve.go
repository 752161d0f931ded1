// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/go-logr/logr"
)

// limits bound a connection, so that a client that sends its request slowly does not hold it for long.
type limits struct {
	readHeader, read, answer, idle time.Duration
	headerBytes                    int
}

var defaultLimits = limits{
	readHeader: 5 * time.Second, read: 15 * time.Second, answer: 30 * time.Second, idle: 2 * time.Minute,
	headerBytes: 16 << 10,
}

// ServeOptions configure how a Server listens and stops.
type ServeOptions struct {
	// TLS serves HTTPS if it is set.
	TLS *tls.Config
	// DrainDelay is the time between readiness failing and streams ending, for load balancers to send requests to other
	// replicas. Default: none.
	DrainDelay time.Duration
	// ShutdownTimeout bounds the time for running requests to finish after that. Default 10 s.
	ShutdownTimeout time.Duration

	limits limits // default defaultLimits
}

// Serve serves requests on a listener until ctx is done. Then readiness fails; after DrainDelay the streams end and no
// more connections are accepted; it returns when every request is served or ShutdownTimeout has passed. It closes the
// listener.
func (s *Server) Serve(ctx context.Context, listener net.Listener, o ServeOptions) error {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(o.TLS == nil) // HTTP/2 without TLS, as gateways use it
	connection := cmp.Or(o.limits, defaultLimits)
	server := &http.Server{
		Handler:           s,
		Protocols:         protocols,
		TLSConfig:         o.TLS,
		ReadHeaderTimeout: connection.readHeader, ReadTimeout: connection.read,
		WriteTimeout: connection.answer, IdleTimeout: connection.idle, MaxHeaderBytes: connection.headerBytes,
		// Requests outlive ctx: they are served while the server drains.
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		// A client that disconnects is not an error of the server.
		ErrorLog: slog.NewLogLogger(logr.ToSlogHandler(s.log.V(1)), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() {
		if o.TLS != nil {
			served <- server.ServeTLS(listener, "", "")
			return
		}
		served <- server.Serve(listener)
	}()
	s.log.Info("serving", "address", listener.Addr().String(), "tls", o.TLS != nil)

	select {
	case err := <-served:
		s.EndStreams()
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	s.log.Info("draining", "delay", o.DrainDelay.String())
	s.Drain()
	if o.DrainDelay > 0 {
		<-s.clock.After(o.DrainDelay)
	}
	s.EndStreams()
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), cmp.Or(o.ShutdownTimeout, 10*time.Second))
	defer cancel()
	err := server.Shutdown(stopping)
	if err != nil {
		err = errors.Join(fmt.Errorf("requests did not finish in time: %w", err), server.Close())
	}
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	s.log.Info("stopped")
	return err
}
