// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
)

// retryInterval is the time between two attempts, with a jitter of a quarter, so that clients do not all retry at once.
const retryInterval = time.Second

// retryWatches makes the clients of config retry a watch every second while no connection to the API server can be made.
// Other requests fail as before. The log gets a line when an outage begins and one when it ends.
//
// The reflectors of client-go, which feed every cache, double the time between their attempts up to 30 s, and their jitter
// doubles that again. So after an outage a program would act on the state from before it for up to a minute.
// controller-runtime's caches have no option for that backoff. This is therefore done in the transport, and for all
// reflectors alike: those of caches and those that a worker runs itself.
func retryWatches(config *rest.Config, clk clock.Clock, log logr.Logger) {
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &transport{next: next, clock: clk, log: log} })
}

type transport struct {
	next   http.RoundTripper
	clock  clock.Clock
	log    logr.Logger
	outage atomic.Bool // the last watch could not connect
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	for {
		response, err := t.next.RoundTrip(r)
		if !isWatch(r) {
			return response, err
		}
		if err == nil && t.outage.CompareAndSwap(true, false) {
			t.log.Info("connected to the API server again")
		}
		if err == nil || !isUnreachable(err) {
			return response, err
		}
		if t.outage.CompareAndSwap(false, true) {
			t.log.Info("cannot connect to the API server; retrying watches", "interval", retryInterval.String(), "cause", err.Error())
		}
		timer := t.clock.NewTimer(time.Duration(float64(retryInterval) * (0.75 + rand.Float64()/2)))
		select {
		case <-timer.C():
		case <-r.Context().Done():
			timer.Stop()
			return nil, err
		}
	}
}

// isUnreachable says whether no connection was made: the request was not sent and can be sent again.
func isUnreachable(err error) bool {
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
		return true
	}
	return utilnet.IsConnectionRefused(err)
}

// isWatch says whether the request is a watch: it has no body that was read, changes nothing, and its caller waits anyway.
func isWatch(r *http.Request) bool {
	if r.Method != http.MethodGet {
		return false
	}
	watch := r.URL.Query().Get("watch")
	return watch == "true" || watch == "1"
}

// WrappedRoundTripper returns the transport that sends the requests.
func (t *transport) WrappedRoundTripper() http.RoundTripper { return t.next }
