// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"strconv"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// benchIDs are created in advance, so that the benchmarks do not measure it.
func benchIDs(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = "0198c0de-0000-7000-8000-" + strconv.Itoa(100_000_000_000+i)
	}
	return ids
}

// BenchmarkReserveSettle measures a call from Reserve to Settle with 5,000 others in flight, 100 µs apart.
func BenchmarkReserveSettle(b *testing.B) {
	for _, headers := range []bool{false, true} {
		b.Run("headers="+strconv.FormatBool(headers), func(b *testing.B) {
			const inFlight = 5000
			ids := benchIDs(2 * inFlight)
			l, now := New(following(10_000_000_000, 100), epoch), epoch
			l.SetLimits(Limits{TokensPerMinute: 10_000_000_000, RequestsPerMinute: 100_000_000, FollowHeaders: true}, now)
			r := Result{Usage: v1alpha1.TokenUsage{Input: 1000, Output: 200}}
			if headers {
				r.Observation = &v1alpha1.RateLimitObservation{
					LimitTokens: 10_000_000_000, RemainingTokens: 9_000_000_000,
					LimitRequests: 100_000_000, RemainingRequests: 99_000_000, ResetRequestsMilliseconds: 600,
				}
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				now = now.Add(100 * time.Microsecond)
				if !l.Reserve(ids[i%len(ids)], 2500, now).OK {
					b.Fatal("refused")
				}
				if i >= inFlight {
					if headers {
						r.Observation.SentAt = metav1.NewMicroTime(now.Add(-inFlight * 100 * time.Microsecond))
					}
					l.Settle(ids[(i-inFlight)%len(ids)], r, now)
				}
				i++
			}
		})
	}
}

// BenchmarkDenied measures a verdict with the time at which the call fits.
func BenchmarkDenied(b *testing.B) {
	l := New(plain(2_000_000), epoch)
	for _, id := range benchIDs(800) {
		l.Reserve(id, 2500, epoch)
	}
	b.ReportAllocs()
	for b.Loop() {
		if l.Check(2500, epoch).OK {
			b.Fatal("fits")
		}
	}
}

func BenchmarkStats(b *testing.B) {
	l := New(plain(2_000_000), epoch)
	for _, id := range benchIDs(800) {
		l.Reserve(id, 2500, epoch)
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = l.Stats(epoch)
	}
}
