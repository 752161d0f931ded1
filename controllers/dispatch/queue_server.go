// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/eco2-team/scan-operator/internal/queuestatus/server"
)

// QueueServer serves the positions of waiting scans while this process is the leader. The others refuse the
// connection, so that a client finds the leader by trying.
type QueueServer struct {
	// Address is host:port.
	Address   string
	Scheduler server.Scheduler
	Log       logr.Logger
}

var (
	_ manager.Runnable               = (*QueueServer)(nil)
	_ manager.LeaderElectionRunnable = (*QueueServer)(nil)
)

// NeedLeaderElection makes only the leader serve: only its scheduler runs.
func (s *QueueServer) NeedLeaderElection() bool { return true }

// Start serves until ctx ends.
func (s *QueueServer) Start(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.Address)
	if err != nil {
		return fmt.Errorf("listen on --queue-bind-address: %w", err)
	}
	httpServer := &http.Server{
		Handler:           server.Handler(s.Scheduler),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute,
	}
	stopped := make(chan error, 1)
	go func() { stopped <- httpServer.Serve(listener) }()
	s.Log.Info("serving the queue", "address", listener.Addr().String())
	select {
	case err := <-stopped:
		return fmt.Errorf("serve the queue: %w", err)
	case <-ctx.Done():
	}
	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err = httpServer.Shutdown(shutdown)
	if served := <-stopped; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
