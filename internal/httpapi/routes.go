// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/eco2-team/scan-operator/internal/httpapi/auth"
	"github.com/eco2-team/scan-operator/internal/httpapi/openapi"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// Routes that the OpenAPI document leaves out. The gateway forwards them without a user.
const (
	metricsPath = scanapi.SubmitPath + "/metrics"
	docsPath    = scanapi.SubmitPath + "/docs"
	openAPIPath = scanapi.SubmitPath + "/openapi.json"
)

// handler serves a request, or returns the error to respond with.
type handler func(w http.ResponseWriter, r *http.Request) error

// userHandler serves a request that is made for a user.
type userHandler func(w http.ResponseWriter, r *http.Request, caller auth.Caller) error

// route is one way to call the API. The OpenAPI document describes the same routes.
type route struct {
	openapi.Route
	handle handler
}

// router finds the handler of a request.
type router struct {
	// The older path of a result has a mux of its own: in one mux /scan/result/{id} and /scan/{id}/result would both
	// match /scan/result/result, which ServeMux refuses.
	main, aliases *http.ServeMux
	// paths are the route labels of metrics and logs, by the mux's pattern.
	paths map[string]string
}

// newRouter registers every route.
func newRouter(s *Server, categories []scanapi.Category, registry MetricsRegistry) (*router, error) {
	routes := apiRoutes(s, categories)
	described := make([]openapi.Route, len(routes))
	for i, r := range routes {
		described[i] = r.Route
	}
	document, err := openapi.Generate(described)
	if err != nil {
		return nil, fmt.Errorf("generate the OpenAPI document: %w", err)
	}
	page, err := openapi.Page(document)
	if err != nil {
		return nil, fmt.Errorf("render the documentation page: %w", err)
	}
	gather := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	routes = append(
		routes,
		get("/healthz", s.health),
		get("/readyz", s.ready),
		get(metricsPath, plain(gather)),
		get(openAPIPath, static("application/json", document)),
		get(docsPath, static("text/html; charset=utf-8", page)),
	)
	rt := &router{main: http.NewServeMux(), aliases: http.NewServeMux(), paths: map[string]string{}}
	for _, r := range routes {
		pattern := r.Method + " " + r.Path
		rt.paths[pattern] = r.Path
		rt.muxOf(r.Path).Handle(pattern, s.answer(r.handle))
	}
	return rt, nil
}

// get is a route that the OpenAPI document leaves out.
func get(path string, handle handler) route {
	return route{openapi.Route{Method: http.MethodGet, Path: path}, handle}
}

// apiRoutes are the routes that the OpenAPI document describes.
func apiRoutes(s *Server, categories []scanapi.Category) []route {
	result, stream := s.forUser(s.result), s.forUser(s.streamByPath)
	return []route{
		{openapi.Submit, s.forUser(s.submit)},
		{openapi.Result, result},
		{openapi.ResultByOlderPath, result},
		{openapi.Events, stream},
		{openapi.StreamByQuery, s.forUser(s.streamByQuery)},
		{openapi.Cancel, s.forUser(s.cancel)},
		{openapi.Categories, s.forUser(listCategories(categories))},
		{openapi.Health, s.health},
		{openapi.Ready, s.ready},
	}
}

func (rt *router) muxOf(path string) *http.ServeMux {
	if strings.HasPrefix(path, openapi.OlderResultPrefix) {
		return rt.aliases
	}
	return rt.main
}

// find returns the mux that serves a request and the route's label; the label is empty if no route matches.
func (rt *router) find(r *http.Request) (mux *http.ServeMux, label string) {
	mux = rt.muxOf(r.URL.Path)
	_, pattern := mux.Handler(r)
	return mux, rt.paths[pattern]
}

// noRoute is the problem of a request that no route matches.
func (rt *router) noRoute(mux *http.ServeMux, r *http.Request) *problemError {
	var probe headerProbe
	mux.ServeHTTP(&probe, r)
	if probe.status == http.StatusMethodNotAllowed {
		allow := probe.Header().Get("Allow")
		p := problemf(probe.status, scanapi.CodeMethodNotAllowed, "This path allows %s only.", allow)
		p.allow = allow
		return p
	}
	return problemf(http.StatusNotFound, scanapi.CodeRouteNotFound,
		"There is no such path. %s describes the API.", docsPath)
}

// headerProbe records the status and headers that a mux would respond with.
type headerProbe struct {
	header http.Header
	status int
}

func (p *headerProbe) Header() http.Header {
	if p.header == nil {
		p.header = http.Header{}
	}
	return p.header
}

func (p *headerProbe) WriteHeader(status int) { p.status = status }

func (p *headerProbe) Write(b []byte) (int, error) { return len(b), nil }

// forUser authenticates the user, and requires a synced watch to find the user's scans in.
func (s *Server) forUser(handle userHandler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		caller, err := s.authenticator.Authenticate(r)
		if err != nil {
			return fromAuthentication(err)
		}
		if !s.synced() {
			return notReady("This server is starting. Try again.")
		}
		return handle(w, r, caller)
	}
}

// listCategories responds with the classes of waste. They change only with a restart.
func listCategories(categories []scanapi.Category) userHandler {
	if categories == nil {
		categories = []scanapi.Category{}
	}
	return func(w http.ResponseWriter, _ *http.Request, _ auth.Caller) error {
		w.Header().Set("Cache-Control", "private, max-age=300")
		writeJSON(w, http.StatusOK, categories)
		return nil
	}
}

// health is the liveness route.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, scanapi.Health{Status: "ok"})
	return nil
}

// ready is the readiness route.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	switch {
	case s.isDraining():
		writeJSON(w, http.StatusServiceUnavailable, scanapi.Health{Status: "unavailable", Reason: "the server is stopping"})
	case !s.synced():
		writeJSON(w, http.StatusServiceUnavailable, scanapi.Health{Status: "unavailable", Reason: "the watch has not caught up"})
	default:
		writeJSON(w, http.StatusOK, scanapi.Health{Status: "ok"})
	}
	return nil
}

// static responds with a fixed document.
func static(contentType string, body []byte) handler {
	return func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(body) // fails only if the client has left
		return nil
	}
}

// plain adapts an http.Handler.
func plain(h http.Handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		h.ServeHTTP(w, r)
		return nil
	}
}
