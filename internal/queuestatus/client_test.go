// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queuestatus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"
)

var testStart = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fakeManager is a manager that leads while it is up.
type fakeManager struct {
	*httptest.Server

	mu       sync.Mutex
	follower bool
	response Response
	asked    [][]string
}

func newFakeManager(t *testing.T) *fakeManager {
	t.Helper()
	m := &fakeManager{response: Response{Scans: map[string]QueuePosition{}}}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if r.Method != http.MethodPost || r.URL.Path != "/v1/namespaces/scans/positions" {
			t.Errorf("asked %s %s", r.Method, r.URL.Path)
		}
		if m.follower {
			http.Error(w, "not me", http.StatusServiceUnavailable)
			return
		}
		var q Request
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Errorf("decode the request: %v", err)
		}
		slices.Sort(q.Names)
		m.asked = append(m.asked, q.Names)
		if err := json.NewEncoder(w).Encode(m.response); err != nil {
			t.Errorf("respond: %v", err)
		}
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *fakeManager) requests() [][]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.asked)
}

func (m *fakeManager) follow(follower bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.follower = follower
}

func newTestClient(t *testing.T, resolver Resolver, urls ...string) (*Client, *clocktesting.FakeClock) {
	t.Helper()
	fake := clocktesting.NewFakeClock(testStart)
	o := ClientOptions{Namespace: "scans", Clock: fake, Log: logr.Discard(), Resolver: resolver}
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		o.URLs = append(o.URLs, u)
	}
	c, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.leader.http.CloseIdleConnections)
	return c, fake
}

// position formats what Position returns.
func position(c *Client, name string) string {
	ahead, wait, ok := c.Position("scans", name)
	switch {
	case !ok:
		return "unknown"
	case wait == nil:
		return strconv.Itoa(ahead)
	default:
		return fmt.Sprint(ahead, " in ", *wait)
	}
}

