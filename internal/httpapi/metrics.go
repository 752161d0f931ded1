// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the server's metrics. All labels are bounded: routes are patterns, never paths.
type metrics struct {
	requests     *prometheus.CounterVec
	duration     *prometheus.HistogramVec
	events       *prometheus.CounterVec
	delivery     prometheus.Histogram
	rejected     *prometheus.CounterVec
	readThroughs *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer, hub *hub, limiter *scanLimiter) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scan_api_requests_total",
			Help: "HTTP requests that were answered, by route pattern, method and status class.",
		}, []string{"route", "method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "scan_api_request_duration_seconds",
			Help:    "Time from a request's headers to the end of its response, by route pattern and method; without streams.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "method"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scan_api_stream_events_total",
			Help: "Events sent to streams, by name.",
		}, []string{"event"}),
		delivery: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "scan_api_stream_delivery_seconds",
			Help:    "Time from the end of a scan to sending its last event to an open stream.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scan_api_rejected_total",
			Help: "Scans and streams that were rejected, by limit.",
		}, []string{"limit"}),
		readThroughs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scan_api_read_through_total",
			Help: "Reads of the API server for scans that the watch had not delivered, by outcome.",
		}, []string{"outcome"}),
	}
	streams := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "scan_api_streams", Help: "Open streams.",
	}, func() float64 { streams, _ := hub.size(); return float64(streams) })
	followed := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "scan_api_followed_scans", Help: "Scans that are followed by at least one stream.",
	}, func() float64 { _, scans := hub.size(); return float64(scans) })
	unfinished := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "scan_api_unfinished_scans", Help: "Unfinished scans that this replica counts.",
	}, func() float64 { return float64(limiter.backlog()) })
	for _, c := range []prometheus.Collector{
		m.requests, m.duration, m.events, m.delivery, m.rejected, m.readThroughs, streams, followed, unfinished,
	} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// answered counts a request.
func (m *metrics) answered(route, method string, status int, took time.Duration, streamed bool) {
	m.requests.WithLabelValues(route, method, strconv.Itoa(status/100)+"xx").Inc()
	if !streamed {
		m.duration.WithLabelValues(route, method).Observe(took.Seconds())
	}
}

// methodLabel bounds the values of the method label.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "other"
	}
}
