// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"
)

// manyCalls sends n requests at the same time: the handler must hold each until all have arrived.
func manyCalls(ctx context.Context, t *testing.T, hc *http.Client, url string, n int) {
	t.Helper()
	var done sync.WaitGroup
	for range n {
		done.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, http.NoBody)
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := hc.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Error(err)
			}
			_ = resp.Body.Close()
		})
	}
	done.Wait()
}

// A pool as large as the concurrency keeps every connection for the next round. The standard library's default
// keeps two.
func TestHTTP1ConnectionsAreReused(t *testing.T) {
	const calls, rounds = 32, 3
	var arrived, kept sync.WaitGroup
	var opened atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			t.Errorf("plain http is spoken with %s", r.Proto)
		}
		arrived.Done()
		arrived.Wait()
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	hc := NewHTTPClient(calls)
	t.Cleanup(hc.CloseIdleConnections)
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{PutIdleConn: func(err error) {
		if err != nil {
			t.Errorf("a connection is not kept: %v", err)
		}
		kept.Done()
	}})
	for range rounds {
		arrived.Add(calls)
		kept.Add(calls)
		manyCalls(ctx, t, hc, server.URL, calls)
		kept.Wait()
	}
	if got := opened.Load(); got != calls {
		t.Errorf("%d rounds of %d concurrent calls opened %d connections, want %d", rounds, calls, got, calls)
	}
}

func TestHTTP2OverTLS(t *testing.T) {
	const calls = 32
	var arrived sync.WaitGroup
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("https is spoken with %s", r.Proto)
		}
		arrived.Done()
		arrived.Wait()
	}))
	server.EnableHTTP2 = true
	// Connections that were dialed for the first calls are dropped as soon as one of them turns out to carry all.
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	hc := NewHTTPClient(calls)
	t.Cleanup(hc.CloseIdleConnections)
	roots := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	hc.Transport.(boundedTransport).next.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	arrived.Add(calls)
	manyCalls(t.Context(), t, hc, server.URL, calls)
}
