package worker

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// maxModels is how many models get a label value of their own. Budgets list the models there are; the bound holds
// even if they are changed all the time.
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
			Help: "Scans this worker runs at a time.",
		}),
		assignments: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "scan_worker_assignments", ConstLabels: labels,
			Help: "Assignments this worker holds, from the watch event to the end of the status write.",
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "scan_worker_calls_in_flight", ConstLabels: labels,
			Help: "Assignments whose stages are running now.",
		}),
		stageSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "scan_worker_stage_duration_seconds", ConstLabels: labels,
			Help:    "Time one try of a stage took, by how it ended: a stage state or a failure class.",
			Buckets: []float64{.001, .01, .1, .5, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 60, 120},
		}, []string{"stage", "outcome", "model"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scan_worker_tokens_total", ConstLabels: labels,
			Help: "Tokens the provider reported. Kind cached_input is a part of kind input.",
		}, []string{"stage", "model", "kind"}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scan_worker_status_writes_total", ConstLabels: labels,
			Help: "Reports of assignments by what became of them: written, unchanged, fenced, deleted, rejected or abandoned.",
		}, []string{"result"}),
		writeRetries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "scan_worker_status_write_retries_total", ConstLabels: labels,
			Help: "Status patches that were tried again after a conflict or an error.",
		}),
		renewFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "scan_worker_lease_renewal_failures_total", ConstLabels: labels,
			Help: "Requests to create or renew the worker's Lease that failed.",
		}),
	}
	registry.MustRegister(m.capacity, m.assignments, m.inFlight, m.stageSeconds, m.tokens, m.writes, m.writeRetries, m.renewFailures)
	for _, result := range reportResults {
		m.writes.WithLabelValues(string(result)) // a series that is there from the start can be alerted on
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

// outcomeLabel names how a try ended: the failure's class, or the stage's state.
func outcomeLabel(o pipeline.Outcome) string {
	if o.Failure != nil {
		return string(o.Failure.Class)
	}
	return string(o.State)
}

// modelLabel bounds the number of models that are told apart.
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

// elapsed is how long the outcomes took from the first start to the last end.
func elapsed(outcomes []pipeline.Outcome) time.Duration {
	if len(outcomes) == 0 {
		return 0
	}
	return outcomes[len(outcomes)-1].FinishedAt.Sub(outcomes[0].StartedAt)
}
