// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// What a page of an allowed origin may send and read, beyond what CORS allows every page.
var (
	corsMethods = strings.Join([]string{http.MethodGet, http.MethodPost, http.MethodDelete}, ", ")
	corsHeaders = strings.Join([]string{
		"Content-Type", "Cache-Control", scanapi.IdempotencyKeyHeader, scanapi.LastEventIDHeader, scanapi.RequestIDHeader,
		"Traceparent", "Tracestate",
	}, ", ")
	corsExposed = strings.Join([]string{"Retry-After", scanapi.RequestIDHeader}, ", ")
)

// corsMaxAge is how long a browser may cache the response to a preflight, in seconds; browsers cap it at two hours.
const corsMaxAge = "7200"

// cors lets pages of the allowed origins use the API with the user's cookies, and keeps other pages from changing
// anything with them. The check of requests that change something is the standard library's.
type cors struct {
	origins    []string
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
		c.origins = append(c.origins, origin)
	}
	return c, nil
}

// handle sets the headers for the request's origin. It returns true if the request was a preflight, which it has
// answered, and an error if the request must not be served.
func (c *cors) handle(w http.ResponseWriter, r *http.Request) (answered bool, err error) {
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	allowed := origin != "" && slices.Contains(c.origins, origin)
	if allowed {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Access-Control-Expose-Headers", corsExposed)
	}
	if r.Method == http.MethodOptions && origin != "" && r.Header.Get("Access-Control-Request-Method") != "" {
		if !allowed {
			return false, originNotAllowed()
		}
		h.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
		h.Set("Access-Control-Allow-Methods", corsMethods)
		h.Set("Access-Control-Allow-Headers", corsHeaders)
		h.Set("Access-Control-Max-Age", corsMaxAge)
		w.WriteHeader(http.StatusNoContent)
		return true, nil
	}
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
