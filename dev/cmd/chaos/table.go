// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// printTable prints a line per round, and their sum.
func printTable(out io.Writer, results []result) {
	if len(results) == 0 {
		return
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t)
	fmt.Fprintln(t, "round\tfault\tscans\tsucceeded\tfailed\tlost\tpaid twice\tby dead workers\tfailed calls\t429s\tlongest wait\tseconds\tcontract")
	sum := result{fault: "all", reasons: map[string]int{}}
	for i := range results {
		r := &results[i]
		printRow(t, strconv.Itoa(r.round), r)
		sum.scans += r.scans
		sum.succeeded += r.succeeded
		sum.lost += r.lost
		sum.paidTwice += r.paidTwice
		sum.excused += r.excused
		sum.failedCalls += r.failedCalls
		sum.rateLimited += r.rateLimited
		sum.took += r.took
		sum.longestWait = max(sum.longestWait, r.longestWait)
		sum.broken = append(sum.broken, r.broken...)
		for reason, n := range r.reasons {
			sum.reasons[reason] += n
		}
	}
	printRow(t, "", &sum)
	_ = t.Flush() // like the other prints: where stdout fails there is nowhere to report it
	fmt.Fprintln(out, "\nCounted by the provider. Paid twice: sent again although the provider had not failed the call. Failed calls: charged\n"+
		"and then failed or never answered; each was sent again, as an attempt.")
}

func printRow(t io.Writer, number string, r *result) {
	kept := "kept"
	if n := len(r.broken); n > 0 {
		kept = fmt.Sprintf("BROKEN (%d)", n)
	}
	fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%.0f\t%s\n", number, r.fault, r.scans, r.succeeded, failures(r),
		r.lost, r.paidTwice, r.excused, r.failedCalls, r.rateLimited, r.longestWait.Round(100*time.Millisecond), r.took.Seconds(), kept)
}

func failures(r *result) string {
	if len(r.reasons) == 0 {
		return "0"
	}
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(r.reasons)) {
		parts = append(parts, fmt.Sprintf("%d %s", r.reasons[reason], reason))
	}
	return strings.Join(parts, ", ")
}
