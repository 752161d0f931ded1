// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/dev/load"
	"github.com/eco2-team/scan-operator/dev/openaisim"
)

const (
	// warmUp is how long a round's load runs before the fault: until all users have a scan.
	warmUp = 4 * time.Second
	// after is how long it goes on when the fault is over.
	after = 4 * time.Second
	// drain is how long the last scans may take to end. It is more than a call's timeout, its attempts' backoff,
	// and a Lease together, and less than the deadline of a scan, which would hide a scan that is stuck.
	drain = 3 * time.Minute
	// idle is how long the budgets may take to show that nothing runs.
	idle = 20 * time.Second
)

// result is what a round found.
type result struct {
	round     int
	fault     string
	scans     int
	succeeded int
	reasons   map[string]int // of those that failed
	lost      int
	// paidTwice are the calls that were sent again although the provider had not failed them; excused are those of
	// them that a killed or frozen worker had.
	paidTwice, excused int
	// failedCalls are the calls that the provider charged and failed, and that were sent again.
	failedCalls int
	rateLimited int64
	longestWait time.Duration
	took        time.Duration
	broken      []string
}

func (r *result) failed() int {
	n := 0
	for _, count := range r.reasons {
		n += count
	}
	return n
}

func (r *result) breach(format string, args ...any) {
	r.broken = append(r.broken, fmt.Sprintf(format, args...))
}

// round puts the stack under load, injects the fault, awaits the end of all scans, and checks the contract. An error
// means that the round could not be completed; breaches of the contract are in the result.
func (h *harness) round(ctx context.Context, number int, f fault) (result, error) {
	r := result{round: number, fault: f.name, reasons: map[string]int{}}
	begun := time.Now()
	before, err := h.sim.Stats(ctx)
	if err != nil {
		return r, err
	}
	brokenBefore := len(h.recorder.Broken())

	submitting, enough := context.WithCancel(ctx)
	users := &load.Users{Count: h.opts.unfinished, APIURL: h.stack.APIURL(), Name: fmt.Sprintf("chaos-%d", number), Recorder: h.recorder}
	left := make(chan error, 1)
	go func() { left <- users.Run(submitting) }()
	err = h.underLoad(ctx, f)
	enough()
	if leaving := <-left; err == nil {
		err = leaving
	}
	if err != nil {
		return r, err
	}

	draining, cancel := context.WithTimeout(ctx, drain)
	err = h.recorder.AwaitAllEnded(draining)
	cancel()
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	if err != nil {
		r.breach("%v", err)
	}
	r.lost = len(h.recorder.Unfinished())
	idling, cancel := context.WithTimeout(ctx, idle)
	err = h.awaitIdle(idling)
	cancel()
	if err != nil && r.lost == 0 {
		r.breach("%v", err)
	}
	r.took = time.Since(begun)
	for _, broken := range h.recorder.Broken()[brokenBefore:] {
		r.breach("%s", broken)
	}
	now, err := h.sim.Stats(ctx)
	if err != nil {
		return r, err
	}
	scans := h.recorder.Scans()
	r.judgeScans(f, scans)
	r.judgePayments(f, scans, h.killed, before, now)
	if err := h.checkStored(ctx, &r); err != nil {
		return r, err
	}
	h.recorder.Forget()
	return r, nil
}

// underLoad injects the fault when all users have a scan, and keeps the load on for a while.
func (h *harness) underLoad(ctx context.Context, f fault) error {
	if err := pause(ctx, warmUp); err != nil {
		return err
	}
	injecting, cancel := context.WithTimeout(ctx, maxFaultDuration)
	defer cancel()
	if err := f.inject(injecting, h); err != nil {
		return err
	}
	return pause(ctx, after)
}

// judgeScans counts how the scans ended.
func (r *result) judgeScans(f fault, scans []load.Scan) {
	r.scans = len(scans)
	for i := range scans {
		s := &scans[i]
		r.longestWait = max(r.longestWait, s.Waited)
		switch {
		case !s.Terminal():
		case s.Phase == v1alpha1.ScanSucceeded:
			r.succeeded++
		default:
			r.reasons[s.Reason]++
			if !f.failsCalls || s.Reason != v1alpha1.ReasonRetriesExhausted {
				r.breach("scan %s failed: %s", s.Name, s.Reason)
			}
		}
	}
}

// judgePayments takes from the provider's counters which calls were paid for more than once, and excuses those of dead
// workers: killed reports whether one of the workers was a target.
func (r *result) judgePayments(f fault, scans []load.Scan, killed func([]string) bool, before, now *openaisim.Stats) {
	r.rateLimited = now.RateLimitedTotal() - before.RateLimitedTotal()
	if r.rateLimited > 0 && !f.rateLimits {
		r.breach("%d calls met a 429", r.rateLimited)
	}
	if now.Payments.WithoutID > before.Payments.WithoutID || now.Payments.Forgotten > 0 {
		r.breach("the provider's counters are incomplete: %d calls without a name, %d forgotten", now.Payments.WithoutID, now.Payments.Forgotten)
	}
	byUID := map[string]*load.Scan{}
	for i := range scans {
		byUID[string(scans[i].UID)] = &scans[i]
	}
	for _, p := range now.Payments.Repeated {
		cut := strings.LastIndex(p.ID, "-")
		scan, ours := byUID[p.ID[:max(cut, 0)]]
		if !ours {
			continue // of an earlier round
		}
		stage := v1alpha1.StageName(p.ID[cut+1:])
		// Each attempt beyond the first is one that the provider failed. Calls lost by a worker are not attempts.
		if p.Answered <= 1 && p.Paid <= scan.Attempts[stage] {
			r.failedCalls++
			continue
		}
		r.paidTwice++
		if killed(scan.Workers[stage]) {
			r.excused++
			continue
		}
		r.breach("%s of scan %s was paid for %d times and answered %d times in %d attempts, and no worker that had it was killed: %v",
			stage, scan.Name, p.Paid, p.Answered, scan.Attempts[stage], scan.Workers[stage])
	}
	if again := int(now.Payments.PaidMoreThanOnce - before.Payments.PaidMoreThanOnce); again != r.paidTwice+r.failedCalls {
		r.breach("the provider counts %d repeated calls and names %d", again, r.paidTwice+r.failedCalls)
	}
}

// checkStored compares what the watch showed with what is stored, and removes the scans of the round.
func (h *harness) checkStored(ctx context.Context, r *result) error {
	stored := &v1alpha1.ScanRequestList{}
	if err := h.client.List(ctx, stored, client.InNamespace(h.stack.Namespace())); err != nil {
		return fmt.Errorf("list the scans: %w", err)
	}
	ended := 0
	for i := range stored.Items {
		s := &stored.Items[i]
		switch {
		case !s.Status.FinishedAt.IsZero():
			ended++
		case !slices.ContainsFunc(h.recorder.Unfinished(), func(l string) bool { return strings.HasPrefix(l, s.Name+" ") }):
			r.breach("scan %s is stored as %s", s.Name, s.Status.Phase)
		}
	}
	if want := r.succeeded + r.failed(); ended != want {
		r.breach("%d scans are stored as ended, %d were seen to end", ended, want)
	}
	err := h.client.DeleteAllOf(ctx, &v1alpha1.ScanRequest{}, client.InNamespace(h.stack.Namespace()))
	if err != nil {
		return fmt.Errorf("remove the scans: %w", err)
	}
	return nil
}
