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

// limits bound a connection: a client that sends its request by the byte does not keep one for long.
type limits struct {
	readHeader, read, answer, idle time.Duration
	headerBytes                    int
}

var defaultLimits = limits{
	readHeader: 5 * time.Second, read: 15 * time.Second, answer: 30 * time.Second, idle: 2 * time.Minute,
	headerBytes: 16 << 10,
}

// ServeOptions say how a Server listens and stops.
type ServeOptions struct {
	// TLS serves HTTPS where it is set.
	TLS *tls.Config
	// DrainDelay is the time between readiness failing and streams ending: load balancers need it to send
	// requests elsewhere. Default none.
	DrainDelay time.Duration
	// ShutdownTimeout bounds the time that requests which run may take to finish after that. Default 10 s.
	ShutdownTimeout time.Duration

	limits limits // default defaultLimits
}

// Serve answers requests on a listener until ctx is done. Then readiness fails, after DrainDelay the streams end
// and no more connections are accepted, and it returns when every request is answered or ShutdownTimeout has
// passed. It closes the listener.
func (s *Server) Serve(ctx context.Context, listener net.Listener, o ServeOptions) error {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(o.TLS == nil) // gateways speak it
	connection := cmp.Or(o.limits, defaultLimits)
	server := &http.Server{
		Handler:           s,
		Protocols:         protocols,
		TLSConfig:         o.TLS,
		ReadHeaderTimeout: connection.readHeader, ReadTimeout: connection.read,
		WriteTimeout: connection.answer, IdleTimeout: connection.idle, MaxHeaderBytes: connection.headerBytes,
		// Requests outlive ctx: they are answered while the server drains.
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		// Clients that break off are no error of the server's.
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
	s.log.Info("Serving", "address", listener.Addr().String(), "tls", o.TLS != nil)

	select {
	case err := <-served:
		s.EndStreams()
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	s.log.Info("Draining", "delay", o.DrainDelay.String())
	s.Drain()
	if o.DrainDelay > 0 {
		<-s.clock.After(o.DrainDelay)
	}
	s.EndStreams()
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), cmp.Or(o.ShutdownTimeout, 10*time.Second))
	defer cancel()
	err := server.Shutdown(stopping)
	if err != nil {
		err = errors.Join(fmt.Errorf("requests were not answered in time: %w", err), server.Close())
	}
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	s.log.Info("Stopped")
	return err
}
