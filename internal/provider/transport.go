// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	// DefaultConcurrency is the number of calls that a worker has in flight unless its pool sets another.
	DefaultConcurrency = 100

	// maxBody bounds a response, in bytes. The largest output limit, 131,072 tokens, is far below it.
	maxBody = 8 << 20

	dialTimeout         = 10 * time.Second
	tlsHandshakeTimeout = 10 * time.Second
	keepAlive           = 30 * time.Second
	idleTimeout         = 90 * time.Second
	// http2Ping is the idle time after which an HTTP/2 connection is probed, and the timeout of the probe. A model
	// may send nothing for seconds. Only a probe distinguishes that from a connection that a middlebox has dropped.
	http2Ping = 15 * time.Second
)

// errBodyTooLarge ends the reading of a response that is larger than maxBody.
var errBodyTooLarge = errors.New("the response is larger than 8 MiB")

// NewHTTPClient returns a client for concurrent calls to each provider: with HTTP/2 over https and a pool of HTTP/1.1
// connections over plain http. It does not follow redirects, so that a key is sent to the budget's endpoint only, and it
// bounds the size of responses.
func NewHTTPClient(concurrency int) *http.Client {
	concurrency = max(concurrency, 1)
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        0, // the limit per host is enough: a worker calls a handful of hosts
		MaxIdleConnsPerHost: concurrency,
		IdleConnTimeout:     idleTimeout,
		TLSHandshakeTimeout: tlsHandshakeTimeout,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: http2Ping, PingTimeout: http2Ping},
	}
	return &http.Client{
		Transport:     boundedTransport{transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// boundedTransport bounds the size of responses.
type boundedTransport struct{ next *http.Transport }

// RoundTrip implements http.RoundTripper.
func (t boundedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err == nil {
		resp.Body = &boundedBody{body: resp.Body, left: maxBody}
	}
	return resp, err
}

// CloseIdleConnections is called by http.Client.CloseIdleConnections.
func (t boundedTransport) CloseIdleConnections() { t.next.CloseIdleConnections() }

// boundedBody returns errBodyTooLarge after left bytes.
type boundedBody struct {
	body io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errBodyTooLarge
	}
	n, err := b.body.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err //nolint:wrapcheck // io.EOF must stay io.EOF
}

func (b *boundedBody) Close() error { return b.body.Close() }
