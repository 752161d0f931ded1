// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

const jobEvents = "/api/v1/scan/job/events"

// seqs are the ids of events, which must agree with their data.
func seqs(t *testing.T, events []sseEvent) []int {
	t.Helper()
	var ids []int
	for _, e := range events {
		if e.ID != strconv.Itoa(e.Data.Seq) || e.Name != e.Data.Stage || e.Data.JobID != "job" {
			t.Errorf("event %q with id %q has data %+v", e.Name, e.ID, e.Data)
		}
		ids = append(ids, e.Data.Seq)
	}
	return ids
}

func from(first, n int) []int {
	var ids []int
	for i := first; i < n; i++ {
		ids = append(ids, i)
	}
	return ids
}

// Wherever a client resumes, and whatever state the scan was in when it did, it misses nothing and gets nothing
// twice.
func TestStreamResumesAnywhere(t *testing.T) {
	for name, live := range scanLives {
		t.Run(name, func(t *testing.T) {
			l := newLife(t, "job")
			live(l)
			n := len(Events(l.scan))
			h := newHarness(t, nil)
			server := httptest.NewServer(h)
			defer server.Close()
			for at := range l.states {
				for seen := -1; seen < len(Events(l.states[at])); seen++ {
					h.cluster.put(l.states[at])
					lastID := ""
					if seen >= 0 {
						lastID = strconv.Itoa(seen)
					}
					stream := openStream(t, server.URL+jobEvents, lastID)
					if seen+1 == n && pipeline.IsFinished(&l.states[at].Status) {
						if stream.response.StatusCode != http.StatusNoContent {
							t.Errorf("state %d, all seen: status %d, want 204", at, stream.response.StatusCode)
						}
						continue
					}
					for _, state := range l.states[at+1:] {
						h.cluster.put(state)
					}
					if diff := cmp.Diff(from(seen+1, n), seqs(t, stream.rest(t))); diff != "" {
						t.Errorf("state %d, seen %d: ids (-want +got):\n%s", at, seen, diff)
					}
				}
			}
		})
	}
}

func TestStreamFollowsWriteByWrite(t *testing.T) {
	h := newHarness(t, nil)
	l := newLife(t, "job")
	succeed(l)
	h.cluster.put(l.states[0])
	stream := h.stream(t, "/api/v1/stream?job_id=job", "")
	seen := 0
	for i, state := range l.states {
		if i > 0 {
			h.cluster.put(state)
		}
		for ; seen < len(Events(state)); seen++ {
			if e, ok := stream.next(t); !ok || e.Data.Seq != seen {
				t.Fatalf("state %d: event %+v, %v; want seq %d", i, e, ok, seen)
			}
		}
	}
	if e, ok := stream.next(t); ok {
		t.Errorf("event %+v after the last one", e)
	}
}

func TestStreamHeaders(t *testing.T) {
	h := newHarness(t, nil)
	l := newLife(t, "job")
	succeed(l)
	h.cluster.put(l.scan)
	stream := h.stream(t, jobEvents, "")
	for header, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no",
	} {
		if got := stream.response.Header.Get(header); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
	hint, ok := strings.CutPrefix(stream.block(t)[0], "retry: ")
	if ms, err := strconv.Atoi(hint); !ok || err != nil || ms < 1000 || ms >= 3000 {
		t.Errorf("the stream begins with %q, want a retry hint of 1000 to 2999", hint)
	}
}

func TestStreamRejects(t *testing.T) {
	tests := map[string]struct {
		path       string
		headers    []string
		options    func(*Options)
		end        bool
		wantStatus int
		wantCode   string
	}{
		"unknown scan":         {path: "/api/v1/scan/other/events", wantStatus: 404, wantCode: scanapi.CodeScanNotFound},
		"another user's":       {path: jobEvents, headers: []string{"X-User-ID", "lee"}, wantStatus: 404, wantCode: scanapi.CodeScanNotFound},
		"no user":              {path: jobEvents, headers: []string{"X-User-ID", ""}, wantStatus: 401, wantCode: scanapi.CodeUnauthorized},
		"no job id":            {path: "/api/v1/stream", wantStatus: 400, wantCode: scanapi.CodeJobIDRequired},
		"stopping":             {path: jobEvents, end: true, wantStatus: 503, wantCode: scanapi.CodeNotReady},
		"too many of one user": {path: jobEvents, options: func(o *Options) { o.MaxStreamsPerUser = -1 }, wantStatus: 429, wantCode: scanapi.CodeTooManyStreams},
		"too many":             {path: jobEvents, options: func(o *Options) { o.MaxStreams = -1 }, wantStatus: 503, wantCode: scanapi.CodeTooManyStreams},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, tt.options)
			h.cluster.put(newLife(t, "job").scan)
			if tt.end {
				h.EndStreams()
			}
			w := h.call(t, http.MethodGet, tt.path, "", tt.headers...)
			if w.Code != tt.wantStatus || problemCode(t, w) != tt.wantCode {
				t.Errorf("status %d: %s; want %d %s", w.Code, w.Body, tt.wantStatus, tt.wantCode)
			}
			if streams, scans := h.hub.size(); streams != 0 || scans != 0 {
				t.Errorf("%d streams of %d scans are left in the hub", streams, scans)
			}
		})
	}
}

