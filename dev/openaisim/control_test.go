// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"
)

func TestControlConfig(t *testing.T) {
	f := newFixture(t, nil)
	patch := func(body string) Config {
		t.Helper()
		got := f.send(http.MethodPatch, "/sim/config", body)
		if got.status != http.StatusOK {
			t.Fatalf("PATCH %s: %d %s", body, got.status, got.body)
		}
		return decode[Config](t, got)
	}
	if got := patch(`{"tokensPerMinute":9000,"faults":[{"kind":"overloaded","count":3}]}`); got.TokensPerMinute != 9000 || got.Speed != noLatency || len(got.Keys) != 1 {
		t.Errorf("after a patch: %+v, want the limit changed and the rest kept", got)
	}
	f.send(http.MethodPost, string(endpointChat), plainChat)
	if got := patch(`{"seed":7}`); len(got.Faults) != 1 || got.Faults[0].Count != 2 {
		t.Errorf("faults %+v, want one with 2 of 3 left", got.Faults)
	}
	if got := patch(`{"faults":null,"tokensPerMinute":null}`); got.Faults != nil || got.TokensPerMinute != defaultTokensPerMinute {
		t.Errorf("after nulls: %+v, want the defaults", got)
	}
	got := f.send(http.MethodPut, "/sim/config", `{"requestsPerMinute":77}`)
	if c := decode[Config](t, got); c.RequestsPerMinute != 77 || c.Speed != 1 || len(c.Keys) != 0 || len(c.Classes) != len(defaultClasses) {
		t.Errorf("after a PUT: %s, want defaults but for the one field", got.body)
	}
	if diff := cmp.Diff(f.Config(), decode[Config](t, f.send(http.MethodGet, "/sim/config", ""))); diff != "" {
		t.Errorf("GET differs from Config (-want +got):\n%s", diff)
	}
}

func TestControlRefusesInvalidRequests(t *testing.T) {
	f := newFixture(t, nil)
	before := f.Config()
	for _, tc := range []struct {
		method, path, body string
		wantStatus         int
		want               string
	}{
		{http.MethodPatch, "/sim/config", `{"tokensPerMinutes":1}`, 400, `unknown field \"tokensPerMinutes\"`},
		{http.MethodPatch, "/sim/config", `{"tokensPerMinute":-1}`, 400, "tokensPerMinute: -1 is not between 1 and 150000000"},
		{http.MethodPatch, "/sim/config", `{"speed":-2}`, 400, "speed: -2 is not between"},
		{http.MethodPatch, "/sim/config", `{"chargeMode":"half"}`, 400, "chargeMode:"},
		{http.MethodPatch, "/sim/config", `{"faults":[{"kind":"meteor"}]}`, 400, "faults[0].kind:"},
		{http.MethodPatch, "/sim/config", `{"faults":[{"kind":"hang","stage":"rule"}]}`, 400, "faults[0].stage:"},
		{http.MethodPatch, "/sim/config", `{"faults":[{"kind":"hang","probability":2}]}`, 400, "faults[0].probability:"},
		{http.MethodPatch, "/sim/config", `{"faults":[{"kind":"slow_first_byte"}]}`, 400, "faults[0].delayMillis:"},
		{http.MethodPatch, "/sim/config", `{"visionLatency":{"minMillis":9,"maxMillis":3}}`, 400, "visionLatency.maxMillis:"},
		{http.MethodPatch, "/sim/config", `{"background":[{"percent":101}]}`, 400, "background[0].percent:"},
		{http.MethodPatch, "/sim/config", `{"models":[{"name":"x","like":"y"}]}`, 400, "models[0].like:"},
		{http.MethodPatch, "/sim/config", `[]`, 400, "read the configuration"},
		{http.MethodPut, "/sim/config", `{} {}`, 400, "read the configuration"},
		{http.MethodPost, "/sim/consume", `{"key":"nobody","model":"gpt-4o"}`, 404, "is not valid"},
		{http.MethodPost, "/sim/consume", `{"key":"` + testKey + `","model":"gpt-99"}`, 404, "there is no model"},
		{http.MethodPost, "/sim/consume", `{"key":"` + testKey + `","model":"gpt-4o","tokens":-1}`, 400, "neither may be negative"},
		{http.MethodPost, "/sim/consume", `{"token":1}`, 400, "unknown field"},
		{http.MethodPost, "/sim/config", `{}`, 405, "Not allowed to POST on /sim/config"},
	} {
		got := f.send(tc.method, tc.path, tc.body)
		if got.status != tc.wantStatus || !strings.Contains(got.body, tc.want) {
			t.Errorf("%s %s %s: %d %s, want %d …%s", tc.method, tc.path, tc.body, got.status, got.body, tc.wantStatus, tc.want)
		}
	}
	if diff := cmp.Diff(before, f.Config()); diff != "" {
		t.Errorf("refused changes left a trace (-before +after):\n%s", diff)
	}
}

