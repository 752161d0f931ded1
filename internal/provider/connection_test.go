// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/stages"
)

func TestBrokenConnections(t *testing.T) {
	refused := func(t *testing.T) string {
		t.Helper()
		server := httptest.NewServer(nil)
		server.Close() // the port is closed now
		return server.URL
	}
	tests := map[string]struct {
		base      func(*testing.T) string
		wantClass v1alpha1.FailureClass
	}{
		"refused":                {refused, v1alpha1.FailureUnreachable},
		"a name without address": {func(*testing.T) string { return "http://provider.invalid" }, v1alpha1.FailureUnreachable},
		"a certificate of a stranger": {
			func(t *testing.T) string {
				t.Helper()
				server := httptest.NewUnstartedServer(nil)
				server.Config.ErrorLog = log.New(io.Discard, "", 0)
				server.StartTLS()
				t.Cleanup(server.Close)
				return server.URL
			}, v1alpha1.FailureUnreachable,
		},
		"reset before the answer": {
			func(t *testing.T) string {
				t.Helper()
				return serve(t, func(w http.ResponseWriter, _ *http.Request) { reset(t, w) })
			}, v1alpha1.FailureUnavailable,
		},
		"cut in the middle of the answer": {
			func(t *testing.T) string {
				t.Helper()
				return serve(t, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "application/json")
					w.Header().Set("Content-Length", "1000")
					_, _ = io.WriteString(w, `{"choices":[`)
				})
			}, v1alpha1.FailureUnavailable,
		},
		"cut in the middle of an error": {
			func(t *testing.T) string {
				t.Helper()
				return serve(t, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Length", "1000")
					w.WriteHeader(http.StatusTooManyRequests)
					_, _ = io.WriteString(w, `{"error":{`)
				})
			}, v1alpha1.FailureRateLimited,
		},
		"an answer without end": {
			func(t *testing.T) string {
				t.Helper()
				return serve(t, func(w http.ResponseWriter, _ *http.Request) {
					chunk := []byte(strings.Repeat(" ", 64<<10))
					for {
						if _, err := w.Write(chunk); err != nil {
							return // the client has had enough
						}
					}
				})
			}, v1alpha1.FailureInvalidOutput,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			base := tc.base(t)
			for _, call := range []stages.Call{visionCall(), answerCall()} {
				failure := failureFrom(t, newTestClient(t, base), call)
				if failure.Class != tc.wantClass {
					t.Errorf("%s: got %v, want %s", call.API, failure, tc.wantClass)
				}
				checkMessage(t, failure)
			}
		})
	}
}

// In a network that drops packets, the deadline of a call passes before anything is sent. The provider is not the cause,
// and the call costs nothing.
func TestADeadlineBeforeTheCallWasSent(t *testing.T) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	client := New(Options{
		Keys:       keyFunc(func(string) (string, error) { return testKey, nil }),
		Endpoints:  EndpointFunc(func(string) (string, error) { return "http://192.0.2.1", nil }),
		HTTPClient: &http.Client{Transport: &http.Transport{DialContext: dial}},
	})
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	_, err := client.Complete(ctx, answerCall())
	if failure, ok := errors.AsType[*pipeline.Failure](err); !ok || failure.Class != v1alpha1.FailureUnreachable {
		t.Errorf("got %v, want %s", err, v1alpha1.FailureUnreachable)
	}
	canceled, stop := context.WithCancelCause(t.Context())
	stop(errStopped)
	if _, err := client.Complete(canceled, answerCall()); !errors.Is(err, errStopped) {
		t.Errorf("a call that is canceled before it is sent: got %v, want the cause %v", err, errStopped)
	}
}

var errStopped = errors.New("the worker stops")

// reset breaks the connection of a request.
func reset(t *testing.T, w http.ResponseWriter) {
	t.Helper()
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func TestARedirectIsNotFollowed(t *testing.T) {
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the call, key included, was sent elsewhere") })
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere+"/chat/completions", http.StatusPermanentRedirect)
	})
	if failure := failureFrom(t, newTestClient(t, base), answerCall()); failure.Class != v1alpha1.FailureUnavailable {
		t.Errorf("got %v", failure)
	}
}
