// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// exchange is one request that a scripted server expects and what it answers.
type exchange struct {
	wantRequest string   // method and path
	wantHeaders []string // name: value
	wantBody    string
	status      int
	headers     []string // name: value
	body        string
}

// script serves exchanges in order and fails the test for any other request.
func script(t *testing.T, exchanges ...exchange) string {
	t.Helper()
	var mu sync.Mutex
	next := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if next == len(exchanges) {
			t.Errorf("%s %s after the end of the script", r.Method, r.URL.Path)
			w.WriteHeader(http.StatusTeapot)
			return
		}
		e := exchanges[next]
		next++
		if got := r.Method + " " + r.URL.Path; got != e.wantRequest {
			t.Errorf("request %d is %s, want %s", next, got, e.wantRequest)
		}
		for _, want := range e.wantHeaders {
			name, value, _ := strings.Cut(want, ": ")
			if got := r.Header.Get(name); got != value {
				t.Errorf("request %d has %s %q, want %q", next, name, got, value)
			}
		}
		if body, err := io.ReadAll(r.Body); err != nil || string(body) != e.wantBody {
			t.Errorf("request %d has body %q (%v), want %q", next, body, err, e.wantBody)
		}
		for _, header := range e.headers {
			name, value, _ := strings.Cut(header, ": ")
			w.Header().Set(name, value)
		}
		w.WriteHeader(e.status)
		_, _ = io.WriteString(w, e.body)
	}))
	t.Cleanup(func() {
		server.Close()
		if next != len(exchanges) {
			t.Errorf("%d of %d requests were made", next, len(exchanges))
		}
	})
	return server.URL
}

