// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// A client that takes its time does not keep a connection. The limits are short here; a slow machine makes the test
// slower, not fail.
func TestSlowClientsLoseTheirConnection(t *testing.T) {
	const head = "POST /api/v1/scan HTTP/1.1\r\nHost: a\r\nX-User-ID: kim\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"
	tests := map[string]struct {
		send       string
		dribble    string // sent over and over
		change     func(*limits)
		wantStatus int // 0: the connection is closed without an answer
		wantCode   string
	}{
		"nothing sent":             {change: func(l *limits) { l.readHeader = 20 * time.Millisecond }},
		"headers never end":        {send: head, change: func(l *limits) { l.readHeader = 20 * time.Millisecond }},
		"headers by the byte":      {send: head + "X-A: ", dribble: "a", change: func(l *limits) { l.readHeader = 20 * time.Millisecond }},
		"a body that never comes":  {send: head + "\r\n{", change: func(l *limits) { l.read = 20 * time.Millisecond }, wantStatus: 408, wantCode: scanapi.CodeBodyTimeout},
		"nothing after an answer":  {send: "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", change: func(l *limits) { l.idle = 20 * time.Millisecond }, wantStatus: 200},
		"headers that are too big": {send: head, dribble: "X-A: " + strings.Repeat("a", 1000) + "\r\n", wantStatus: 431},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, nil)
			o := ServeOptions{limits: defaultLimits}
			if tt.change != nil {
				tt.change(&o.limits)
			}
			address, stop := serve(t, h, o)
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if _, err := io.WriteString(conn, tt.send); err != nil {
				t.Fatal(err)
			}
			dribbled := make(chan struct{})
			go func() {
				defer close(dribbled)
				for tt.dribble != "" {
					if _, err := io.WriteString(conn, tt.dribble); err != nil {
						return // the server has closed it
					}
				}
			}()
			answer, err := io.ReadAll(conn) // up to the end of the connection, which is what is tested
			if err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Fatal(err)
			}
			_ = conn.Close()
			<-dribbled
			status, code := statusAndCode(t, string(answer))
			if status != tt.wantStatus || code != tt.wantCode {
				t.Errorf("status %d %s, want %d %s: %q", status, code, tt.wantStatus, tt.wantCode, answer)
			}
			if n := h.cluster.creates.Load(); n != 0 {
				t.Errorf("%d creates, want 0", n)
			}
			if err := stop(); err != nil {
				t.Errorf("Serve() = %v", err)
			}
		})
	}
}

// statusAndCode reads an answer as it came over the connection.
func statusAndCode(t *testing.T, answer string) (status int, code string) {
	t.Helper()
	if answer == "" || strings.HasPrefix(answer, "HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain") {
		return 0, "" // net/http's own farewell to headers that took too long
	}
	r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), nil)
	if err != nil {
		t.Fatalf("%q: %v", answer, err)
	}
	defer func() { _ = r.Body.Close() }()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("%q: %v", answer, err)
	}
	if _, after, found := strings.Cut(string(body), `"code":"`); found {
		code, _, _ = strings.Cut(after, `"`)
	}
	return r.StatusCode, code
}
