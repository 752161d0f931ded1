package provider

import (
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	// DefaultConcurrency is the number of calls a worker has in flight unless its pool says otherwise.
	DefaultConcurrency = 100

	// maxBody bounds an answer, in bytes. The largest output limit is 131,072 tokens, which is well below.
	maxBody = 8 << 20

	dialTimeout         = 10 * time.Second
	tlsHandshakeTimeout = 10 * time.Second
	keepAlive           = 30 * time.Second
	idleTimeout         = 90 * time.Second
	// http2Ping is the silence after which an HTTP/2 connection is probed, and how long the probe may take. A
	// model thinks for seconds without sending a byte; a connection that a middlebox dropped looks the same
	// without a probe.
	http2Ping = 15 * time.Second
)

// errBodyTooLarge is the end of an answer that no call asked for.
var errBodyTooLarge = errors.New("the answer is larger than 8 MiB")

// NewHTTPClient returns a client for that many concurrent calls to each provider: HTTP/2 over https, a pool of
// HTTP/1.1 connections over plain http. It follows no redirects, so that a key goes nowhere but to the budget's
// endpoint, and bounds the size of answers.
func NewHTTPClient(concurrency int) *http.Client {
	concurrency = max(concurrency, 1)
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        0, // the limit per host is enough: a worker talks to a handful of hosts
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

// boundedTransport bounds the size of answers.
type boundedTransport struct{ next *http.Transport }

// RoundTrip implements http.RoundTripper.
func (t boundedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err == nil {
		resp.Body = &boundedBody{body: resp.Body, left: maxBody}
	}
	return resp, err
}

// CloseIdleConnections lets http.Client.CloseIdleConnections reach the pool.
func (t boundedTransport) CloseIdleConnections() { t.next.CloseIdleConnections() }

// boundedBody fails instead of going on for ever.
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
