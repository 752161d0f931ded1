// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package httpapi serves the HTTP API of the scans of one namespace. It stores nothing: a scan is a ScanRequest, polls
// and streams are served from one watch, and any replica can serve any request.
package httpapi

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"
	"k8s.io/utils/clock"

	"github.com/eco2-team/scan-operator/internal/httpapi/auth"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// Options configure a Server. Namespace, Scans, Models, MetricsRegistry and Synced must be set.
type Options struct {
	// Namespace is the namespace of the scans.
	Namespace string
	// Scans reads and writes them.
	Scans Scans
	// Models lists the supported models.
	Models Models
	// Categories are served at GET /categories.
	Categories []scanapi.Category
	// Queue has positions and waiting times. Default: none are known.
	Queue QueueView
	// Authenticator finds out the user. Default: auth.Gateway with auth.DefaultTrustedProxies.
	Authenticator auth.Authenticator
	// Synced says whether WatchHandler has got every scan that existed at the start.
	Synced func() bool
	// AllowedOrigins are the origins of web pages that may use the API, as scheme://host[:port].
	AllowedOrigins []string
	// MaxEstimatedWait rejects scans that would wait longer. 0 is no limit.
	MaxEstimatedWait time.Duration
	// MaxUnfinishedPerUser and MaxUnfinished limit the unfinished scans of one user and of all. 0 is no limit.
	MaxUnfinishedPerUser, MaxUnfinished int
	// MaxStreams limits the open streams. Default 10000.
	MaxStreams int
	// MaxStreamsPerUser limits the open streams of one user. Default 100.
	MaxStreamsPerUser int
	// Keepalive is the longest silence on a stream. Default 15 s: proxies close silent connections after 30 or 60 s.
	Keepalive time.Duration
	// WriteTimeout is how long a client may take to receive one event. Default 10 s.
	WriteTimeout time.Duration
	// APITimeout bounds a call to the Kubernetes API. Default 10 s.
	APITimeout time.Duration
	// Clock is the time source. Default: the wall clock.
	Clock clock.WithTicker
	// Tracer makes a span of each request. Default: no tracing.
	Tracer trace.Tracer
	// Log takes the access log. Default: none.
	Log logr.Logger
	// MetricsRegistry registers the metrics and serves them.
	MetricsRegistry MetricsRegistry
}

// MetricsRegistry registers metrics and gathers them.
type MetricsRegistry interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// Server serves the API. It is an http.Handler.
type Server struct {
	namespace        string
	scans            Scans
	models           Models
	queue            QueueView
	authenticator    auth.Authenticator
	synced           func() bool
	cors             *cors
	maxEstimatedWait time.Duration
	keepalive        time.Duration
	writeTimeout     time.Duration
	apiTimeout       time.Duration
	clock            clock.WithTicker
	log              logr.Logger
	tracer           trace.Tracer // nil for none

	hub          *hub
	limiter      *scanLimiter
	admitted     admittedSinceEstimate
	created      *createdCache
	metrics      *metrics
	readThroughs *rate.Limiter
	routes       *router

	drain    sync.Once
	draining chan struct{} // closed: readiness fails
	end      sync.Once
	ending   chan struct{} // closed: streams end
}

// New returns a server, or an error that names the wrong option.
func New(o Options) (*Server, error) {
	if o.Scans == nil || o.Models == nil || o.Synced == nil || o.MetricsRegistry == nil || o.Namespace == "" {
		return nil, errors.New("options Namespace, Scans, Models, MetricsRegistry and Synced must be set")
	}
	if o.Queue == nil {
		o.Queue = noQueueView{}
	}
	if o.Authenticator == nil {
		o.Authenticator = auth.Gateway{TrustedProxies: auth.DefaultTrustedProxies()}
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	s := &Server{
		namespace: o.Namespace, scans: o.Scans, models: o.Models, queue: o.Queue,
		authenticator: o.Authenticator, synced: o.Synced,
		maxEstimatedWait: o.MaxEstimatedWait,
		keepalive:        cmp.Or(o.Keepalive, 15*time.Second),
		writeTimeout:     cmp.Or(o.WriteTimeout, 10*time.Second),
		apiTimeout:       cmp.Or(o.APITimeout, 10*time.Second),
		clock:            o.Clock, log: o.Log, tracer: o.Tracer,
		hub:          newHub(cmp.Or(o.MaxStreams, 10000), cmp.Or(o.MaxStreamsPerUser, 100)),
		limiter:      newScanLimiter(o.Clock, o.MaxUnfinishedPerUser, o.MaxUnfinished),
		created:      newCreatedCache(o.Clock),
		readThroughs: rate.NewLimiter(readThroughRate, readThroughBurst),
		draining:     make(chan struct{}),
		ending:       make(chan struct{}),
	}
	var err error
	if s.cors, err = newCORS(o.AllowedOrigins); err != nil {
		return nil, err
	}
	if s.metrics, err = newMetrics(o.MetricsRegistry, s.hub, s.limiter); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	if s.routes, err = newRouter(s, o.Categories, o.MetricsRegistry); err != nil {
		return nil, err
	}
	return s, nil
}

// Drain makes readiness fail, so that load balancers send no new requests. It may be called more than once.
func (s *Server) Drain() { s.drain.Do(func() { close(s.draining) }) }

// EndStreams ends the streams and rejects new ones; clients reconnect to another replica. It may be called more than
// once.
func (s *Server) EndStreams() { s.end.Do(func() { close(s.ending) }) }

func (s *Server) isDraining() bool { return isClosed(s.draining) }

func (s *Server) isEnding() bool { return isClosed(s.ending) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// notReady is the problem of a request to a server that is starting or stopping.
func notReady(detail string) *problemError {
	return &problemError{
		status: http.StatusServiceUnavailable, code: scanapi.CodeNotReady, detail: detail, retryAfter: time.Second,
	}
}
