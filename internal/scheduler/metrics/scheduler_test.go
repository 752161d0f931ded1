// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

// allowedLabels are the labels a metric may have: all of them have few values. A scan's or a user's name has not.
var allowedLabels = []string{"namespace", "pool", "stage", "model", "budget", "outcome", "kind", "reason", "state", "dimension", "track"}

func TestLabelsAreBounded(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	clk := clocktesting.NewFakeClock(time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC))
	decisions := NewDecisions(registry)
	s := scheduler.New(scheduler.Options{Clock: clk, Pack: knowledge.Default(), Log: logr.Discard(), LeaderTerm: "t", Observer: decisions})
	registry.MustRegister(NewLevels(s))

	decisions.Assigned("pool", v1alpha1.StageVision, time.Second)
	decisions.Dispatched(time.Millisecond)
	decisions.WriteFailed("assign")
	decisions.Settled(scheduler.StageRun{
		Budget: "b", Model: "m", Stage: v1alpha1.StageVision, Reserved: 100, Charged: 90,
		Usage: v1alpha1.TokenUsage{Input: 10, CachedInput: 5, Output: 20}, Took: time.Second,
	})
	decisions.Settled(scheduler.StageRun{Budget: "b", Model: "m", Stage: v1alpha1.StageVision, Class: v1alpha1.FailureRateLimited})
	s.BudgetChanged(&v1alpha1.TokenBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "b"},
		Spec:       v1alpha1.TokenBudgetSpec{Models: []string{"m"}, TokensPerMinute: 1000, RequestsPerMinute: 10},
	}, scheduler.KeyState{Ready: true})
	s.ScanChanged(&v1alpha1.ScanRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "secret-scan-name", UID: "u", ResourceVersion: "1"},
		Spec:       v1alpha1.ScanRequestSpec{UserID: "secret-user", DeadlineSeconds: 300},
	})

	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range families {
		seen[f.GetName()] = true
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if !slices.Contains(allowedLabels, l.GetName()) {
					t.Errorf("%s has label %s, which is not on the list of labels with few values", f.GetName(), l.GetName())
				}
				if l.GetValue() == "secret-scan-name" || l.GetValue() == "secret-user" {
					t.Errorf("%s names a scan or a user in label %s", f.GetName(), l.GetName())
				}
			}
		}
	}
	for _, want := range []string{
		"scan_queue_wait_seconds", "scan_dispatch_seconds", "scan_stage_runs_total", "scan_stage_duration_seconds",
		"scan_tokens_reserved_total", "scan_tokens_used_total", "scan_provider_rejections_total", "scan_estimate_ratio",
		"scan_waiting", "scan_oldest_waiting_seconds", "scan_budget_limit", "scan_budget_used_last_minute",
		"scan_budget_reserved_tokens", "scan_budget_calls_in_flight", "scan_budget_blocked_seconds_total",
	} {
		if !seen[want] {
			t.Errorf("metric %s is not exported", want)
		}
	}
}