func TestClientRequestsWhatIsWanted(t *testing.T) {
	m := newFakeManager(t)
	m.response = Response{
		Scans: map[string]QueuePosition{
			"a": {Ahead: 3, WaitSeconds: new(4.5), Reason: "WaitingForTokens"},
			"b": {Ahead: 7, Reason: "WaitingForWorker"},
			"s": {Reason: ReasonSuspended},
		},
		NewScanWaitSeconds: new(30.0),
	}
	c, clock := newTestClient(t, nil, m.URL)
	for _, name := range []string{"a", "b", "s", "running"} {
		if got := position(c, name); got != "unknown" {
			t.Errorf("%s before the first request: %s", name, got)
		}
	}
	if _, _, ok := c.EstimatedWait("scans"); ok {
		t.Error("the wait of a new scan is known before the first request")
	}
	c.refresh(t.Context())
	for name, want := range map[string]string{"a": "3 in 4.5s", "b": "7", "s": "unknown", "running": "unknown"} {
		if got := position(c, name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if _, _, ok := c.Position("other", "a"); ok {
		t.Error("a scan of another namespace is known")
	}
	if wait, asOf, ok := c.EstimatedWait("scans"); wait != 30*time.Second || !asOf.Equal(testStart) || !ok {
		t.Errorf("EstimatedWait() = %s, %s, %v", wait, asOf, ok)
	}
	if _, _, ok := c.EstimatedWait("other"); ok {
		t.Error("the wait of a new scan of another namespace is known")
	}
	clock.Step(time.Second)
	if got := position(c, "a"); got != "3 in 3.5s" {
		t.Errorf("a second later: %s, want a wait that is a second shorter", got)
	}
}

func TestClientRequestsRarely(t *testing.T) {
	m := newFakeManager(t)
	c, clock := newTestClient(t, nil, m.URL)
	position(c, "a")
	steps := []struct {
		name string
		step time.Duration
		do   func()
		want [][]string
	}{
		{name: "at first", want: [][]string{{"a"}}},
		{name: "while the position is fresh", step: 500 * time.Millisecond},
		{name: "a new scan is requested at once, alone", step: 500 * time.Millisecond, do: func() { position(c, "b") }, want: [][]string{{"b"}}},
		{name: "the old one when its position is old", step: 500 * time.Millisecond, want: [][]string{{"a"}}},
		{name: "the wait of a new scan alone when no call wants more", step: trackedFor, want: [][]string{nil}},
		{name: "and not twice", step: 500 * time.Millisecond},
	}
	seen := 0
	for _, s := range steps {
		clock.Step(s.step)
		if s.do != nil {
			s.do()
		}
		c.refresh(t.Context())
		all := m.requests()
		if diff := cmp.Diff(s.want, append([][]string(nil), all[seen:]...)); diff != "" {
			t.Errorf("%s: names (-want +got):\n%s", s.name, diff)
		}
		seen = len(all)
	}
	if len(c.scans) != 0 {
		t.Errorf("scans that no call wants are kept: %d", len(c.scans))
	}
}

func TestClientRequestsInPartsAndForgets(t *testing.T) {
	m := newFakeManager(t)
	c, clock := newTestClient(t, nil, m.URL)
	for i := range maxTracked + 5 {
		position(c, fmt.Sprintf("scan-%05d", i))
	}
	if len(c.scans) != maxTracked {
		t.Errorf("%d scans are kept, want %d", len(c.scans), maxTracked)
	}
	asked := map[string]bool{}
	for range maxTracked / MaxNames {
		c.refresh(t.Context())
		clock.Step(requestEvery)
		requests := m.requests()
		names := requests[len(requests)-1]
		if len(names) != MaxNames {
			t.Fatalf("%d names in one request, want %d", len(names), MaxNames)
		}
		for _, name := range names {
			asked[name] = true
		}
	}
	if len(asked) != maxTracked {
		t.Errorf("%d scans were requested in a round, want each of %d once", len(asked), maxTracked)
	}
}

func TestClientFollowsTheLeader(t *testing.T) {
	first, second := newFakeManager(t), newFakeManager(t)
	first.follow(true)
	for ahead, m := range map[int]*fakeManager{1: first, 2: second} {
		m.response = Response{Scans: map[string]QueuePosition{"a": {Ahead: ahead}}}
	}
	c, clock := newTestClient(t, nil, first.URL, second.URL)
	steps := []struct {
		name string
		do   func()
		step time.Duration
		want string
	}{
		{name: "the second leads", do: func() { position(c, "a") }, want: "2"},
		{name: "it still does", step: 2 * time.Second, want: "2"},
		{name: "none does", do: func() { second.follow(true) }, step: 2 * time.Second, want: "2"},
		{name: "for a long time", do: func() { position(c, "a") }, step: expireAfter, want: "unknown"},
		{name: "the first does now", do: func() { first.follow(false) }, step: 2 * time.Second, want: "1"},
	}
	for _, s := range steps {
		if s.do != nil {
			s.do()
		}
		clock.Step(s.step)
		c.refresh(t.Context())
		if got := position(c, "a"); got != s.want {
			t.Errorf("%s: %s, want %s", s.name, got, s.want)
		}
	}
	if n := len(second.requests()); n != 2 {
		t.Errorf("the second manager got %d requests as the leader, want 2", n)
	}
}

// headless resolves a headless Service.
type headless map[string][]string

func (h headless) LookupHost(_ context.Context, host string) ([]string, error) {
	if addresses, ok := h[host]; ok {
		return addresses, nil
	}
	return nil, errors.New("no such host")
}

func TestClientTriesEveryAddressOfAService(t *testing.T) {
	m := newFakeManager(t)
	m.response = Response{Scans: map[string]QueuePosition{"a": {Ahead: 5}}}
	where, err := url.Parse(m.URL)
	if err != nil {
		t.Fatal(err)
	}
	services := headless{"scan-manager-queue": {"127.0.0.2", "127.0.0.1"}} // nothing listens on the first
	c, _ := newTestClient(t, services, "http://unknown:1", "http://scan-manager-queue:"+where.Port())
	position(c, "a")
	c.refresh(t.Context())
	if got := position(c, "a"); got != "5" {
		t.Errorf("position %s, want 5", got)
	}
}

func TestClientRuns(t *testing.T) {
	m := newFakeManager(t)
	m.response.NewScanWaitSeconds = new(1.0)
	c, clock := newTestClient(t, nil, m.URL)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }()
	for n := range 3 {
		for len(m.requests()) <= n {
			if clock.HasWaiters() {
				clock.Step(requestEvery)
			}
		}
	}
	cancel()
	if err := <-ran; err != nil {
		t.Errorf("Run() = %v", err)
	}
}

func TestParseURLs(t *testing.T) {
	tests := map[string]struct {
		list    string
		want    []string
		wantErr bool
	}{
		"none":           {list: " ,"},
		"two":            {list: "http://a:8082, http://10.0.0.1:8082/", want: []string{"http://a:8082", "http://10.0.0.1:8082/"}},
		"IPv6":           {list: "http://[::1]:8082", want: []string{"http://[::1]:8082"}},
		"no scheme":      {list: "scan-manager-queue:8082", wantErr: true},
		"another scheme": {list: "https://a:8082", wantErr: true},
		"a path":         {list: "http://a:8082/v1", wantErr: true},
		"a password":     {list: "http://me:x@a", wantErr: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			urls, err := ParseURLs(tt.list)
			var got []string
			for _, u := range urls {
				got = append(got, u.String())
			}
			if (err != nil) != tt.wantErr || !cmp.Equal(got, tt.want) {
				t.Errorf("ParseURLs(%q) = %v, %v; want %v", tt.list, got, err, tt.want)
			}
		})
	}
}
