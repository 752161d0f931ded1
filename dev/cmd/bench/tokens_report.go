// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/dev/load"
	"github.com/eco2-team/scan-operator/dev/openaisim"
	"github.com/eco2-team/scan-operator/internal/queuestatus"
)

// tokenReport is what was measured.
type tokenReport struct {
	run                 string // prefix of the scans' names
	scans               []load.Scan
	predicted           map[string]load.Prediction
	from, to            time.Time
	before, after, last *openaisim.Stats // nil without a simulated provider
}

const (
	// maxPredictions is how many scans are waiting for their prediction at a time.
	maxPredictions = 20
	// predictWithin is the age up to which a scan's first prediction is looked for.
	predictWithin = 4 * time.Second
)

// predict looks up the waits of scans that are new. The client of the queue servers requests what it does not have
// yet, and returns it a second later.
func (r *tokenReport) predict(h *harness, positions *queuestatus.Client) {
	left := maxPredictions
	for _, s := range h.recorder.Scans() {
		if _, found := r.predicted[s.Name]; found || left == 0 || s.Terminal() || s.Submitted.IsZero() || time.Since(s.Submitted) > predictWithin {
			continue
		}
		left--
		if _, wait, ok := positions.Position(h.namespace, s.Name); ok && wait != nil {
			r.predicted[s.Name] = load.Prediction{At: time.Now(), Wait: *wait}
		}
	}
}

func (r *tokenReport) measured(s *load.Scan) bool {
	return !s.FinishedAt.Before(r.from) && s.FinishedAt.Before(r.to)
}

func (r *tokenReport) print(w io.Writer) {
	var all, succeeded, inWindow, unfinished, wasted, charged int64
	reasons := map[string]int{}
	byUser := map[string][]*load.Scan{}
	for i := range r.scans {
		s := &r.scans[i]
		if !strings.HasPrefix(s.Name, r.run) {
			continue // of others, on a stack that ran already
		}
		all++
		if !s.Terminal() {
			unfinished++
			continue
		}
		byUser[s.User] = append(byUser[s.User], s)
		charged += s.Reserved
		if s.Phase != v1alpha1.ScanSucceeded {
			wasted += s.Reserved
			reasons[s.Reason]++
			continue
		}
		succeeded++
		if r.measured(s) {
			inWindow++
		}
	}
	minutes := r.to.Sub(r.from).Minutes()
	fmt.Fprintf(w, "scans        created %d, succeeded %d (%.2f %%), failed %v, unfinished %d\n",
		all, succeeded, 100*float64(succeeded)/float64(max(all, 1)), reasons, unfinished)
	fmt.Fprintf(w, "throughput   %.1f scans/min over %.0f s\n", float64(inWindow)/minutes, r.to.Sub(r.from).Seconds())
	fmt.Fprintf(w, "tokens       %d charged, %d of them for scans that did not succeed\n", charged, wasted)
	if r.before != nil && r.after != nil && r.last != nil {
		r.printProvider(w, float64(charged)/float64(max(succeeded, 1)), float64(inWindow)/minutes)
	}
	r.printPredictions(w)
	for _, user := range slices.Sorted(maps.Keys(byUser)) {
		r.printUser(w, user, byUser[user])
	}
}

func (r *tokenReport) printProvider(w io.Writer, perScan, scansPerMinute float64) {
	minutes := r.to.Sub(r.from).Minutes()
	limitBefore, levelBefore := buckets(r.before)
	limit, level := buckets(r.after)
	used := r.after.TokensCharged - r.before.TokensCharged
	fmt.Fprintf(w, "utilization  provider charged %d tokens/min of %d allowed: %.2f %%; %.0f tokens per scan, so at most %.1f scans/min: %.2f %%\n",
		int64(float64(used)/minutes), limit, 100*float64(used)/minutes/float64(max(limit, 1)), perScan,
		float64(limit)/perScan, 100*scansPerMinute/(float64(limit)/perScan))
	// What was there at the beginning could be spent, too. An account that the provider did not have then was full.
	held := levelBefore + limit - limitBefore
	fmt.Fprintf(w, "buckets      held %d tokens (%.1f %% of a minute) when measuring began, %d when it ended: %.2f %% of what could be spent was\n",
		held, 100*float64(held)/float64(max(limit, 1)), level, 100*float64(used)/(float64(held)+minutes*float64(limit)))
	fmt.Fprintf(w, "provider     429s %v, errors %v, most calls in flight %d, calls paid for more than once %d of %d\n",
		r.last.RateLimited, r.last.Errors, r.last.MaxInFlight, r.last.Payments.PaidMoreThanOnce, r.last.Payments.Distinct)
}

// printPredictions compares the waits that were predicted soon after creation with those that followed.
func (r *tokenReport) printPredictions(w io.Writer) {
	var p load.Predictions
	for i := range r.scans {
		s := &r.scans[i]
		if guess, ok := r.predicted[s.Name]; ok && !s.BegunAt.IsZero() && !s.Submitted.Before(r.from) {
			p.Add(guess, s.BegunAt)
		}
	}
	fmt.Fprintf(w, "predictions  %s\n", &p)
}

func (r *tokenReport) printUser(w io.Writer, user string, scans []*load.Scan) {
	var tokens int64
	var waited, took, overhead []time.Duration
	for _, s := range scans {
		if r.measured(s) {
			tokens += s.Reserved
		}
		whole := s.FinishedAt.Sub(s.AcceptedAt)
		waited, took, overhead = append(waited, s.Waited), append(took, whole), append(overhead, whole-s.Served-s.Waited)
	}
	fmt.Fprintf(w, "user %-8s %5d scans, %9d tokens while measured\n", user, len(scans), tokens)
	fmt.Fprintf(w, "    wait     %s\n    duration %s\n    overhead %s\n",
		load.Quantiles(waited), load.Quantiles(took), load.Quantiles(overhead))
}
