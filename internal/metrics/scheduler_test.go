package metrics

import (
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
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
	s := scheduler.New(scheduler.Options{Clock: clk, Pack: knowledge.Default(), Log: logr.Discard(), Incarnation: "t", Observer: decisions})
	registry.MustRegister(NewLevels(s))

	decisions.Assigned("pool", v1alpha1.StageVision, time.Second)
	decisions.Dispatched(time.Millisecond)
	decisions.WriteFailed()
	decisions.Settled(scheduler.Try{
		Budget: "b", Model: "m", Stage: v1alpha1.StageVision, Reserved: 100, Charged: 90,
		Usage: v1alpha1.TokenUsage{Input: 10, CachedInput: 5, Output: 20}, Took: time.Second,
	})
	decisions.Settled(scheduler.Try{Budget: "b", Model: "m", Stage: v1alpha1.StageVision, Class: v1alpha1.FailureRateLimited})
	s.BudgetChanged(&v1alpha1.TokenBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "b"},
		Spec:       v1alpha1.TokenBudgetSpec{Models: []string{"m"}, TokensPerMinute: 1000, RequestsPerMinute: 10},
	}, scheduler.Key{Ready: true})
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
