// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/dev/load"
	"github.com/eco2-team/scan-operator/dev/openaisim"
)

func TestJudgePayments(t *testing.T) {
	const dead, live = "dead", "live"
	scan := func(worker string, attempts int64) []load.Scan {
		return []load.Scan{{
			Name: "a", UID: "0000-1111",
			Workers:  map[v1alpha1.StageName][]string{v1alpha1.StageVision: {live, worker}},
			Attempts: map[v1alpha1.StageName]int64{v1alpha1.StageVision: attempts},
		}}
	}
	paid := func(paid, answered int64) openaisim.PaymentStats {
		return openaisim.PaymentStats{PaidMoreThanOnce: 1, Repeated: []openaisim.RepeatedPayment{{ID: "0000-1111-vision", Paid: paid, Answered: answered}}}
	}
	tests := map[string]struct {
		fault       fault
		scans       []load.Scan
		payments    openaisim.PaymentStats
		rateLimited int64
		wantTwice   int
		wantExcused int
		wantFailed  int
		wantBreach  string
	}{
		"nothing":                    {scans: scan(live, 1)},
		"a call the provider failed": {scans: scan(live, 2), payments: paid(2, 1), wantFailed: 1},
		"a dead worker's call":       {scans: scan(dead, 1), payments: paid(2, 1), wantTwice: 1, wantExcused: 1},
		"a dead worker's answer":     {scans: scan(dead, 1), payments: paid(2, 2), wantTwice: 1, wantExcused: 1},
		"a live worker's call":       {scans: scan(live, 1), payments: paid(2, 1), wantTwice: 1, wantBreach: "paid for 2 times"},
		"an answer that was lost":    {scans: scan(live, 2), payments: paid(2, 2), wantTwice: 1, wantBreach: "answered 2 times"},
		"one too many of attempts":   {scans: scan(live, 2), payments: paid(3, 1), wantTwice: 1, wantBreach: "paid for 3 times"},
		"of an unknown scan":         {payments: paid(2, 1), wantBreach: "counts 1 repeated calls and names 0"},
		"calls without a name":       {scans: scan(live, 1), payments: openaisim.PaymentStats{WithoutID: 1}, wantBreach: "incomplete"},
		"a 429":                      {scans: scan(live, 1), rateLimited: 1, wantBreach: "met a 429"},
		"a 429 on purpose":           {fault: fault{rateLimits: true}, scans: scan(live, 1), rateLimited: 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := result{}
			now := &openaisim.Stats{Payments: tc.payments, RateLimited: map[string]int64{"tokens": tc.rateLimited}}
			killed := func(workers []string) bool { return slices.Contains(workers, dead) }
			r.judgePayments(tc.fault, tc.scans, killed, &openaisim.Stats{}, now)
			if r.paidTwice != tc.wantTwice || r.excused != tc.wantExcused || r.failedCalls != tc.wantFailed {
				t.Errorf("paid twice %d, excused %d, failed calls %d, want %d, %d, %d",
					r.paidTwice, r.excused, r.failedCalls, tc.wantTwice, tc.wantExcused, tc.wantFailed)
			}
			broken := strings.Join(r.broken, "; ")
			if (broken == "") != (tc.wantBreach == "") || !strings.Contains(broken, tc.wantBreach) {
				t.Errorf("broken: %q, want %q", broken, tc.wantBreach)
			}
		})
	}
}

func TestJudgeScans(t *testing.T) {
	failed := func(reason string) load.Scan {
		return load.Scan{Name: "a", Phase: v1alpha1.ScanFailed, Reason: reason, Finishes: 1}
	}
	tests := map[string]struct {
		fault      fault
		scan       load.Scan
		wantFailed int
		wantBroken bool
	}{
		"success":                        {scan: load.Scan{Phase: v1alpha1.ScanSucceeded, Finishes: 1}},
		"failure":                        {scan: failed(v1alpha1.ReasonRetriesExhausted), wantFailed: 1, wantBroken: true},
		"failure of a failing provider":  {fault: fault{failsCalls: true}, scan: failed(v1alpha1.ReasonRetriesExhausted), wantFailed: 1},
		"deadline with a failing one":    {fault: fault{failsCalls: true}, scan: failed(v1alpha1.ReasonDeadlineExceeded), wantFailed: 1, wantBroken: true},
		"not ended, which others breach": {scan: load.Scan{Phase: v1alpha1.ScanRunning}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := result{reasons: map[string]int{}}
			r.judgeScans(tc.fault, []load.Scan{tc.scan})
			if r.failed() != tc.wantFailed || (len(r.broken) > 0) != tc.wantBroken {
				t.Errorf("%d failed, broken %v, want %d and broken: %t", r.failed(), r.broken, tc.wantFailed, tc.wantBroken)
			}
		})
	}
}

func TestFaultsAreDealtEvenlyAndBySeed(t *testing.T) {
	choice, err := chooseFaults("")
	if err != nil {
		t.Fatal(err)
	}
	names := func(seed uint64) string {
		h := &harness{random: newRandom(seed)}
		var out []string
		count := map[string]int{}
		for _, f := range h.order(choice, 2*len(choice)) {
			out = append(out, f.name)
			count[f.name]++
		}
		for _, f := range choice {
			if count[f.name] != 2 {
				t.Errorf("seed %d: %s comes up %d times in two deals", seed, f.name, count[f.name])
			}
		}
		return strings.Join(out, " ")
	}
	first := names(1)
	if again := names(1); again != first {
		t.Errorf("the same seed gives different faults: %s, then %s", first, again)
	}
	if names(2) == first {
		t.Error("different seeds give the same faults")
	}
	if _, err := chooseFaults("kill-etcd,nonsense"); err == nil || !strings.Contains(err.Error(), "kill-api") {
		t.Errorf("error = %v, want one that names the faults there are", err)
	}
}
