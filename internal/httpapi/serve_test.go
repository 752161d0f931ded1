// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// serve serves h until the returned function is called, which returns what Serve returned.
func serve(tb testing.TB, h *harness, o ServeOptions) (address string, stop func() error) {
	tb.Helper()
	listener, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, listener, o) }()
	return listener.Addr().String(), func() error { cancel(); return <-served }
}

// A stream is the same over both versions of HTTP, and a server that stops ends it and returns.
func TestServe(t *testing.T) {
	for name, version2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, nil)
			l := newLife(t, "job")
			succeed(l)
			h.cluster.put(l.states[2])
			address, stop := serve(t, h, ServeOptions{})
			protocols := &http.Protocols{}
			protocols.SetHTTP1(!version2)
			protocols.SetUnencryptedHTTP2(version2)
			transport := &http.Transport{Protocols: protocols}
			defer transport.CloseIdleConnections()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+jobEvents, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set(scanapi.UserIDHeader, "kim")
			answer, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = answer.Body.Close() }()
			if answer.Proto[:6] != name[:6] {
				t.Fatalf("the answer is %s, want %s", answer.Proto, name)
			}
			stream := newStream(answer)
			var seen []sseEvent
			for range 5 {
				e, _ := stream.next(t)
				seen = append(seen, e)
			}
			if err := stop(); err != nil {
				t.Errorf("Serve() = %v", err)
			}
			if diff := cmp.Diff(from(0, 5), seqs(t, append(seen, stream.rest(t)...))); diff != "" {
				t.Errorf("ids (-want +got):\n%s", diff)
			}
		})
	}
}

func TestServeTellsWhyItCannot(t *testing.T) {
	h := newHarness(t, nil)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.Serve(t.Context(), listener, ServeOptions{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve() on a closed listener = %v", err)
	}
	if !h.isEnding() {
		t.Error("streams go on after the server has failed")
	}
}

// BenchmarkOpenStream measures the memory that the server keeps for one open stream. The client's side is a socket
// without buffers.
func BenchmarkOpenStream(b *testing.B) {
	const streams = 1000
	h := newHarness(b, func(o *Options) { o.MaxStreamsPerUser = streams })
	for i := range streams {
		h.cluster.put(newLife(b, fmt.Sprint("job-", i)).scan)
	}
	address, stop := serve(b, h, ServeOptions{})
	for b.Loop() {
		before := memoryInUse()
		connections := make([]net.Conn, streams)
		for i := range connections {
			c, err := (&net.Dialer{}).DialContext(b.Context(), "tcp", address)
			if err != nil {
				b.Fatal(err)
			}
			connections[i] = c
			if _, err := fmt.Fprintf(c, "GET /api/v1/scan/job-%d/events HTTP/1.1\r\nHost: a\r\nX-User-ID: kim\r\n\r\n", i); err != nil {
				b.Fatal(err)
			}
		}
		for i, c := range connections {
			readUntil(b, c, fmt.Sprintf(`"job_id":"job-%d"`, i))
		}
		b.ReportMetric(float64(memoryInUse()-before)/streams, "B/stream")
		for _, c := range connections {
			if err := c.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := stop(); err != nil {
		b.Error(err)
	}
}

func memoryInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func readUntil(b *testing.B, from io.Reader, want string) {
	b.Helper()
	var read strings.Builder
	buffer := make([]byte, 512)
	for !strings.Contains(read.String(), want) {
		n, err := from.Read(buffer)
		if err != nil {
			b.Fatalf("after %q: %v", read.String(), err)
		}
		read.Write(buffer[:n])
	}
}

// BenchmarkFinishedScan measures the memory that a finished scan takes in the watch.
func BenchmarkFinishedScan(b *testing.B) {
	const scans = 10000
	l := newLife(b, "job")
	succeed(l)
	wire, err := json.Marshal(l.scan)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		before := memoryInUse()
		kept := make([]any, scans)
		for i := range kept {
			scan := &v1alpha1.ScanRequest{}
			if err := json.Unmarshal(wire, scan); err != nil {
				b.Fatal(err)
			}
			if kept[i], err = Trim(scan); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(memoryInUse()-before)/scans, "B/scan")
		runtime.KeepAlive(kept)
	}
}
