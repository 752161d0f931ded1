// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package browser tests the HTTP API with a real browser: a page of another origin that submits a scan with the
// user's cookie and follows it with EventSource. It is a module of its own, so that nothing else needs a browser;
// make test-browser runs it.
package browser

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// pageState is what the page has recorded; see testdata/page.html.
type pageState struct {
	Events []struct {
		Name   string          `json:"name"`
		ID     string          `json:"id"`
		Seq    int             `json:"seq"`
		Status string          `json:"status"`
		Result json.RawMessage `json:"result"`
	} `json:"events"`
	Opens   int    `json:"opens"`
	Breaks  int    `json:"breaks"`
	Closed  bool   `json:"closed"`
	Failure string `json:"failure"`
}

// newBrowser starts a headless Chromium, which ends with the test.
func newBrowser(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.WSURLReadTimeout(2*time.Minute))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium refuses its sandbox to root
	}
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	browser, end := chromedp.NewContext(allocator)
	t.Cleanup(end)
	if _, err := chromedp.Run(browser, chromedp.Navigate("about:blank")); err != nil {
		t.Fatalf("start Chromium: %v; install it, for example with apt-get install chromium", err)
	}
	return browser
}

// pages serves the web app's page and signs the user in.
func pages(t *testing.T) *httptest.Server {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("testdata", "page.html"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "kim", Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page) // the browser has left if this fails
	}))
	t.Cleanup(server.Close)
	return server
}

// localhost is a test server's URL by name: an address and a name are different origins, and cookies do not cross.
func localhost(server *httptest.Server) string {
	return strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
}

// run runs one action in the browser.
func run[T any](browser context.Context, t *testing.T, action chromedp.Action[T]) T {
	t.Helper()
	value, err := chromedp.Run(browser, action)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func state(browser context.Context, t *testing.T) pageState {
	t.Helper()
	return run(browser, t, chromedp.Evaluate[pageState]("seen"))
}

// scan makes the page submit a scan and follow it; it returns the scan's id, or nothing if that failed.
func scan(browser context.Context, t *testing.T, page, api string) string {
	t.Helper()
	run(browser, t, chromedp.Navigate(page))
	return run(browser, t, chromedp.Evaluate[string]("scan("+strconv.Quote(api)+")", chromedp.EvalAwaitPromise))
}

func TestBrowser(t *testing.T) {
	app := pages(t)
	first, _, addresses := replicas(t, localhost(app))
	gate := newGateway(addresses[0])
	server := httptest.NewServer(gate)
	defer server.Close()
	api := localhost(server)
	browser := newBrowser(t)

	t.Run("the documentation is readable", func(t *testing.T) {
		run(browser, t, chromedp.EmulateViewport(1280, 900))
		run(browser, t, chromedp.Navigate(api+"/api/v1/scan/docs"))
		shots := map[string][]byte{"docs.png": run(browser, t, chromedp.CaptureScreenshot())}
		run(browser, t, chromedp.Evaluate[chromedp.Void]("document.querySelectorAll('details').forEach(d => d.open = true)"))
		text := run(browser, t, chromedp.Evaluate[string]("document.body.innerText"))
		shots["docs-open.png"] = run(browser, t, chromedp.CaptureScreenshot())
		for _, want := range []string{"/api/v1/scan/{id}/events", "X-Idempotency-Key", "IMAGE_URL_REQUIRED", "queue_position"} {
			if !strings.Contains(text, want) {
				t.Errorf("the page does not show %q", want)
			}
		}
		for name, shot := range shots { // kept with go test -artifacts, to be looked at
			if err := os.WriteFile(filepath.Join(t.ArtifactDir(), name), shot, 0o600); err != nil {
				t.Error(err)
			}
		}
	})

	t.Run("a page of another origin that is not allowed", func(t *testing.T) {
		if job := scan(browser, t, app.URL, api); job != "" { // the same page by its address
			t.Errorf("it submitted scan %s", job)
		}
		if s := state(browser, t); !strings.Contains(s.Failure, "Failed to fetch") {
			t.Errorf("it saw %q, want the browser to refuse", s.Failure)
		}
	})

	t.Run("a stream moves to another replica", func(t *testing.T) {
		job := scan(browser, t, localhost(app), api)
		if job == "" {
			t.Fatalf("submit: %s", state(browser, t).Failure)
		}
		eventually(t, "the first stage has begun", func() bool { return len(state(browser, t).Events) >= 2 })
		gate.target.Store(&addresses[1])
		first.stop()
		eventually(t, "the browser has stopped to reconnect", func() bool { return state(browser, t).Closed })

		s := state(browser, t)
		var got []string
		for i, e := range s.Events {
			if e.Seq != i || e.ID != strconv.Itoa(i) {
				t.Errorf("event %d has seq %d and id %q", i, e.Seq, e.ID)
			}
			got = append(got, e.Name+" "+e.Status)
		}
		want := []string{
			"queued started", "vision started", "vision completed", "rule started", "rule completed",
			"answer started", "answer completed", "reward started", "reward completed", "done completed",
		}
		if !slices.Equal(got, want) {
			t.Errorf("events\n%q, want\n%q", got, want)
		}
		if len(s.Events) > 0 && !strings.Contains(string(s.Events[len(s.Events)-1].Result), `"status":"completed"`) {
			t.Errorf("the last event has result %s", s.Events[len(s.Events)-1].Result)
		}
		if s.Opens != 2 || s.Failure != "" {
			t.Errorf("the stream was opened %d times, failure %q; want 2 and none", s.Opens, s.Failure)
		}
		reconnects := gate.reconnects()
		if len(reconnects) < 3 || reconnects[0] != "" || reconnects[len(reconnects)-1] != "9" {
			t.Errorf("Last-Event-ID of the requests: %q; want none first and 9 at the end", reconnects)
		}
	})
}
