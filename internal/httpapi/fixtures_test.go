// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

var (
	testStart = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	scanKind  = apischema.GroupResource{Group: v1alpha1.GroupName, Resource: "scanrequests"}
)

const testNamespace = "scans"

// cluster is an API server and a watch of it in memory. What is created reaches the watch when deliver is called,
// or at once where watching is set.
type cluster struct {
	mu       sync.Mutex
	stored   map[string]*v1alpha1.ScanRequest
	watched  map[string]*v1alpha1.ScanRequest
	watching bool
	handler  func(scan *v1alpha1.ScanRequest, deleted bool)
	models   []string
	fail     error // what writes and live reads return
	// lost are what the next creates return: their answers are lost. Those of stored are stored all the same.
	lost []lostAnswer

	creates, liveReads atomic.Int64
}

func (c *cluster) Get(_ context.Context, name string) (*v1alpha1.ScanRequest, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if scan, ok := c.watched[name]; ok {
		return scan, nil
	}
	return nil, apierrors.NewNotFound(scanKind, name)
}

func (c *cluster) GetLive(_ context.Context, name string) (*v1alpha1.ScanRequest, error) {
	c.liveReads.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		return nil, c.fail
	}
	if scan, ok := c.stored[name]; ok {
		return scan.DeepCopy(), nil
	}
	return nil, apierrors.NewNotFound(scanKind, name)
}

// lostAnswer is a create whose answer does not arrive.
type lostAnswer struct {
	err    error
	stored bool
}

func (c *cluster) Create(ctx context.Context, scan *v1alpha1.ScanRequest) error {
	c.creates.Add(1)
	c.mu.Lock()
	if len(c.lost) > 0 {
		lost := c.lost[0]
		c.lost = c.lost[1:]
		c.mu.Unlock()
		if lost.stored {
			if err := c.store(ctx, scan); err != nil {
				return err
			}
		}
		return lost.err
	}
	c.mu.Unlock()
	return c.store(ctx, scan)
}

func (c *cluster) store(_ context.Context, scan *v1alpha1.ScanRequest) error {
	c.mu.Lock()
	if c.fail != nil {
		c.mu.Unlock()
		return c.fail
	}
	if _, ok := c.stored[scan.Name]; ok {
		c.mu.Unlock()
		return apierrors.NewAlreadyExists(scanKind, scan.Name)
	}
	scan.Namespace = testNamespace
	scan.UID = types.UID("uid-" + scan.Name)
	scan.CreationTimestamp = metav1.NewTime(testStart)
	scan.Status.Phase = v1alpha1.ScanQueued
	c.stored[scan.Name] = scan.DeepCopy()
	watching := c.watching
	c.mu.Unlock()
	if watching {
		c.deliver(scan.Name)
	}
	return nil
}

func (c *cluster) Delete(_ context.Context, scan *v1alpha1.ScanRequest) error {
	c.mu.Lock()
	if c.fail != nil {
		c.mu.Unlock()
		return c.fail
	}
	if _, ok := c.stored[scan.Name]; !ok {
		c.mu.Unlock()
		return apierrors.NewNotFound(scanKind, scan.Name)
	}
	delete(c.stored, scan.Name)
	c.mu.Unlock()
	c.deliver(scan.Name)
	return nil
}

func (c *cluster) SupportedModels(context.Context) ([]string, error) { return c.models, nil }

// put stores a scan as the operator would, and delivers it.
func (c *cluster) put(scan *v1alpha1.ScanRequest) {
	c.mu.Lock()
	c.stored[scan.Name] = scan.DeepCopy()
	c.mu.Unlock()
	c.deliver(scan.Name)
}

// deliver lets the watch see the stored state of a scan.
func (c *cluster) deliver(name string) {
	c.mu.Lock()
	scan, exists := c.stored[name]
	if exists {
		scan = scan.DeepCopy()
		c.watched[name] = scan
	} else {
		scan = c.watched[name]
		delete(c.watched, name)
	}
	c.mu.Unlock()
	if scan != nil {
		c.handler(scan, !exists)
	}
}

func (c *cluster) setFail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = err
}

func (c *cluster) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.stored)
}

// harness is a server on a cluster in memory.
type harness struct {
	*Server
	cluster  *cluster
	clock    *clocktesting.FakeClock
	registry *prometheus.Registry
}

