// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/scanstatus"
)

const (
	// maxConcurrentWrites bounds the status writes of one worker that are under way at the same time. See
	// scheduler.Options.MaxWrites for why more would not be faster.
	maxConcurrentWrites = 16
	// minRetryDelay and maxRetryDelay bound the time between two tries of a request.
	minRetryDelay = 100 * time.Millisecond
	maxRetryDelay = 5 * time.Second
	// requestTimeout bounds each request.
	requestTimeout = 10 * time.Second
)

// reportResults are the ways in which a report can end. No event of a worker can be stale: an assignment that is no
// longer current is fenced.
var reportResults = [...]scanstatus.Result{
	scanstatus.Written, scanstatus.Unchanged, scanstatus.Fenced, scanstatus.Deleted, scanstatus.Rejected, scanstatus.Abandoned,
}

// statusReporter writes events into the statuses of scans and counts how that ended.
type statusReporter struct {
	writer  *scanstatus.Writer
	clock   clock.Clock
	log     logr.Logger
	metrics *metrics
}

func newStatusReporter(c client.Client, clk clock.Clock, log logr.Logger, m *metrics) *statusReporter {
	return &statusReporter{
		writer: scanstatus.New(scanstatus.Options{
			Client: c, APIReader: c, Clock: clk, Log: log, Policy: scanstatus.NeverGiveUp,
			RequestTimeout: requestTimeout, MinDelay: minRetryDelay, MaxDelay: maxRetryDelay,
			MaxConcurrent: maxConcurrentWrites, Retried: m.writeRetries.Inc,
		}),
		clock: clk, log: log, metrics: m,
	}
}

func (r *statusReporter) read(ctx context.Context, key types.NamespacedName) (*v1alpha1.ScanRequest, error) {
	return r.writer.Read(ctx, key)
}

func (r *statusReporter) report(ctx context.Context, scan *v1alpha1.ScanRequest, event pipeline.Event) scanstatus.Result {
	began := r.clock.Now()
	newest, result, err := r.writer.Store(ctx, scan, event)
	if result == scanstatus.Rejected {
		if failed := rejectedAttempt(newest, event, err, began); failed != nil {
			r.log.Error(err, "result rejected; the attempt counts as failed", "scan", scan.Name)
			_, result, err = r.writer.Store(ctx, newest, failed)
		}
	}
	switch result {
	case scanstatus.Fenced:
		r.log.Info("late result dropped", "scan", scan.Name)
	case scanstatus.Rejected:
		r.log.Error(err, "result cannot be written; the scan waits for its deadline", "scan", scan.Name)
	case scanstatus.Abandoned:
		r.log.Error(err, "result not written: the worker is shutting down", "scan", scan.Name)
	}
	r.metrics.writes.WithLabelValues(string(result)).Inc()
	return result
}

// rejectedAttempt replaces outcomes that can never be stored by a failed attempt, so that the scan is tried again
// instead of waiting for its deadline. It returns nil where there is nothing to replace.
func rejectedAttempt(scan *v1alpha1.ScanRequest, event pipeline.Event, err error, at time.Time) pipeline.Event {
	completed, ok := event.(pipeline.Completed)
	rejected, typed := errors.AsType[*scanstatus.RejectedError](err)
	if !ok || !typed || scan.Status.Assignment == nil {
		return nil
	}
	return pipeline.Completed{AssignmentID: completed.AssignmentID, Outcomes: []pipeline.Outcome{{
		Stage: scan.Status.Assignment.Stage, StartedAt: at, FinishedAt: at,
		Failure: &pipeline.Failure{
			Class: v1alpha1.FailureInternal, Message: "the result could not be written: " + rejected.Error(),
		},
	}}}
}