// Ids of another system are no reason to leave a client without events.
func TestStreamWithForeignLastEventIDStartsAnew(t *testing.T) {
	for _, id := range []string{"1735000000000-0", "-3", "abc", "99999999999999999999"} {
		h := newHarness(t, nil)
		l := newLife(t, "job")
		succeed(l)
		h.cluster.put(l.scan)
		if diff := cmp.Diff(from(0, 10), seqs(t, h.stream(t, jobEvents, id).rest(t))); diff != "" {
			t.Errorf("%q: ids (-want +got):\n%s", id, diff)
		}
	}
}

// A replica whose watch is behind the one that served the client before has fewer events than the client has seen.
func TestStreamOnALaggingReplica(t *testing.T) {
	h := newHarness(t, nil)
	l := newLife(t, "job")
	succeed(l)
	h.cluster.put(l.states[1])
	stream := h.stream(t, jobEvents, "5")
	for _, state := range l.states[2:] {
		h.cluster.put(state)
	}
	if diff := cmp.Diff(from(6, 10), seqs(t, stream.rest(t))); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
}

func TestStreamOfACanceledScan(t *testing.T) {
	h := newHarness(t, nil)
	l := newLife(t, "job")
	l.assign("vision")
	h.cluster.put(l.scan)
	stream := h.stream(t, jobEvents, "0")
	if w := h.call(t, http.MethodDelete, "/api/v1/scan/job", ""); w.Code != http.StatusNoContent {
		t.Fatalf("DELETE: status %d", w.Code)
	}
	events := stream.rest(t)
	if diff := cmp.Diff([]int{1, 2}, seqs(t, events)); diff != "" {
		t.Fatalf("ids (-want +got):\n%s", diff)
	}
	if last := events[1]; last.Name != "error" || !strings.Contains(string(last.Data.Result), "CANCELED") {
		t.Errorf("last event %+v", last)
	}
}

// A scan may finish and be deleted before a slow stream looks: it must still see the end, not a cancellation.
func TestStreamOfAScanThatFinishedAndWasDeleted(t *testing.T) {
	hub := newHub(1, 1)
	mail, _ := hub.subscribe("job", "kim")
	l := newLife(t, "job")
	succeed(l)
	hub.publish(l.states[1], false)
	hub.publish(l.scan, false)
	hub.publish(l.scan, true)

	h := newHarness(t, nil)
	w := httptest.NewRecorder()
	out := &eventWriter{server: h.Server, w: w, control: http.NewResponseController(deadlines{w})}
	h.follow(httptest.NewRequestWithContext(t.Context(), http.MethodGet, jobEvents, http.NoBody), out, l.states[0], mail, 0)
	if body := w.Body.String(); strings.Count(body, "event: ") != 10 || !strings.Contains(body, "event: done") || strings.Contains(body, "CANCELED") {
		t.Errorf("stream:\n%s", body)
	}
}

func TestStreamKeepalive(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.Keepalive = 15 * time.Second })
	h.cluster.put(newLife(t, "job").scan)
	stream := h.stream(t, jobEvents, "0")
	stream.block(t) // the retry hint
	for range 3 {
		waitFor(t, h.clock.HasWaiters)
		h.clock.Step(15 * time.Second)
		if got := stream.block(t); len(got) != 1 || got[0] != ": keepalive" {
			t.Fatalf("got %q, want a keepalive comment", got)
		}
	}
	if n := h.cluster.liveReads.Load(); n != 0 {
		t.Errorf("%d reads of the API server, want 0", n)
	}
}

// A scan that was created and deleted while the watch was broken is in none of its events.
func TestStreamOfAScanThatTheWatchNeverSaw(t *testing.T) {
	h := newHarness(t, nil)
	h.cluster.stored["job"] = newLife(t, "job").scan
	stream := h.stream(t, jobEvents, "")
	stream.next(t)
	waitFor(t, h.clock.HasWaiters)
	h.cluster.mu.Lock()
	delete(h.cluster.stored, "job")
	h.cluster.mu.Unlock()
	h.clock.Step(time.Minute)
	if events := stream.rest(t); len(events) != 1 || events[0].Name != "error" {
		t.Errorf("events %+v, want one error", events)
	}
}