// TestLevels checks the figures themselves, a minute into the wait of two scans for a worker.
func TestLevels(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	clk := clocktesting.NewFakeClock(time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC))
	s := scheduler.New(scheduler.Options{Clock: clk, Pack: knowledge.Default(), Log: logr.Discard(), LeaderTerm: "t"})
	registry.MustRegister(NewLevels(s))
	s.PoolChanged(&v1alpha1.WorkerPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"},
		Spec: v1alpha1.WorkerPoolSpec{
			Stages: []v1alpha1.StageName{v1alpha1.StageVision}, Budgets: []v1alpha1.BudgetReference{{Name: "b", Weight: 1}},
			StageDefaults: v1alpha1.StageDefaults{MaxOutputTokens: 300},
		},
	})
	s.BudgetChanged(&v1alpha1.TokenBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "b"},
		Spec:       v1alpha1.TokenBudgetSpec{Models: []string{"m"}, TokensPerMinute: 60_000, RequestsPerMinute: 600},
	}, scheduler.KeyState{Ready: true})
	for i, suspended := range []bool{false, false, true} {
		s.ScanChanged(&v1alpha1.ScanRequest{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "ns", Name: strconv.Itoa(i), UID: "u", ResourceVersion: strconv.Itoa(i + 1), CreationTimestamp: metav1.NewTime(clk.Now()),
			},
			Spec: v1alpha1.ScanRequestSpec{ImageURL: "https://images.example.org/a.jpg", DeadlineSeconds: 300, Suspend: suspended},
		})
		clk.Step(20 * time.Second)
	}

	want := map[string]float64{
		"scan_waiting reason=Suspended stage=vision":                                  1,
		"scan_waiting reason=WaitingForWorker stage=vision":                           2,
		"scan_oldest_waiting_seconds reason=Suspended stage=vision":                   20,
		"scan_oldest_waiting_seconds reason=WaitingForWorker stage=vision":            60,
		"scan_budget_limit budget=b kind=requests namespace=ns":                       600,
		"scan_budget_limit budget=b kind=tokens namespace=ns":                         60_000,
		"scan_budget_used_last_minute budget=b kind=requests namespace=ns":            0,
		"scan_budget_used_last_minute budget=b kind=tokens namespace=ns":              0,
		"scan_budget_reserved_tokens budget=b namespace=ns":                           0,
		"scan_budget_calls_in_flight budget=b namespace=ns":                           0,
		"scan_budget_blocked_seconds_total budget=b dimension=held namespace=ns":      0,
		"scan_budget_blocked_seconds_total budget=b dimension=quota namespace=ns":     0,
		"scan_budget_blocked_seconds_total budget=b dimension=tokens namespace=ns":    0,
		"scan_budget_blocked_seconds_total budget=b dimension=requests namespace=ns":  0,
		"scan_budget_blocked_seconds_total budget=b dimension=too_large namespace=ns": 0,
	}
	if diff := cmp.Diff(want, values(t, registry)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDecisions(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	d := NewDecisions(registry)
	d.Assigned("p", v1alpha1.StageVision, 3*time.Second)
	d.Dispatched(20 * time.Millisecond)
	d.WriteFailed("assign")
	d.Settled(scheduler.StageRun{
		Budget: "b", Model: "m", Stage: v1alpha1.StageVision, Reserved: 1000, Charged: 900, Canary: true,
		Usage: v1alpha1.TokenUsage{Input: 300, CachedInput: 200, Output: 100}, Took: 5 * time.Second,
	})
	d.Settled(scheduler.StageRun{Budget: "b", Model: "m", Stage: v1alpha1.StageVision, Reserved: 1000, Class: v1alpha1.FailureRateLimited})
	d.Settled(scheduler.StageRun{Budget: "b", Model: "m", Stage: v1alpha1.StageVision, Reserved: 1000, Class: v1alpha1.FailureTimeout})
	want := map[string]float64{
		"scan_queue_wait_seconds pool=p stage=vision":                                          3,
		"scan_dispatch_seconds":                                                                0.02,
		"scan_scheduler_write_failures_total kind=assign":                                      1,
		"scan_stage_runs_total budget=b model=m outcome=ok stage=vision track=canary":          1,
		"scan_stage_runs_total budget=b model=m outcome=RateLimited stage=vision track=stable": 1,
		"scan_stage_runs_total budget=b model=m outcome=Timeout stage=vision track=stable":     1,
		"scan_stage_duration_seconds model=m stage=vision track=canary":                        5,
		"scan_tokens_reserved_total budget=b model=m stage=vision":                             3000,
		"scan_tokens_used_total budget=b kind=input model=m stage=vision":                      300,
		"scan_tokens_used_total budget=b kind=cached_input model=m stage=vision":               200,
		"scan_tokens_used_total budget=b kind=output model=m stage=vision":                     100,
		"scan_provider_rejections_total budget=b kind=RateLimited":                             1,
		"scan_estimate_ratio kind=charged model=m stage=vision":                                0.9,
		"scan_estimate_ratio kind=used model=m stage=vision":                                   0.4,
	}
	if diff := cmp.Diff(want, values(t, registry)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// values are the exported figures by name and labels; of histograms the sums.
func values(t *testing.T, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			words := []string{f.GetName()}
			for _, l := range m.GetLabel() {
				words = append(words, l.GetName()+"="+l.GetValue())
			}
			found[strings.Join(words, " ")] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetHistogram().GetSampleSum()
		}
	}
	return found
}
