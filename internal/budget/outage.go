// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"slices"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

const (
	// outageScans is the number of different scans whose calls must fail, with no success in between, before failures
	// count as an outage: one scan's failures may be its own.
	outageScans = 3
	// outageWorkers is the number of different workers whose calls must fail, where there are several: one worker's
	// failures may be its own.
	outageWorkers = 2

	// unreachableFirst is the time to the first probe call of an unreachable provider. It doubles with each that fails,
	// up to unreachableLast. A probe call that fails costs little, so that recovery is noticed early.
	unreachableFirst = ledgerTime(time.Second)
	unreachableLast  = ledgerTime(30 * time.Second)

	// retryAfterBlock is the longest Retry-After that blocks a bucket. A longer one becomes a hold with probe calls:
	// some providers and proxies ask for an hour or a day and work again within seconds.
	retryAfterBlock = ledgerTime(5 * time.Minute)
	retryAfterProbe = ledgerTime(time.Minute)
)

// evidence are the scans and workers whose calls failed since one last worked. It keeps only as many as decide.
type evidence struct {
	scans, workers []string
}

// add notes a failure and reports whether it completes the evidence of an outage.
func (e *evidence) add(r Result) bool {
	if r.Scan == "" {
		return false
	}
	if len(e.scans) < outageScans && !slices.Contains(e.scans, r.Scan) {
		e.scans = append(e.scans, r.Scan)
	}
	if len(e.workers) < outageWorkers && !slices.Contains(e.workers, r.Worker) {
		e.workers = append(e.workers, r.Worker)
	}
	return len(e.scans) == outageScans && (r.OnlyWorker || len(e.workers) == outageWorkers)
}

func (e *evidence) clear() { e.scans, e.workers = e.scans[:0], e.workers[:0] }

// neverSent reports whether a class means that the provider cannot have seen the call.
func neverSent(class v1alpha1.FailureClass) bool {
	return class == v1alpha1.FailureUnreachable || class == v1alpha1.FailureKeyMissing
}

// reached notes whether a call reached a working provider, as any response but a 5xx proves. A call that was sent before
// the failures began proves nothing: calls under way may end well for some seconds into an outage.
func (h *holds) reached(id string, r Result, reserved, now ledgerTime) {
	e := &h.endpoint
	switch r.Class {
	case v1alpha1.FailureUnreachable, v1alpha1.FailureUnavailable, v1alpha1.FailureTimeout:
		if len(h.outage.scans) == 0 {
			h.failingSince = now
		}
		switch complete := h.outage.add(r); {
		case e.active && e.probe == id:
			e.interval = min(2*e.interval, unreachableLast)
			e.probe, e.next = "", now+e.interval
		case !e.active && complete:
			*e = hold{active: true, since: now, interval: unreachableFirst, next: now + unreachableFirst}
		}
	case v1alpha1.FailureKeyMissing, v1alpha1.FailureInternal, v1alpha1.FailureWorkerLost, v1alpha1.FailureDrained:
		// Nothing is known of the provider.
	default:
		if e.probe == id && e.active || reserved >= h.failingSince {
			*e = hold{}
			h.outage.clear()
		}
	}
}

// askedToWait holds the budget if the provider demanded a wait longer than retryAfterBlock.
func (h *holds) askedToWait(id string, wait, now ledgerTime) {
	if wait <= retryAfterBlock {
		return
	}
	a := &h.retryAfter
	switch {
	case !a.active:
		*a = hold{active: true, since: now, interval: retryAfterProbe}
	case a.probe == id:
		a.interval = min(2*a.interval, probeLast)
	default:
		return
	}
	a.probe, a.next = "", now+a.interval
}