func TestStreamsEndWhenTheServerStops(t *testing.T) {
	h := newHarness(t, nil)
	l := newLife(t, "job")
	h.cluster.put(l.scan)
	first := h.stream(t, jobEvents, "")
	if e, ok := first.next(t); !ok || e.Data.Seq != 0 {
		t.Fatalf("event %+v, %v", e, ok)
	}
	h.Drain()
	if w := h.call(t, http.MethodGet, "/readyz", ""); w.Code != http.StatusServiceUnavailable {
		t.Errorf("readiness while draining: status %d, want 503", w.Code)
	}
	h.EndStreams()
	if events := first.rest(t); len(events) != 0 {
		t.Errorf("events %+v after the server stopped", events)
	}

	other := newHarness(t, nil)
	succeed(l)
	other.cluster.put(l.scan)
	if diff := cmp.Diff(from(1, 10), seqs(t, other.stream(t, jobEvents, "0").rest(t))); diff != "" {
		t.Errorf("ids on the other replica (-want +got):\n%s", diff)
	}
}

func TestStreamsLeaveNothingBehind(t *testing.T) {
	h := newHarness(t, nil)
	h.cluster.put(newLife(t, "job").scan)
	server := httptest.NewServer(h)
	defer server.Close()
	for range 20 {
		openStream(t, server.URL+jobEvents, "").next(t)
	}
	if streams, scans := h.hub.size(); streams != 20 || scans != 1 {
		t.Errorf("%d streams of %d scans, want 20 of 1", streams, scans)
	}
	server.CloseClientConnections()
	waitFor(t, func() bool { streams, scans := h.hub.size(); return streams == 0 && scans == 0 })
}

func TestMailboxKeepsTheLatestOnly(t *testing.T) {
	hub := newHub(1, 1)
	mail, _ := hub.subscribe("job", "kim")
	l := newLife(t, "job")
	succeed(l)
	for _, state := range l.states {
		hub.publish(state, false)
	}
	<-mail.ready
	if scan, deleted := mail.take(); scan != l.states[len(l.states)-1] || deleted {
		t.Errorf("take() = %v, %v; want the last state", eventNames(Events(scan)), deleted)
	}
	select {
	case <-mail.ready:
		t.Error("more than one signal for what was taken at once")
	default:
	}
}

func TestStreamLimits(t *testing.T) {
	hub := newHub(3, 2)
	open := map[string][]*mailbox{}
	steps := []struct {
		user  string
		leave bool
		want  limitReached
	}{
		{user: "kim"},
		{user: "kim"},
		{user: "kim", want: userLimit},
		{user: "lee"},
		{user: "lee", want: overallLimit},
		{user: "kim", leave: true},
		{user: "kim"},
		{user: "kim", leave: true},
		{user: "lee"},
		{user: "kim", want: overallLimit},
	}
	for i, s := range steps {
		if s.leave {
			last := len(open[s.user]) - 1
			hub.leave(open[s.user][last])
			open[s.user] = open[s.user][:last]
			continue
		}
		mail, got := hub.subscribe("job", s.user)
		if got != s.want {
			t.Errorf("step %d: limit %d, want %d", i, got, s.want)
		}
		if mail != nil {
			open[s.user] = append(open[s.user], mail)
		}
	}
	for _, mails := range open {
		for _, mail := range mails {
			hub.leave(mail)
		}
	}
	if len(hub.byUser)+len(hub.follow)+hub.open != 0 {
		t.Errorf("an empty hub keeps %v, %v", hub.byUser, hub.follow)
	}
}

// waitFor waits until a state is reached that another goroutine makes, with no more than the test's own deadline.
func waitFor(t *testing.T, reached func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !reached() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the state was not reached")
		}
	}
}

func BenchmarkPublishTo1000Streams(b *testing.B) {
	hub := newHub(1000, 1000)
	for i := range 1000 {
		if _, limit := hub.subscribe(fmt.Sprint("job-", i), "kim"); limit != withinLimits {
			b.Fatal("subscribe refused")
		}
	}
	scan := newLife(b, "job-500").scan
	b.ReportAllocs()
	for b.Loop() {
		hub.publish(scan, false)
	}
}

func BenchmarkPoll(b *testing.B) {
	h := newHarness(b, nil)
	l := newLife(b, "job")
	succeed(l)
	h.cluster.put(l.scan)
	b.ReportAllocs()
	for b.Loop() {
		if w := h.call(b, http.MethodGet, "/api/v1/scan/job/result", ""); w.Code != http.StatusOK {
			b.Fatal(w.Code)
		}
	}
}
