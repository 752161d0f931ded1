// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"github.com/eco2-team/scan-operator/internal/tracing"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// requestIDPattern is the form of an accepted request id; any other is replaced.
var requestIDPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

const (
	unmatchedRoute = "unmatched"
	preflightRoute = "preflight"
)

// ServeHTTP serves a request, counts it and logs it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out := &response{ResponseWriter: w, requestID: requestID(r)}
	out.Header().Set(scanapi.RequestIDHeader, out.requestID)
	mux, route := s.routes.find(r)
	label := cmp.Or(route, unmatchedRoute)
	start := s.clock.Now()
	method := methodLabel(r.Method)
	if s.tracer != nil && route != "" {
		ctx, span := tracing.StartRequest(r.Context(), s.tracer, r.Header, method, route)
		defer func() { tracing.EndRequest(span, out.statusOr200()) }()
		r = r.WithContext(ctx)
	}
	defer func() {
		if cause := recover(); cause != nil {
			s.recovered(out, cause)
		}
		took := s.clock.Since(start)
		s.metrics.answered(label, method, out.statusOr200(), took, out.streamed())
		s.log.Info("request", "method", method, "route", label, "status", out.statusOr200(),
			"bytes", out.bytes, "took", took.Round(10*time.Microsecond).String(), "requestID", out.requestID)
	}()

	preflight, err := s.cors.handle(out, r)
	switch {
	case preflight:
		label = preflightRoute
	case err != nil:
		s.fail(out, err)
	case route == "":
		s.fail(out, s.routes.noRoute(mux, r))
	default:
		mux.ServeHTTP(out, r)
	}
}

// answer adapts a handler to http.Handler.
func (s *Server) answer(handle handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := handle(w, r); err != nil {
			out, ok := w.(*response)
			if !ok {
				panic(fmt.Sprintf("handler called with a %T", w))
			}
			s.fail(out, err)
		}
	})
}

// fail responds with an error, and logs it if it is the server's.
func (s *Server) fail(out *response, err error) {
	p := asProblem(err)
	if p.status >= http.StatusInternalServerError && p.cause != nil {
		s.log.Error(p.cause, "request failed", "code", p.code, "requestID", out.requestID)
	}
	if out.status == 0 {
		writeProblem(out, out.requestID, p)
	}
}

// recovered responds to a request whose handler panicked.
func (s *Server) recovered(out *response, cause any) {
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(cause)
	}
	s.log.Error(fmt.Errorf("panic: %v", cause), "handler panicked", "requestID", out.requestID, "stack", string(debug.Stack()))
	s.fail(out, errors.New("handler panicked"))
}

// requestID is the id that the gateway gave the request, or a new one.
func requestID(r *http.Request) string {
	if id := r.Header.Get(scanapi.RequestIDHeader); requestIDPattern.MatchString(id) {
		return id
	}
	return uuid.NewString()
}

// response records the status and size of a response. http.ResponseController unwraps it.
type response struct {
	http.ResponseWriter
	requestID string
	status    int
	bytes     int64
}

// Unwrap returns the writer of the HTTP server.
func (o *response) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// WriteHeader records the status.
func (o *response) WriteHeader(status int) {
	if o.status == 0 {
		o.status = status
	}
	o.ResponseWriter.WriteHeader(status)
}

// Write counts the body.
func (o *response) Write(b []byte) (int, error) {
	if o.status == 0 {
		o.status = http.StatusOK
	}
	n, err := o.ResponseWriter.Write(b)
	o.bytes += int64(n)
	return n, err
}

func (o *response) statusOr200() int { return cmp.Or(o.status, http.StatusOK) }

// streamed says whether the response is a stream, whose duration is that of the scan.
func (o *response) streamed() bool {
	return o.Header().Get("Content-Type") == "text/event-stream"
}
