// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package metrics exports the scheduler's figures and events. Labels are bounded: pools, stages, models, budgets
// and reasons, never scans or users.
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/budget"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

// Decisions counts and times scheduling events. It implements scheduler.Observer.
type Decisions struct {
	queueWait *prometheus.HistogramVec
	dispatch  prometheus.Histogram
	failed    *prometheus.CounterVec
	calls     *prometheus.CounterVec
	callTime  *prometheus.HistogramVec
	reserved  *prometheus.CounterVec
	used      *prometheus.CounterVec
	throttled *prometheus.CounterVec
	ratio     *prometheus.HistogramVec
}

var _ scheduler.Observer = (*Decisions)(nil)

// NewDecisions registers the metrics.
func NewDecisions(r prometheus.Registerer) *Decisions {
	d := &Decisions{
		queueWait: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "scan_queue_wait_seconds", Help: "Time a scan waited for a worker, by pool and stage.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 16),
		}, []string{"pool", "stage"}),
		dispatch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "scan_dispatch_seconds", Help: "Time from the decision to assign a stage until the assignment was stored.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scan_scheduler_write_failures_total", Help: "Status writes of the scheduler that failed and are repeated, by kind: assign, release, reject or reason.",
		}, []string{"kind"}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scan_stage_runs_total", Help: "Finished runs of stages, by outcome (ok or the class of failure) and track (stable or canary).",
		}, []string{"budget", "model", "stage", "outcome", "track"}),
		callTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "scan_stage_duration_seconds", Help: "Duration of a stage's run at the worker.",
			Buckets: prometheus.ExponentialBuckets(0.05, 1.7, 14),
		}, []string{"model", "stage", "track"}),
		reserved: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scan_tokens_reserved_total", Help: "Tokens reserved for runs that have ended.",
		}, []string{"budget", "model", "stage"}),
		used: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scan_tokens_used_total", Help: "Tokens the provider reported, by kind: input, cached_input or output.",
		}, []string{"budget", "model", "stage", "kind"}),
		throttled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scan_provider_rejections_total", Help: "Calls the provider rejected for its limits, by kind.",
		}, []string{"budget", "kind"}),
		ratio: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "scan_estimate_ratio",
			Help:    "What a call cost over what was reserved for it: as charged by the provider's limits, or as used by its own report.",
			Buckets: []float64{0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1, 1.05, 1.1, 1.25, 1.5, 2, 4},
		}, []string{"model", "stage", "kind"}),
	}
	r.MustRegister(d.queueWait, d.dispatch, d.failed, d.calls, d.callTime, d.reserved, d.used, d.throttled, d.ratio)
	return d
}

// Assigned notes how long a stage waited.
func (d *Decisions) Assigned(pool string, stage v1alpha1.StageName, waited time.Duration) {
	d.queueWait.WithLabelValues(pool, string(stage)).Observe(waited.Seconds())
}

// Dispatched notes how long an assignment took to store.
func (d *Decisions) Dispatched(took time.Duration) { d.dispatch.Observe(took.Seconds()) }

// WriteFailed counts a status write that failed.
func (d *Decisions) WriteFailed(kind string) { d.failed.WithLabelValues(kind).Inc() }

// Settled records how a run ended and what it cost.
func (d *Decisions) Settled(t scheduler.StageRun) {
	outcome := "ok"
	if t.Class != "" {
		outcome = string(t.Class)
	}
	stage, track := string(t.Stage), v1alpha1.TrackStable
	if t.Canary {
		track = v1alpha1.TrackCanary
	}
	d.calls.WithLabelValues(t.Budget, t.Model, stage, outcome, track).Inc()
	if t.Class == "" {
		d.callTime.WithLabelValues(t.Model, stage, track).Observe(t.Took.Seconds())
	}
	if t.Reserved > 0 {
		d.reserved.WithLabelValues(t.Budget, t.Model, stage).Add(float64(t.Reserved))
		if t.Charged > 0 {
			d.ratio.WithLabelValues(t.Model, stage, "charged").Observe(float64(t.Charged) / float64(t.Reserved))
		}
		if used := t.Usage.Input + t.Usage.Output; used > 0 {
			d.ratio.WithLabelValues(t.Model, stage, "used").Observe(float64(used) / float64(t.Reserved))
		}
	}
	for kind, n := range map[string]int64{"input": t.Usage.Input, "cached_input": t.Usage.CachedInput, "output": t.Usage.Output} {
		if n > 0 {
			d.used.WithLabelValues(t.Budget, t.Model, stage, kind).Add(float64(n))
		}
	}
	switch t.Class {
	case v1alpha1.FailureRateLimited, v1alpha1.FailureQuotaExhausted, v1alpha1.FailureSlowDown, v1alpha1.FailureUnauthorized:
		d.throttled.WithLabelValues(t.Budget, string(t.Class)).Inc()
	}
}