func TestControlConsumeAndReset(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.TokensPerMinute, c.RequestsPerMinute = 6000, 60 })
	for _, tc := range []struct{ body, want string }{
		{`{"key":"` + testKey + `","model":"gpt-4o","tokens":4000,"requests":10}`, `{"tokens":4000,"requests":10}`},
		{`{"key":"` + testKey + `","model":"gpt-4o","tokens":4000,"requests":90}`, `{"tokens":2000,"requests":50}`},
	} {
		got := decode[consumption](t, f.send(http.MethodPost, "/sim/consume", tc.body))
		if raw, err := json.Marshal(got); err != nil || string(raw) != tc.want {
			t.Errorf("consumed %s, want %s", raw, tc.want)
		}
	}
	stats := decode[Stats](t, f.send(http.MethodPost, "/sim/reset", ""))
	if len(stats.Accounts) != 0 || stats.Requests != 0 {
		t.Errorf("after a reset: %+v", stats)
	}
	if got := f.chat("gpt-4o", 6000); got.status != http.StatusOK {
		t.Errorf("a full bucket's worth after a reset: %d %s", got.status, got.body)
	}
	index := decode[map[string]string](t, f.send(http.MethodGet, "/sim", ""))
	if len(index) != 6 {
		t.Errorf("the index names %d endpoints, want 6: %v", len(index), index)
	}
}

// TestLiveLimits checks that a changed limit applies to the next call, with
// what is in use still in use.
func TestLiveLimits(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.TokensPerMinute = 6000 })
	f.chat("gpt-4o", 5000)
	f.configure(func(c *Config) { c.Limits = []Limit{{Model: "gpt-4o", TokensPerMinute: 12000}} })
	got := f.chat("gpt-4o", 1000)
	want := map[string]string{"limit": "12000", "remaining": "6000"}
	if diff := cmp.Diff(want, map[string]string{
		"limit": got.header.Get("X-Ratelimit-Limit-Tokens"), "remaining": got.header.Get("X-Ratelimit-Remaining-Tokens"),
	}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	f.configure(func(c *Config) { c.Keys = []Key{{Key: testKey, Revoked: true}} })
	if got := f.chat("gpt-4o", 100); got.status != http.StatusUnauthorized {
		t.Errorf("revoked key: %d, want 401", got.status)
	}
}

// TestBackground checks that an unseen client's share shows in the headers.
func TestBackground(t *testing.T) {
	f := newFixture(t, func(c *Config) {
		c.TokensPerMinute = 6000
		c.Background = []Background{{Key: testKey, Model: "gpt-4o", Percent: 75}}
	})
	// A minute after the bucket was emptied, and less the hundred asked for.
	for _, tc := range []struct{ model, want string }{{"gpt-4o", "1400"}, {"gpt-4.1", "5900"}} {
		f.chat(tc.model, 6000)
		f.clock.Step(time.Minute)
		if got := f.chat(tc.model, 100).header.Get("X-Ratelimit-Remaining-Tokens"); got != tc.want {
			t.Errorf("%s: %s tokens remaining, want %s", tc.model, got, tc.want)
		}
	}
}

func TestClientRequestID(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Faults = []Fault{{Kind: FaultServerError, Count: 1}} })
	for _, id := range []string{"scan-1/vision", "scan-1/vision", "scan-2/vision", "scan-3/vision", "scan-3/vision", "scan-3/vision"} {
		f.send(http.MethodPost, string(endpointChat), plainChat, "X-Client-Request-Id", id)
	}
	f.send(http.MethodPost, string(endpointChat), plainChat)
	want := PaymentStats{
		Distinct: 3, PaidMoreThanOnce: 2, AnsweredMoreThanOnce: 1, WithoutID: 1,
		Repeated: []RepeatedPayment{{ID: "scan-1/vision", Paid: 2, Answered: 1}, {ID: "scan-3/vision", Paid: 3, Answered: 3}},
	}
	if diff := cmp.Diff(want, f.Stats().Payments); diff != "" {
		t.Errorf("payments (-want +got):\n%s", diff)
	}
	if got := f.send(http.MethodPost, string(endpointChat), plainChat, "X-Client-Request-Id", strings.Repeat("x", 513)); got.status != http.StatusBadRequest {
		t.Errorf("an id of 513 characters: %d, want 400", got.status)
	}
}

