// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// maxModels is the number of models with a label value of their own. It bounds the series even if the models of budgets
// change all the time.
const maxModels = 64

// otherModels is the label value of all models beyond maxModels.
const otherModels = "other"

// metrics are the worker's own metrics. All labels have a small, fixed set of values.
type metrics struct {
	capacity      prometheus.Gauge
	assignments   prometheus.Gauge
	inFlight      prometheus.Gauge
	stageSeconds  *prometheus.HistogramVec
	tokens        *prometheus.CounterVec
	writes        *prometheus.CounterVec
	writeRetries  prometheus.Counter
	renewFailures prometheus.Counter

	mu     sync.Mutex
	models map[string]struct{}
}

func newMetrics(registry prometheus.Registerer, pool string) *metrics {
	labels := prometheus.Labels{"pool": pool}
	m := &metrics{
		models: map[string]struct{}{},
		capacity: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "scan_worker_capacity", ConstLabels: labels,
			Help: "Maximum number of scans that this worker runs at a time.",
		}),
		assignments: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "scan_worker_assignments", ConstLabels: labels,
			Help: "Assignments of this worker, from the watch event to the end of the status write.",
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "scan_worker_calls_in_flight", ConstLabels: labels,
			Help: "Assignments whose stages are running now.",
		}),
		stageSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "scan_worker_stage_duration_seconds", ConstLabels: labels,
			Help:    "Duration of one try of a stage, by outcome: a stage state or a failure class.",
			Buckets: []float64{.001, .01, .1, .5, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 60, 120},
		}, []string{"stage", "outcome", "model"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scan_worker_tokens_total", ConstLabels: labels,
			Help: "Tokens that the provider reported. Kind cached_input is a part of kind input.",
		}, []string{"stage", "model", "kind"}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scan_worker_status_writes_total", ConstLabels: labels,
			Help: "Status writes by result: written, unchanged, fenced, deleted, rejected or abandoned.",
		}, []string{"result"}),
		writeRetries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "scan_worker_status_write_retries_total", ConstLabels: labels,
			Help: "Retries of status writes after a conflict or an error.",
		}),
		renewFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "scan_worker_lease_renewal_failures_total", ConstLabels: labels,
			Help: "Failed requests to create or renew the worker's Lease.",
		}),
	}
	registry.MustRegister(m.capacity, m.assignments, m.inFlight, m.stageSeconds, m.tokens, m.writes, m.writeRetries, m.renewFailures)
	for _, result := range reportResults {
		m.writes.WithLabelValues(string(result)) // alerts need a series that exists from the start
	}
	return m
}

// observe records the outcomes of one assignment.
func (m *metrics) observe(assignment *v1alpha1.Assignment, outcomes []pipeline.Outcome) {
	for _, o := range outcomes {
		model := ""
		if pipeline.NeedsTokens(o.Stage) {
			model = m.modelLabel(assignment.Model)
		}
		stage := string(o.Stage)
		m.stageSeconds.WithLabelValues(stage, outcomeLabel(o), model).Observe(max(o.FinishedAt.Sub(o.StartedAt), 0).Seconds())
		for kind, n := range map[string]int64{
			"input": o.Usage.Input, "cached_input": o.Usage.CachedInput, "output": o.Usage.Output,
		} {
			if n > 0 {
				m.tokens.WithLabelValues(stage, model, kind).Add(float64(n))
			}
		}
	}
}

// outcomeLabel is the class of the failure or, without one, the state of the stage.
func outcomeLabel(o pipeline.Outcome) string {
	if o.Failure != nil {
		return string(o.Failure.Class)
	}
	return string(o.State)
}

// modelLabel returns the label value of a model, and otherModels once there are maxModels of them.
func (m *metrics) modelLabel(model string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.models[model]; known {
		return model
	}
	if len(m.models) >= maxModels {
		return otherModels
	}
	m.models[model] = struct{}{}
	return model
}

// elapsed is the time from the start of the first outcome to the end of the last.
func elapsed(outcomes []pipeline.Outcome) time.Duration {
	if len(outcomes) == 0 {
		return 0
	}
	return outcomes[len(outcomes)-1].FinishedAt.Sub(outcomes[0].StartedAt)
}