// Levels exports the scheduler's queues and ledgers as they are when the metrics are read.
type Levels struct {
	scheduler *scheduler.Scheduler
}

var _ prometheus.Collector = Levels{}

// NewLevels returns a collector of a scheduler's levels.
func NewLevels(s *scheduler.Scheduler) Levels { return Levels{scheduler: s} }

var (
	waitingDesc = prometheus.NewDesc("scan_waiting", "Scans that wait, by the stage that is next and the reason.",
		[]string{"stage", "reason"}, nil)
	oldestDesc = prometheus.NewDesc("scan_oldest_waiting_seconds", "How long the scan that has waited longest has, by the stage that is next and the reason.",
		[]string{"stage", "reason"}, nil)
	limitDesc = prometheus.NewDesc("scan_budget_limit", "The limit in force per minute, by kind: tokens or requests.",
		[]string{"namespace", "budget", "kind"}, nil)
	usedDesc = prometheus.NewDesc("scan_budget_used_last_minute", "What was charged in the last 60 seconds, by kind: tokens or requests.",
		[]string{"namespace", "budget", "kind"}, nil)
	reservedDesc = prometheus.NewDesc("scan_budget_reserved_tokens", "Tokens reserved for running calls.",
		[]string{"namespace", "budget"}, nil)
	inFlightDesc = prometheus.NewDesc("scan_budget_calls_in_flight", "Running calls.",
		[]string{"namespace", "budget"}, nil)
	blockedDesc = prometheus.NewDesc("scan_budget_blocked_seconds_total", "Time for which the next call had to wait, by what it was short of.",
		[]string{"namespace", "budget", "dimension"}, nil)
)

// Describe sends the descriptions of all metrics.
func (Levels) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{waitingDesc, oldestDesc, limitDesc, usedDesc, reservedDesc, inFlightDesc, blockedDesc} {
		ch <- d
	}
}

// Collect sends the levels of the moment.
func (l Levels) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for stage, reasons := range l.scheduler.Waiting() {
		for reason, backlog := range reasons {
			gauge(waitingDesc, float64(backlog.Scans), string(stage), reason)
			gauge(oldestDesc, backlog.Oldest.Seconds(), string(stage), reason)
		}
	}
	for _, name := range l.scheduler.Budgets() {
		stats, ok := l.scheduler.BudgetStats(name)
		if !ok {
			continue
		}
		ns, b := name.Namespace, name.Name
		gauge(limitDesc, float64(stats.TokensPerMinute), ns, b, "tokens")
		gauge(limitDesc, float64(stats.RequestsPerMinute), ns, b, "requests")
		gauge(usedDesc, float64(stats.TokensLastMinute), ns, b, "tokens")
		gauge(usedDesc, float64(stats.RequestsLastMinute), ns, b, "requests")
		gauge(reservedDesc, float64(stats.ReservedTokens), ns, b)
		gauge(inFlightDesc, float64(stats.InFlight), ns, b)
		for dimension, seconds := range stats.BlockedSeconds {
			if d := budget.Dimension(dimension); d != budget.None {
				ch <- prometheus.MustNewConstMetric(blockedDesc, prometheus.CounterValue, seconds, ns, b, d.String())
			}
		}
	}
}
