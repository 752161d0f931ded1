// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

func probe(t *testing.T, handler http.Handler, path string) (int, string) {
	t.Helper()
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	body, err := io.ReadAll(recorder.Body)
	if err != nil {
		t.Fatal(err)
	}
	return recorder.Code, strings.TrimSpace(string(body))
}

func TestReadiness(t *testing.T) {
	tests := map[string]struct {
		synced, registered, draining bool
		want                         int
		wantBody                     string
	}{
		"starting":           {want: 503, wantBody: "the watch of the assignments has not synced"},
		"watching":           {synced: true, want: 503, wantBody: "the Lease has not been created"},
		"registered":         {synced: true, registered: true, want: 200, wantBody: "ok"},
		"the watch was lost": {registered: true, want: 503, wantBody: "the watch of the assignments has not synced"},
		"draining":           {synced: true, registered: true, draining: true, want: 503, wantBody: "draining"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			l := testLease(newFakeClient(t, interceptor.Funcs{}))
			if tc.registered {
				if err := l.create(t.Context(), me); err != nil {
					t.Fatal(err)
				}
			}
			if tc.draining {
				l.drain()
			}
			h := newHealth(clock.RealClock{}, l)
			h.synced.Store(tc.synced)
			handler := h.handler(prometheus.NewRegistry())
			if code, body := probe(t, handler, "/readyz"); code != tc.want || body != tc.wantBody {
				t.Errorf("/readyz = %d %q, want %d %q", code, body, tc.want, tc.wantBody)
			}
			if code, _ := probe(t, handler, "/healthz"); code != http.StatusOK {
				t.Errorf("/healthz = %d, want 200: a worker that is not ready is alive", code)
			}
		})
	}
}

func TestLivenessNeedsNoAPIServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(ctx context.Context) error {
			<-ctx.Done()
			return errors.New("i/o timeout")
		}
		c := newFakeClient(t, interceptor.Funcs{
			List: func(ctx context.Context, _ client.WithWatch, _ client.ObjectList, _ ...client.ListOption) error {
				return hang(ctx)
			},
			Create: func(ctx context.Context, _ client.WithWatch, _ client.Object, _ ...client.CreateOption) error {
				return hang(ctx)
			},
		})
		w, err := New(testOptions(c, newStubRunner()))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			w.Run(ctx)
		}()
		pass(10 * time.Minute)
		handler := w.health.handler(w.options.Gatherer)
		if code, body := probe(t, handler, "/healthz"); code != http.StatusOK {
			t.Errorf("/healthz = %d %q, want 200", code, body)
		}
		if code, _ := probe(t, handler, "/readyz"); code != http.StatusServiceUnavailable {
			t.Errorf("/readyz = %d, want 503", code)
		}
		stop()
		<-ended
	})
}

func TestAWorkerThatIsStuckIsNotAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHealth(clock.RealClock{}, testLease(newFakeClient(t, interceptor.Funcs{})))
		ctx, stop := context.WithCancel(t.Context())
		stuck := make(chan struct{})
		touches := 0
		go h.pulse(ctx, func() {
			if touches++; touches == 3 {
				<-stuck
			}
		})
		pass(pulseTimeout)
		if err := h.live(); err != nil {
			t.Errorf("live = %v before the timeout", err)
		}
		pass(pulseTimeout)
		if err := h.live(); err == nil {
			t.Error("a worker without a pulse is alive")
		}
		close(stuck)
		synctest.Wait()
		if err := h.live(); err != nil {
			t.Errorf("live = %v after the pulse came back", err)
		}
		stop()
	})
}

func TestMetricsAreServed(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := newMetrics(registry, "vision")
	outcome := classified()
	outcome.FinishedAt = outcome.StartedAt.Add(1500 * time.Millisecond)
	m.observe(&v1alpha1.Assignment{Model: "gpt-5-mini"}, []pipeline.Outcome{
		outcome, {Stage: v1alpha1.StageRule, State: v1alpha1.StageSucceeded},
	})
	h := newHealth(clock.RealClock{}, nil)
	code, body := probe(t, h.handler(registry), "/metrics")
	if code != http.StatusOK {
		t.Fatalf("/metrics = %d", code)
	}
	for _, want := range []string{
		`scan_worker_stage_duration_seconds_sum{model="gpt-5-mini",outcome="Succeeded",pool="vision",stage="vision"} 1.5`,
		`scan_worker_stage_duration_seconds_count{model="",outcome="Succeeded",pool="vision",stage="rule"} 1`,
		`scan_worker_tokens_total{kind="input",model="gpt-5-mini",pool="vision",stage="vision"} 700`,
		`scan_worker_tokens_total{kind="output",model="gpt-5-mini",pool="vision",stage="vision"} 40`,
		`scan_worker_status_writes_total{pool="vision",result="fenced"} 0`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics lacks %s in:\n%s", want, body)
		}
	}
}

func TestModelLabelsAreBounded(t *testing.T) {
	m := testMetrics()
	for i := range maxModels {
		if name := "model-" + strconv.Itoa(i); m.modelLabel(name) != name {
			t.Fatalf("label of %s is %s", name, m.modelLabel(name))
		}
	}
	if got := m.modelLabel("one-more"); got != otherModels {
		t.Errorf("label of one model too many is %q, want %q", got, otherModels)
	}
	if got := m.modelLabel("model-0"); got != "model-0" {
		t.Errorf("label of a known model is %q, want model-0", got)
	}
}
