// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/dev/openaisim"
)

// provider is the simulated provider, behind a gate that can hold its answers back.
type provider struct {
	*openaisim.Server
	url string

	mu    sync.Mutex
	gates []*gate
}

// gate holds answers back: the calls are admitted and paid for, and then nothing comes.
type gate struct {
	stage openaisim.Stage
	// calls are the calls that are held, each once.
	calls    chan *heldCall
	open     chan struct{}
	liftOnce sync.Once
}

// heldCall is a call whose answer is held back.
type heldCall struct {
	// left is closed when the client has gone.
	left <-chan struct{}
	// answer lets the answer go to the client. Only the first time counts.
	answer func()
}

// simulatedSpeed divides the provider's latencies: a call takes about 50 ms instead of 5 s.
const simulatedSpeed = 100

func newProvider(t *testing.T, config openaisim.Config) *provider {
	t.Helper()
	config.Speed = simulatedSpeed
	config.Seed = 1
	p := &provider{Server: openaisim.New(openaisim.Options{Config: config})}
	handler := p.Handler()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g := p.gateFor(r)
		if g == nil {
			handler.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, r)
		if !g.pass(r) {
			return
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes()) // the client may have gone, which is its business
	}))
	t.Cleanup(func() {
		p.mu.Lock()
		for _, g := range p.gates {
			g.lift()
		}
		p.mu.Unlock()
		server.Close()
	})
	p.url = server.URL + "/v1"
	return p
}

// hold delays the answers to a stage's calls until they are released.
func (p *provider) hold(stage openaisim.Stage) *gate {
	g := &gate{stage: stage, calls: make(chan *heldCall, 1000), open: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gates = append(p.gates, g)
	return g
}

// lift lets all answers go, now and later.
func (g *gate) lift() { g.liftOnce.Do(func() { close(g.open) }) }

// next waits for the next call that is held back.
func (g *gate) next(t *testing.T) *heldCall {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	select {
	case call := <-g.calls:
		return call
	case <-ctx.Done():
		t.Fatalf("no %s call came", g.stage)
		return nil
	}
}

// gateFor is the gate in a call's way, or nil.
func (p *provider) gateFor(r *http.Request) *gate {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.gates {
		if g.stage == stageOf(r) && !g.lifted() {
			return g
		}
	}
	return nil
}

func (g *gate) lifted() bool {
	select {
	case <-g.open:
		return true
	default:
		return false
	}
}

// pass returns when the answer may go, with false if the client has gone before.
func (g *gate) pass(r *http.Request) bool {
	answered, answer := context.WithCancel(context.Background())
	defer answer()
	g.calls <- &heldCall{left: r.Context().Done(), answer: answer}
	select {
	case <-g.open:
		return true
	case <-answered.Done():
		return true
	case <-r.Context().Done():
		return false
	}
}

// stageOf is the stage of a call, by its endpoint.
func stageOf(r *http.Request) openaisim.Stage {
	if strings.HasSuffix(r.URL.Path, "/responses") {
		return openaisim.StageVision
	}
	return openaisim.StageAnswer
}

// revoke makes a key invalid, or valid again.
func (p *provider) revoke(t *testing.T, key string, revoked bool) {
	t.Helper()
	err := p.Configure(func(c *openaisim.Config) { c.Keys = []openaisim.Key{{Key: key, Revoked: revoked}} })
	if err != nil {
		t.Fatal(err)
	}
}

// refusals counts the calls that were refused for another reason than their rate.
func (p *provider) refusals() int64 {
	refused := int64(0)
	for _, n := range p.Stats().Errors {
		refused += n
	}
	return refused
}

// checkPaid checks how many calls of each stage the provider was paid for, and that it was paid for no stage of a scan
// more than once but for those that had to be repeated.
func (p *provider) checkPaid(t *testing.T, vision, answer int64, repeated ...string) {
	t.Helper()
	stats := p.Stats()
	if stats.ByStage["vision"] != vision || stats.ByStage["answer"] != answer {
		t.Errorf("%d vision and %d answer calls were paid for, want %d and %d",
			stats.ByStage["vision"], stats.ByStage["answer"], vision, answer)
	}
	pay := stats.Payments
	twice := make([]string, len(pay.Repeated))
	for i, r := range pay.Repeated {
		twice[i] = r.ID
	}
	slices.Sort(repeated)
	if !slices.Equal(twice, repeated) || pay.PaidMoreThanOnce != int64(len(repeated)) || pay.WithoutID != 0 {
		t.Errorf("paid for more than once: %q, want %q; %+v", twice, repeated, pay)
	}
	if n := stats.RateLimitedTotal(); n != 0 {
		t.Errorf("%d calls were rate limited: %v", n, stats.RateLimited)
	}
}

// callID is what the provider knows a stage of a scan by.
func callID(scan *v1alpha1.ScanRequest, stage v1alpha1.StageName) string {
	return string(scan.UID) + "-" + string(stage)
}