func TestPaymentsAreBounded(t *testing.T) {
	var shard paymentShard
	shard.counts = map[uint64]paymentCount{}
	const extra = 1000
	for i := range uint64(idsPerShard + extra) {
		if shard.record(i, paid) {
			t.Fatalf("id %d counts as paid again", i)
		}
	}
	if len(shard.counts) != idsPerShard || len(shard.order) != idsPerShard || shard.forgotten != extra {
		t.Errorf("%d ids, %d by age, %d forgotten", len(shard.counts), len(shard.order), shard.forgotten)
	}
	// The oldest are gone, the youngest are not.
	if shard.record(extra-1, paid) || !shard.record(idsPerShard+extra-1, paid) {
		t.Error("the wrong ids were forgotten")
	}
}

// TestConcurrentAdmission races many clients for one bucket: exactly what it
// holds is admitted, and the counters agree with the replies.
func TestConcurrentAdmission(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.TokensPerMinute, c.RequestsPerMinute = 10_000, 1_000_000 })
	const clients, calls = 8, 25
	statuses := make(chan int, clients*calls)
	var working sync.WaitGroup
	for range clients {
		working.Go(func() {
			for range calls {
				statuses <- f.chat("gpt-4o", 100).status
			}
		})
	}
	working.Wait()
	close(statuses)
	counted := map[int]int64{}
	for status := range statuses {
		counted[status]++
	}
	if counted[http.StatusOK] != 100 || counted[http.StatusTooManyRequests] != 100 {
		t.Errorf("replies %v, want 100 of each", counted)
	}
	got := f.Stats()
	if got.Admitted != 100 || got.RateLimitedTotal() != 100 || got.TokensCharged != 10_000 || got.InFlight != 0 || got.MaxInFlight < 1 || got.MaxInFlight > clients {
		t.Errorf("statistics %+v", got)
	}
	if got.Requests != got.Admitted+got.RateLimitedTotal() {
		t.Errorf("%d requests are not %d admitted and %d turned away", got.Requests, got.Admitted, got.RateLimitedTotal())
	}
}

func TestLatency(t *testing.T) {
	defaults := Config{}.withDefaults()
	for name, l := range map[string]Latency{
		"vision": defaults.VisionLatency, "answer": defaults.AnswerLatency,
		"uniform": {MinMillis: 100, MaxMillis: 200, Distribution: LatencyUniform},
	} {
		t.Run(name, func(t *testing.T) {
			low, high := time.Duration(l.MinMillis)*time.Millisecond, time.Duration(l.MaxMillis)*time.Millisecond
			middle := 0
			for i := range uint64(1000) {
				d := l.draw(rand.New(rand.NewPCG(1, i)), 1)
				if d < low || d > high {
					t.Fatalf("drew %s, want between %s and %s", d, low, high)
				}
				if d > low+(high-low)/4 && d < high-(high-low)/4 {
					middle++
				}
			}
			if middle < 400 || middle > 800 {
				t.Errorf("%d of 1000 in the middle half", middle)
			}
			if fast := l.draw(rand.New(rand.NewPCG(1, 1)), 100); fast > high/100 {
				t.Errorf("a hundred times as fast: %s", fast)
			}
		})
	}
}

// TestLatencyOnTheClock checks that an answer comes when the clock says so, and
// not before.
func TestLatencyOnTheClock(t *testing.T) {
	f := newFixture(t, func(c *Config) {
		c.Speed = 10
		c.AnswerLatency = Latency{MinMillis: 5000, MaxMillis: 5000, Distribution: LatencyUniform}
	})
	answered := make(chan reply, 1)
	go func() { answered <- f.send(http.MethodPost, string(endpointChat), plainChat) }()
	waitForTimer(f.clock)
	f.clock.Step(499 * time.Millisecond)
	if !f.clock.HasWaiters() {
		t.Error("answered before its time")
	}
	f.clock.Step(time.Millisecond)
	got := <-answered
	if got.status != http.StatusOK || got.header.Get("Openai-Processing-Ms") != "500" {
		t.Errorf("got %d after %s ms", got.status, got.header.Get("Openai-Processing-Ms"))
	}
	// The limits were read at admission, not when the answer was ready.
	if reset := got.header.Get("X-Ratelimit-Reset-Tokens"); reset == "0s" {
		t.Error("the headers describe the bucket after generation")
	}
}

// waitForTimer yields until the server waits on the clock.
func waitForTimer(clk *clocktesting.FakeClock) {
	for !clk.HasWaiters() {
		runtime.Gosched()
	}
}

func TestNewRefusesInvalidSettings(t *testing.T) {
	defer func() {
		if err, ok := recover().(error); !ok || !strings.Contains(err.Error(), "speed") {
			t.Errorf("panicked with %v, want an error about speed", err)
		}
	}()
	New(Options{Config: Config{Speed: -1}})
	t.Error("New accepted a negative speed")
}
