package httpapi

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// The routes that the gateway lets through without a user.
const (
	healthPath  = scanapi.SubmitPath + "/health"
	readyPath   = scanapi.SubmitPath + "/ready"
	metricsPath = scanapi.SubmitPath + "/metrics"
	docsPath    = scanapi.SubmitPath + "/docs"
	openAPIPath = scanapi.SubmitPath + "/openapi.json"
)

// aliasPrefix begins the older spelling of a result's path. It needs a mux of its own: in one mux
// /scan/result/{id} and /scan/{id}/result would both match /scan/result/result, which ServeMux refuses.
const aliasPrefix = scanapi.SubmitPath + "/result/"

// handler answers a request or returns what to tell the client instead.
type handler func(w http.ResponseWriter, r *http.Request) error

// userHandler is a handler of requests that are made for a user.
type userHandler func(w http.ResponseWriter, r *http.Request, caller Caller) error

// route is one way to call the API. The OpenAPI document describes the same routes.
type route struct {
	method, path string
	handle       handler
	operation    operation
}

// router finds the handler of a request.
type router struct {
	main, aliases *http.ServeMux
	// paths are the route labels of metrics and logs, by the mux's pattern.
	paths map[string]string
}

// newRouter registers every route.
func newRouter(s *Server, categories []scanapi.Category, registry Registry) (*router, error) {
	routes := apiRoutes(s, categories)
	document, err := openAPIDocument(routes)
	if err != nil {
		return nil, fmt.Errorf("make the OpenAPI document: %w", err)
	}
	page, err := docsPage(document)
	if err != nil {
		return nil, fmt.Errorf("make the documentation page: %w", err)
	}
	gather := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	routes = append(
		routes,
		route{method: http.MethodGet, path: "/healthz", handle: s.health},
		route{method: http.MethodGet, path: "/readyz", handle: s.ready},
		route{method: http.MethodGet, path: metricsPath, handle: plain(gather)},
		route{method: http.MethodGet, path: openAPIPath, handle: static("application/json", document)},
		route{method: http.MethodGet, path: docsPath, handle: static("text/html; charset=utf-8", page)},
	)
	rt := &router{main: http.NewServeMux(), aliases: http.NewServeMux(), paths: map[string]string{}}
	for _, r := range routes {
		pattern := r.method + " " + r.path
		rt.paths[pattern] = r.path
		rt.muxOf(r.path).Handle(pattern, s.answer(r.handle))
	}
	return rt, nil
}

func apiRoutes(s *Server, categories []scanapi.Category) []route {
	result, stream := s.forUser(s.result), s.forUser(s.streamByPath)
	return []route{
		{http.MethodPost, scanapi.SubmitPath, s.forUser(s.submit), submitOperation},
		{http.MethodGet, scanapi.ResultPath("{id}"), result, resultOperation},
		{http.MethodGet, aliasPrefix + "{id}", result, resultOperation.deprecate(scanapi.ResultPath("{id}"))},
		{http.MethodGet, scanapi.EventsPath("{id}"), stream, eventsOperation},
		{http.MethodGet, "/api/v1/stream", s.forUser(s.streamByQuery), streamByQueryOperation},
		{http.MethodDelete, scanapi.ScanPath("{id}"), s.forUser(s.cancel), cancelOperation},
		{http.MethodGet, scanapi.CategoriesPath, s.forUser(listCategories(categories)), categoriesOperation},
		{http.MethodGet, healthPath, s.health, healthOperation},
		{http.MethodGet, readyPath, s.ready, readyOperation},
	}
}

func (rt *router) muxOf(path string) *http.ServeMux {
	if strings.HasPrefix(path, aliasPrefix) {
		return rt.aliases
	}
	return rt.main
}

// find returns the mux that answers a request and the route's label; the label is empty where there is no route.
func (rt *router) find(r *http.Request) (mux *http.ServeMux, label string) {
	mux = rt.muxOf(r.URL.Path)
	_, pattern := mux.Handler(r)
	return mux, rt.paths[pattern]
}

// noRoute is the problem of a request that no route answers.
func (rt *router) noRoute(mux *http.ServeMux, r *http.Request) *problemError {
	var probe headerProbe
	mux.ServeHTTP(&probe, r)
	if probe.status == http.StatusMethodNotAllowed {
		allow := probe.Header().Get("Allow")
		p := problemf(probe.status, scanapi.CodeMethodNotAllowed, "This path takes %s only.", allow)
		p.allow = allow
		return p
	}
	return problemf(http.StatusNotFound, scanapi.CodeRouteNotFound,
		"There is nothing at this path. %s describes the API.", docsPath)
}

// headerProbe takes the status and headers that a mux would answer with.
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

// forUser makes a handler of one that needs a user, and a synced watch to find the user's scans in.
func (s *Server) forUser(handle userHandler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		caller, err := s.authenticator.Authenticate(r)
		if err != nil {
			return err
		}
		if !s.synced() {
			p := draining()
			p.detail = "This server is starting. Try again."
			return p
		}
		return handle(w, r, caller)
	}
}

// listCategories answers with the classes of waste. They change only with the server.
func listCategories(categories []scanapi.Category) userHandler {
	if categories == nil {
		categories = []scanapi.Category{}
	}
	return func(w http.ResponseWriter, _ *http.Request, _ Caller) error {
		w.Header().Set("Cache-Control", "private, max-age=300")
		writeJSON(w, http.StatusOK, categories)
		return nil
	}
}

// health says that the process works.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, scanapi.Health{Status: "ok"})
	return nil
}

// ready says whether requests should be sent here.
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

// static answers with a fixed document.
func static(contentType string, body []byte) handler {
	return func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(body) // a client that has gone cannot be told
		return nil
	}
}

// plain makes a handler of one that answers for itself.
func plain(h http.Handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		h.ServeHTTP(w, r)
		return nil
	}
}
