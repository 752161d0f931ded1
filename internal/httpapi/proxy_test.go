// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// bufferingProxy does what nginx does by default: it reads an answer to its end before it passes it on, unless the
// answer says X-Accel-Buffering: no.
type bufferingProxy struct {
	backend  string
	buffered atomic.Int64
}

func (p *bufferingProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out, err := http.NewRequestWithContext(r.Context(), r.Method, p.backend+r.URL.RequestURI(), r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	out.Header = r.Header.Clone()
	answer, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = answer.Body.Close() }()
	maps.Copy(w.Header(), answer.Header)
	if answer.Header.Get("X-Accel-Buffering") != "no" {
		p.buffered.Add(1)
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.WriteHeader(answer.StatusCode)
		_, _ = w.Write(body) // the client has left if this fails
		return
	}
	w.WriteHeader(answer.StatusCode)
	buffer := make([]byte, 4096)
	for {
		n, err := answer.Body.Read(buffer)
		if _, writeErr := w.Write(buffer[:n]); writeErr != nil || err != nil {
			return
		}
		if http.NewResponseController(w).Flush() != nil {
			return
		}
	}
}

// Through a proxy that buffers, each event arrives when it happens: the next state is written only after the events
// of the one before have arrived.
func TestStreamThroughABufferingProxy(t *testing.T) {
	h := newHarness(t, nil)
	l := newLife(t, "job")
	succeed(l)
	h.cluster.put(l.states[0])
	backend := httptest.NewServer(h)
	defer backend.Close()
	proxy := &bufferingProxy{backend: backend.URL}
	front := httptest.NewServer(proxy)
	defer front.Close()

	stream := openStream(t, front.URL+jobEvents, "")
	var got []sseEvent
	for i, state := range l.states {
		if i > 0 {
			h.cluster.put(state)
		}
		for len(got) < len(Events(state)) {
			e, ok := stream.next(t)
			if !ok {
				t.Fatalf("the stream ended after %d events", len(got))
			}
			got = append(got, e)
		}
	}
	if diff := cmp.Diff(from(0, 10), seqs(t, got)); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
	if n := proxy.buffered.Load(); n != 0 {
		t.Errorf("the proxy buffered %d streams", n)
	}
	poll := openStream(t, front.URL+scanapi.ResultPath("job"), "")
	if poll.response.StatusCode != http.StatusOK || proxy.buffered.Load() != 1 {
		t.Errorf("a poll through the proxy: status %d, %d answers buffered; want 200 and 1", poll.response.StatusCode, proxy.buffered.Load())
	}
}
