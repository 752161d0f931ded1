// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"

	rscors "github.com/rs/cors"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// corsMaxAge is how long a browser may cache the response to a preflight, in seconds; browsers cap it at two hours.
const corsMaxAge = 7200

// cors lets pages of the allowed origins use the API with the user's cookies, and keeps other pages from changing
// anything with them. The check of requests that change something is the standard library's.
type cors struct {
	headers    *rscors.Cors
	protection *http.CrossOriginProtection
}

// newCORS checks the origins. "*" is rejected: with cookies it would let every page act for the user.
func newCORS(origins []string) (*cors, error) {
	c := &cors{protection: http.NewCrossOriginProtection()}
	for _, origin := range origins {
		u, err := url.Parse(origin)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || origin != u.Scheme+"://"+u.Host {
			return nil, fmt.Errorf("allowed origin %q: must be scheme://host or scheme://host:port, for example https://app.example.com", origin)
		}
		if err := c.protection.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("allowed origin %q: %w", origin, err)
		}
	}
	options := rscors.Options{
		AllowedMethods: []string{http.MethodGet, http.MethodPost, http.MethodDelete},
		AllowedHeaders: []string{
			"Content-Type", "Cache-Control", scanapi.IdempotencyKeyHeader, scanapi.LastEventIDHeader, scanapi.RequestIDHeader,
			"Traceparent", "Tracestate",
		},
		ExposedHeaders:   []string{"Retry-After", scanapi.RequestIDHeader},
		AllowCredentials: true,
		MaxAge:           corsMaxAge,
	}
	// Without the function, an empty list would mean every origin.
	options.AllowOriginFunc = func(origin string) bool { return slices.Contains(origins, origin) }
	c.headers = rscors.New(options)
	return c, nil
}

// handle sets the headers for the request's origin. It returns true if the request was a preflight, which it has
// answered, and an error if the request must not be served.
func (c *cors) handle(w http.ResponseWriter, r *http.Request) (answered bool, err error) {
	if r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != "" {
		if !c.headers.OriginAllowed(r) {
			w.Header().Add("Vary", "Origin")
			return false, originNotAllowed()
		}
		c.headers.HandlerFunc(w, r)
		return true, nil
	}
	c.headers.HandlerFunc(w, r)
	if err := c.protection.Check(r); err != nil {
		p := originNotAllowed()
		p.cause = err
		return false, p
	}
	return false, nil
}

func originNotAllowed() *problemError {
	return problemf(http.StatusForbidden, scanapi.CodeOriginNotAllowed,
		"Pages of this origin may not use the API. Operators allow an origin with --allowed-origins.")
}
