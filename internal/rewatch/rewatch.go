// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rewatch has watches begin again soon after an API server that was away is back.
//
// The caches of client-go wait up to a minute between their attempts to reach an API server that refuses connections,
// the longer it was away. Until then they show a state from before the outage, and so does all that is decided on it.
package rewatch

import (
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
)

// interval is the time between two attempts, give or take a quarter, so that clients do not come all at once.
const interval = time.Second

// Soon lets the clients made from config ask for a watch again every second while the API server refuses
// connections. Other requests fail as before. The log gets a line when that begins and one when it is over.
func Soon(config *rest.Config, clk clock.Clock, log logr.Logger) {
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &transport{next: next, clock: clk, log: log} })
}

type transport struct {
	next  http.RoundTripper
	clock clock.Clock
	log   logr.Logger
	away  atomic.Bool // the API server refused the last watch
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	for {
		response, err := t.next.RoundTrip(r)
		if !isWatch(r) {
			return response, err
		}
		if err == nil && t.away.CompareAndSwap(true, false) {
			t.log.Info("the API server is back")
		}
		if err == nil || !utilnet.IsConnectionRefused(err) {
			return response, err
		}
		if t.away.CompareAndSwap(false, true) {
			t.log.Info("the API server refuses connections; watches ask again until it is back",
				"interval", interval.String(), "cause", err.Error())
		}
		timer := t.clock.NewTimer(time.Duration(float64(interval) * (0.75 + rand.Float64()/2)))
		select {
		case <-timer.C():
		case <-r.Context().Done():
			timer.Stop()
			return nil, err
		}
	}
}

// isWatch says whether a request has no body that was used up, changes nothing, and waits for news anyway.
func isWatch(r *http.Request) bool {
	if r.Method != http.MethodGet {
		return false
	}
	watch := r.URL.Query().Get("watch")
	return watch == "true" || watch == "1"
}

// WrappedRoundTripper returns the transport that sends the requests.
func (t *transport) WrappedRoundTripper() http.RoundTripper { return t.next }