func newHarness(tb testing.TB, change func(*Options)) *harness {
	tb.Helper()
	h := &harness{
		cluster: &cluster{
			stored: map[string]*v1alpha1.ScanRequest{}, watched: map[string]*v1alpha1.ScanRequest{}, watching: true,
			models: []string{"gpt-a", "gpt-b"},
		},
		clock:    clocktesting.NewFakeClock(testStart),
		registry: prometheus.NewRegistry(),
	}
	options := Options{
		Namespace: testNamespace, Scans: h.cluster, Models: h.cluster, Synced: func() bool { return true },
		Clock: h.clock, Log: logr.Discard(), MetricsRegistry: h.registry,
		Categories: []scanapi.Category{{ID: 1, Name: "종이", DisplayName: "종이류", Instructions: []string{"묶어서 배출"}}},
	}
	if change != nil {
		change(&options)
	}
	var err error
	if h.Server, err = New(options); err != nil {
		tb.Fatalf("New() = %v", err)
	}
	h.cluster.handler = func(scan *v1alpha1.ScanRequest, deleted bool) { h.observe(scan, deleted) }
	return h
}

// call makes one request as user "kim" through the gateway, unless the headers say otherwise.
func (h *harness) call(tb testing.TB, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	tb.Helper()
	r := httptest.NewRequestWithContext(tb.Context(), method, path, strings.NewReader(body))
	r.RemoteAddr = "10.1.2.3:4567"
	r.Header.Set(scanapi.UserIDHeader, "kim")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Del(headers[i])
		if headers[i+1] != "" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(deadlines{w}, r)
	return w
}

// deadlines lets a recorder pass for a connection.
type deadlines struct{ *httptest.ResponseRecorder }

func (deadlines) SetReadDeadline(time.Time) error  { return nil }
func (deadlines) SetWriteDeadline(time.Time) error { return nil }

func decode[T any](tb testing.TB, w *httptest.ResponseRecorder) T {
	tb.Helper()
	var v T
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		tb.Fatalf("the answer %q is no %T: %v", w.Body, v, err)
	}
	return v
}

// problemCode is the code of an error answer, which must be a complete problem document.
func problemCode(tb testing.TB, w *httptest.ResponseRecorder) string {
	tb.Helper()
	if got := w.Header().Get("Content-Type"); got != scanapi.ProblemContentType {
		tb.Fatalf("status %d has Content-Type %q, want %q; body %q", w.Code, got, scanapi.ProblemContentType, w.Body)
	}
	p := decode[scanapi.Problem](tb, w)
	if p.Status != w.Code || p.Code == "" || p.Detail == "" || p.Title == "" || p.RequestID == "" {
		tb.Fatalf("incomplete problem: %s (HTTP status %d)", w.Body, w.Code)
	}
	return p.Code
}

const goodBody = `{"image_url":"https://img.example.com/a.jpg","user_input":"어떻게 버려요?"}`

// stream opens a stream on a real connection.
func (h *harness) stream(t *testing.T, path, lastEventID string) *sseStream {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return openStream(t, server.URL+path, lastEventID)
}

type sseEvent struct {
	ID, Name string
	Data     scanapi.Event
}

type sseStream struct {
	response *http.Response
	lines    *bufio.Reader
}

func openStream(t *testing.T, url, lastEventID string) *sseStream {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(scanapi.UserIDHeader, "kim")
	if lastEventID != "" {
		r.Header.Set(scanapi.LastEventIDHeader, lastEventID)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return newStream(response)
}

func newStream(response *http.Response) *sseStream {
	return &sseStream{response: response, lines: bufio.NewReader(response.Body)}
}

// block reads up to the next empty line; it returns nil at the end of the stream.
func (s *sseStream) block(t *testing.T) []string {
	t.Helper()
	var block []string
	for {
		line, err := s.lines.ReadString('\n')
		if err == io.EOF && line == "" {
			return nil
		}
		if err != nil {
			t.Fatalf("read the stream: %v", err)
		}
		if line = strings.TrimSuffix(line, "\n"); line == "" {
			return block
		}
		block = append(block, line)
	}
}

// next reads the next event, leaving out comments and retry hints; false at the end of the stream.
func (s *sseStream) next(t *testing.T) (sseEvent, bool) {
	t.Helper()
	for {
		block := s.block(t)
		if block == nil {
			return sseEvent{}, false
		}
		var e sseEvent
		for _, line := range block {
			field, value, _ := strings.Cut(line, ": ")
			switch field {
			case "id":
				e.ID = value
			case "event":
				e.Name = value
			case "data":
				if err := json.Unmarshal([]byte(value), &e.Data); err != nil {
					t.Fatalf("data %q: %v", value, err)
				}
			}
		}
		if e.Name != "" {
			return e, true
		}
	}
}

// rest reads the events up to the end of the stream.
func (s *sseStream) rest(t *testing.T) []sseEvent {
	t.Helper()
	var events []sseEvent
	for {
		e, ok := s.next(t)
		if !ok {
			return events
		}
		events = append(events, e)
	}
}

// What client-go returns where the API server cannot be reached or does not answer.
var (
	errRefused error = &url.Error{Op: "Post", URL: "https://127.0.0.1:6443", Err: &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}}
	errTimeout error = &url.Error{Op: "Post", URL: "https://127.0.0.1:6443", Err: context.DeadlineExceeded}
)
