// Package httpapi is the HTTP API of the scans of one namespace. It stores nothing: a scan is a ScanRequest, a
// poll and a stream are answered from one watch, and any replica can answer any request.
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

// Options are what a Server needs and what can be set. Namespace, Scans, Models, Registry and Synced must be set.
type Options struct {
	// Namespace is where the scans are.
	Namespace string
	// Scans reads and writes them.
	Scans Scans
	// Models knows the models that can be asked for.
	Models Models
	// Categories are what GET /categories answers.
	Categories []scanapi.Category
	// Queue tells positions and waiting times. Default: one that knows nothing.
	Queue QueueView
	// Authenticator finds out the user. Default: auth.Gateway with auth.DefaultTrustedProxies.
	Authenticator auth.Authenticator
	// Synced says whether WatchHandler has been given every scan there was at the start.
	Synced func() bool
	// AllowedOrigins are the origins of web pages that may use the API, as scheme://host[:port].
	AllowedOrigins []string
	// MaxEstimatedWait turns scans away that would wait longer. 0 turns none away.
	MaxEstimatedWait time.Duration
	// MaxQueuedPerUser and MaxQueued limit the unfinished scans of one user and of all. 0 is no limit.
	MaxQueuedPerUser, MaxQueued int
	// MaxStreams limits the open streams. Default 10000.
	MaxStreams int
	// MaxStreamsPerUser limits the open streams of one user. Default 100.
	MaxStreamsPerUser int
	// Keepalive is the longest silence on a stream. Default 15 s: proxies give up after 30 or 60.
	Keepalive time.Duration
	// WriteTimeout is how long a client may take to receive one event. Default 10 s.
	WriteTimeout time.Duration
	// APITimeout bounds a call to the Kubernetes API. Default 10 s.
	APITimeout time.Duration
	// Clock tells the time. Default: the wall clock.
	Clock clock.WithTicker
	// Tracer makes a span of each request that is part of a trace or begins one. Default: none.
	Tracer trace.Tracer
	// Log takes the access log. Default: none.
	Log logr.Logger
	// Registry registers the metrics and serves them.
	Registry Registry
}

// Registry registers metrics and gathers them.
type Registry interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// Server answers the requests. It is an http.Handler.
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
	census       *census
	surge        surge
	recent       *recent
	metrics      *metrics
	readThroughs *rate.Limiter
	routes       *router

	drain    sync.Once
	draining chan struct{} // closed: readiness fails
	end      sync.Once
	ending   chan struct{} // closed: streams end
}

// New returns a server, or an error that says which option is wrong.
func New(o Options) (*Server, error) {
	if o.Scans == nil || o.Models == nil || o.Synced == nil || o.Registry == nil || o.Namespace == "" {
		return nil, errors.New("options Namespace, Scans, Models, Registry and Synced must be set")
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
		census:       newCensus(o.Clock, o.MaxQueuedPerUser, o.MaxQueued),
		recent:       newRecent(o.Clock),
		readThroughs: rate.NewLimiter(readThroughRate, readThroughBurst),
		draining:     make(chan struct{}),
		ending:       make(chan struct{}),
	}
	var err error
	if s.cors, err = newCORS(o.AllowedOrigins); err != nil {
		return nil, err
	}
	if s.metrics, err = newMetrics(o.Registry, s.hub, s.census); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	if s.routes, err = newRouter(s, o.Categories, o.Registry); err != nil {
		return nil, err
	}
	return s, nil
}

// Drain makes readiness fail, so that no new requests are sent here. It may be called more than once.
func (s *Server) Drain() { s.drain.Do(func() { close(s.draining) }) }

// EndStreams ends the streams, whose clients reconnect to another replica, and refuses new ones. It may be called
// more than once.
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

func draining() *problemError {
	return &problemError{
		status: http.StatusServiceUnavailable, code: scanapi.CodeNotReady,
		detail: "This server is stopping. Try again.", retryAfter: time.Second,
	}
}