func newClient(t *testing.T, url string, options ...Option) *Client {
	t.Helper()
	c, err := New(url+"/", append([]Option{WithUser("kim")}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// eager is a clock on which every wait is over at once; it keeps what was waited for.
type eager struct {
	clock.WithTicker
	mu     sync.Mutex
	waited []time.Duration
}

func newEager() *eager { return &eager{WithTicker: clocktesting.NewFakeClock(time.Unix(0, 0))} }

func (e *eager) NewTimer(d time.Duration) clock.Timer {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waited = append(e.waited, d)
	return clock.RealClock{}.NewTimer(0)
}

func TestSubmit(t *testing.T) {
	url := script(t, exchange{
		wantRequest: "POST /api/v1/scan", wantBody: `{"image_url":"https://a/b"}`,
		wantHeaders: []string{"X-User-ID: kim", "X-Idempotency-Key: k", "Content-Type: application/json"},
		status:      200, body: `{"job_id":"j","stream_url":"/s","result_url":"/r","status":"queued"}`,
	})
	got, err := newClient(t, url).Submit(t.Context(), scanapi.SubmitRequest{ImageURL: "https://a/b"}, IdempotencyKey("k"))
	want := &scanapi.SubmitResponse{JobID: "j", StreamURL: "/s", ResultURL: "/r", Status: "queued"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Submit() = %v (-want +got):\n%s", err, diff)
	}
}

func TestErrorsAreProblems(t *testing.T) {
	tests := map[string]struct {
		status   int
		body     string
		wantCode string
	}{
		"a problem":    {status: 400, body: `{"status":400,"code":"UNSUPPORTED_MODEL","detail":"no","supported_models":["a"]}`, wantCode: "UNSUPPORTED_MODEL"},
		"a proxy's":    {status: 502, body: `<html>Bad Gateway</html>`, wantCode: "HTTP_502"},
		"an odd 2xx":   {status: 201, body: `{}`, wantCode: "HTTP_201"},
		"another JSON": {status: 404, body: `{"message":"no Route matched"}`, wantCode: "HTTP_404"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			url := script(t, exchange{wantRequest: "GET /api/v1/scan/categories", status: tt.status, body: tt.body})
			_, err := newClient(t, url).Categories(t.Context())
			p, ok := errors.AsType[*scanapi.Problem](err)
			if !ok || p.Code != tt.wantCode || p.Status != tt.status {
				t.Errorf("error %v, want a problem with code %s and status %d", err, tt.wantCode, tt.status)
			}
		})
	}
}

func TestWait(t *testing.T) {
	const path = "GET /api/v1/scan/j/result"
	k := newEager()
	url := script(
		t,
		exchange{wantRequest: path, status: 202, headers: []string{"Retry-After: 9"}, body: `{"status":"processing"}`},
		exchange{wantRequest: path, status: 503, body: `{"code":"UNAVAILABLE"}`},
		exchange{wantRequest: path, status: 202, body: `{"status":"processing"}`},
		exchange{wantRequest: path, status: 200, body: `{"task_id":"j","status":"completed"}`},
	)
	result, err := newClient(t, url, WithClock(k)).Wait(t.Context(), "j")
	if err != nil || result.TaskID != "j" || result.Status != scanapi.StatusCompleted {
		t.Errorf("Wait() = %+v, %v", result, err)
	}
	if diff := cmp.Diff([]time.Duration{9 * time.Second, 2 * time.Second, 2 * time.Second}, k.waited); diff != "" {
		t.Errorf("waits (-want +got):\n%s", diff)
	}
}

func TestWaitEnds(t *testing.T) {
	url := script(t, exchange{wantRequest: "GET /api/v1/scan/j/result", status: 404, body: `{"code":"RESULT_NOT_FOUND"}`})
	if _, err := newClient(t, url).Wait(t.Context(), "j"); err == nil || !strings.Contains(err.Error(), "RESULT_NOT_FOUND") {
		t.Errorf("Wait() = %v, want RESULT_NOT_FOUND", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newClient(t, "http://127.0.0.1:1").Wait(ctx, "j"); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait() with a canceled context = %v", err)
	}
}

func TestCancel(t *testing.T) {
	url := script(t, exchange{wantRequest: "DELETE /api/v1/scan/j", status: 204})
	if err := newClient(t, url).Cancel(t.Context(), "j"); err != nil {
		t.Errorf("Cancel() = %v", err)
	}
}

func sse(events ...string) string {
	var b strings.Builder
	b.WriteString("retry: 1500\n\n: keepalive\n\n")
	for _, e := range events {
		var seq int
		var stage string
		if _, err := fmt.Sscan(e, &seq, &stage); err != nil {
			panic(err)
		}
		data, err := json.Marshal(scanapi.Event{JobID: "j", Stage: stage, Status: "started", Seq: seq})
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(&b, "id: %d\nevent: %s\ndata: %s\n\n", seq, stage, data)
	}
	return b.String()
}

func TestEvents(t *testing.T) {
	const path = "GET /api/v1/scan/j/events"
	tests := map[string]struct {
		script  []exchange
		want    string
		wantErr string
	}{
		"in one go": {script: []exchange{
			{wantRequest: path, wantHeaders: []string{"Last-Event-ID: "}, status: 200, body: sse("0 queued", "1 vision", "2 done")},
		}, want: "0 1 2"},
		"broken off twice, on a replica that is behind": {script: []exchange{
			{wantRequest: path, status: 200, body: sse("0 queued", "1 vision") + "id: 2\nevent: vis"},
			{wantRequest: path, wantHeaders: []string{"Last-Event-ID: 1"}, status: 503, body: `{"code":"NOT_READY"}`},
			{wantRequest: path, wantHeaders: []string{"Last-Event-ID: 1"}, status: 200, body: sse("1 vision", "2 vision")},
			{wantRequest: path, wantHeaders: []string{"Last-Event-ID: 2"}, status: 200, body: sse("3 error")},
		}, want: "0 1 2 3"},
		"nothing more": {script: []exchange{{wantRequest: path, status: 204}}},
		"no such scan": {script: []exchange{{wantRequest: path, status: 404, body: `{"code":"SCAN_NOT_FOUND"}`}}, wantErr: "SCAN_NOT_FOUND"},
		"not our data": {script: []exchange{{wantRequest: path, status: 200, body: "data: {\n\n"}}, wantErr: "decode event"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			k := newEager()
			c := newClient(t, script(t, tt.script...), WithClock(k))
			var got []string
			var failed error
			for event, err := range c.Events(t.Context(), "j") {
				if err != nil {
					failed = err
					continue
				}
				got = append(got, strconv.Itoa(event.Seq))
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if (failed == nil) != (tt.wantErr == "") || (failed != nil && !strings.Contains(failed.Error(), tt.wantErr)) {
				t.Errorf("error %v, want %q", failed, tt.wantErr)
			}
			for _, d := range k.waited {
				if d != 1500*time.Millisecond {
					t.Errorf("waited %s before reconnecting, want what the stream asked for", d)
				}
			}
		})
	}
}

func TestEventsStopsWithItsReader(t *testing.T) {
	url := script(t, exchange{wantRequest: "GET /api/v1/scan/j/events", status: 200, body: sse("0 queued", "1 vision", "2 done")})
	for event, err := range newClient(t, url).Events(t.Context(), "j") {
		if err != nil || event.Seq != 0 {
			t.Errorf("event %+v, %v; want the first", event, err)
		}
		break
	}
}

func TestNewNamesABadURL(t *testing.T) {
	for _, bad := range []string{"", "scan.example.com", "ftp://a", "http://"} {
		if _, err := New(bad); err == nil {
			t.Errorf("New(%q) took it", bad)
		}
	}
}
