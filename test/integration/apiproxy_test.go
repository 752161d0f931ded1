// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
)

// apiProxy is a proxy between a worker and the API server. It can delay what the worker receives: watch events, and
// answers about its Lease.
type apiProxy struct {
	// config is for clients of the proxy. Its rights are those of the configuration that the proxy was made of.
	config *rest.Config

	mu   sync.Mutex
	open chan struct{} // closed while answers may pass
}

func newAPIProxy(t *testing.T, config *rest.Config) *apiProxy {
	t.Helper()
	target, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		t.Fatalf("find the API server's address: %v", err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatalf("make a transport to the API server: %v", err)
	}
	p := &apiProxy{open: make(chan struct{})}
	close(p.open)
	proxy := &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: target.Scheme, Host: target.Host}) },
		ModifyResponse: func(r *http.Response) error {
			if r.Request.URL.Query().Get("watch") == "true" {
				r.Body = &heldBody{ReadCloser: r.Body, proxy: p, gone: r.Request.Context().Done()}
			}
			return nil
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/leases") {
			p.wait(r.Context().Done())
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		p.release() // a server does not see a client leave before it has read what the client sent
		server.CloseClientConnections()
		server.Close()
	})
	p.config = &rest.Config{Host: server.URL}
	return p
}

// hold delays all answers from now on.
func (p *apiProxy) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = make(chan struct{})
}

// release forwards them, the delayed ones first.
func (p *apiProxy) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
	default:
		close(p.open)
	}
}

// wait returns when answers may pass, or when the client has disconnected.
func (p *apiProxy) wait(gone <-chan struct{}) {
	p.mu.Lock()
	open := p.open
	p.mu.Unlock()
	select {
	case <-open:
	case <-gone:
	}
}

// heldBody is the body of a watch.
type heldBody struct {
	io.ReadCloser
	proxy *apiProxy
	gone  <-chan struct{} // closed when the client has gone
}

func (b *heldBody) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	b.proxy.wait(b.gone)
	return n, err
}
