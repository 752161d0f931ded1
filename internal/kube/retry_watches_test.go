// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
)

// server refuses connections for a number of requests, and then fails or responds.
type server struct {
	refusals int
	refusal  error // default: ECONNREFUSED
	then     error
	asked    int
}

func (s *server) RoundTrip(*http.Request) (*http.Response, error) {
	s.asked++
	switch {
	case s.asked <= s.refusals:
		return nil, cmp.Or(s.refusal, error(syscall.ECONNREFUSED))
	case s.then != nil:
		return nil, s.then
	default:
		return httptest.NewRecorder().Result(), nil
	}
}

func TestRetryWatches(t *testing.T) {
	const path = "https://kubernetes/apis/scan.growbin.app/v1alpha1/scanrequests"
	for name, tc := range map[string]struct {
		method, url string
		server      server
		wantAsked   int
		wantErr     error
		wantLines   int // of the log: one for the outage, one for its end
	}{
		"a watch waits for the API server": {method: http.MethodGet, url: path + "?watch=true", server: server{refusals: 40}, wantAsked: 41, wantLines: 2},
		"so does one of client-go":         {method: http.MethodGet, url: path + "?watch=1", server: server{refusals: 1}, wantAsked: 2, wantLines: 2},
		"another failure ends a watch": {
			method: http.MethodGet, url: path + "?watch=true", server: server{refusals: 2, then: syscall.ECONNRESET},
			wantAsked: 3, wantErr: syscall.ECONNRESET, wantLines: 1,
		},
		"a host that is down": {
			method: http.MethodGet, url: path + "?watch=true", server: server{refusals: 2, refusal: &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}},
			wantAsked: 3, wantLines: 2,
		},
		"a name that is not resolved": {
			method: http.MethodGet, url: path + "?watch=true", server: server{refusals: 2, refusal: &net.OpError{Op: "dial", Err: &net.DNSError{}}},
			wantAsked: 3, wantLines: 2,
		},
		"one without an outage":  {method: http.MethodGet, url: path + "?watch=true", wantAsked: 1},
		"a list fails at once":   {method: http.MethodGet, url: path, server: server{refusals: 1}, wantAsked: 1, wantErr: syscall.ECONNREFUSED},
		"a create fails at once": {method: http.MethodPost, url: path + "?watch=true", server: server{refusals: 1}, wantAsked: 1, wantErr: syscall.ECONNREFUSED},
	} {
		t.Run(name, func(t *testing.T) {
			clk := clocktesting.NewFakeClock(time.Unix(0, 0))
			config := &rest.Config{Transport: &tc.server}
			var lines []string
			retryWatches(config, clk, funcr.New(func(_, line string) { lines = append(lines, line) }, funcr.Options{}))
			next, err := rest.TransportFor(config)
			if err != nil {
				t.Fatal(err)
			}
			request, err := http.NewRequestWithContext(t.Context(), tc.method, tc.url, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				response, err := next.RoundTrip(request)
				if err == nil {
					err = response.Body.Close()
				}
				done <- err
			}()
			for {
				select {
				case err := <-done:
					if !errors.Is(err, tc.wantErr) {
						t.Errorf("error = %v, want %v", err, tc.wantErr)
					}
					if tc.server.asked != tc.wantAsked {
						t.Errorf("asked %d times, want %d", tc.server.asked, tc.wantAsked)
					}
					if len(lines) != tc.wantLines {
						t.Errorf("logged %d lines, want %d:\n%s", len(lines), tc.wantLines, strings.Join(lines, "\n"))
					}
					return
				default:
					if clk.HasWaiters() {
						clk.Step(2 * retryInterval)
					}
				}
			}
		})
	}
}

func TestRetryWatchesEndsWithTheRequest(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Unix(0, 0))
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://kubernetes/api/v1/pods?watch=true", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	response, err := (&transport{next: &server{refusals: 10}, clock: clk, log: logr.Discard()}).RoundTrip(request)
	if err == nil {
		_ = response.Body.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("error = %v, want the refusal", err)
	}
}
