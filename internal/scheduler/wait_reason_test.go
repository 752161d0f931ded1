// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"testing"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/queue"
)

func TestWaitReasonIsExplained(t *testing.T) {
	tokens := waitReason{reason: v1alpha1.ReasonWaitingForTokens, message: "the limit is used up", need: "; this call needs 1056 tokens"}
	workers := waitReason{reason: v1alpha1.ReasonWaitingForWorker, message: "all workers are busy"}
	tests := map[string]struct {
		block waitReason
		ahead queue.Position
		wait  time.Duration
		want  string
	}{
		"first in line for tokens": {
			block: tokens, wait: 3 * time.Second, want: "next in line, about 3 s; the limit is used up; this call needs 1056 tokens",
		},
		"others ahead": {
			block: tokens, ahead: queue.Position{Ahead: 390, TokensAhead: 412_345}, wait: 12300 * time.Millisecond,
			want: "412 k tokens ahead, about 12 s; 390 scans go first, the limit is used up",
		},
		"a wait that is not known": {
			block: tokens, ahead: queue.Position{Ahead: 1, TokensAhead: 1056}, want: "1056 tokens ahead; 1 scan goes first, the limit is used up",
		},
		"first in line for a worker": {block: workers, wait: time.Second, want: "next in line, about 1 s; all workers are busy"},
		"first in line for an event": {block: workers, want: "next in line; all workers are busy"},
		"others ahead for workers": {
			block: workers, ahead: queue.Position{Ahead: 2, TokensAhead: 2000}, wait: 250 * time.Second,
			want: "2 scans go first, about 4 min; all workers are busy",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tc.block.explain(tc.ahead, tc.wait); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

func TestNumbersForPeople(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 9_999: "9999", 10_000: "10 k", 12_499: "12 k", 412_500: "413 k", 999_499: "999 k", 999_500: "1.0 M", 3_440_000: "3.4 M",
	} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "less than 1 s", 999 * time.Millisecond: "less than 1 s", time.Second: "1 s", 12400 * time.Millisecond: "12 s",
		99 * time.Second: "99 s", 100 * time.Second: "2 min", 5 * time.Minute: "5 min", 100 * time.Minute: "2 h", 23 * time.Hour: "23 h",
	} {
		if got := humanWait(d); got != want {
			t.Errorf("humanWait(%s) = %q, want %q", d, got, want)
		}
	}
}

// TestTheNearestDenialIsKept, and a call is impossible only if all denials are.
func TestTheNearestDenialIsKept(t *testing.T) {
	at := func(reason string, seconds int) denial {
		return denial{waitReason: waitReason{reason: reason, retryAt: t0.Add(time.Duration(seconds) * time.Second)}}
	}
	event := func(reason string) denial { return denied(reason, "") }
	impossible := denial{waitReason: waitReason{reason: "impossible"}, impossible: true}
	tests := map[string]struct {
		refusals []denial
		want     string
	}{
		"one":                            {[]denial{at("a", 1)}, "a"},
		"the earlier":                    {[]denial{at("a", 2), at("b", 1), at("c", 3)}, "b"},
		"a time before an event":         {[]denial{event("a"), at("b", 100)}, "b"},
		"the first of several events":    {[]denial{event("a"), event("b")}, "a"},
		"an event before the impossible": {[]denial{impossible, event("a")}, "a"},
		"the same the other way":         {[]denial{event("a"), impossible}, "a"},
		"all are impossible":             {[]denial{impossible, impossible}, "impossible"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var best denial
			for _, r := range tc.refusals {
				best.keepNearest(r)
			}
			if best.reason != tc.want || best.impossible != (tc.want == "impossible") {
				t.Errorf("%q, impossible %t; want %q", best.reason, best.impossible, tc.want)
			}
		})
	}
}
