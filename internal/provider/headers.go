// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

const (
	// maxCount is the largest value that is accepted for a limit.
	maxCount = 1_000_000_000_000
	// maxWait is the longest wait that is accepted. The provider's longest window is a month.
	maxWait = 31 * 24 * time.Hour
)

// parseRateLimit reads the x-ratelimit headers. It returns nil if none is usable. It ignores a limit without a remaining
// value and the reverse: the missing one would look like an empty bucket.
func parseRateLimit(h http.Header, sentAt time.Time) *v1alpha1.RateLimitObservation {
	o := &v1alpha1.RateLimitObservation{}
	o.LimitTokens, o.RemainingTokens, _ = parseLevel(h, "Tokens")
	o.LimitRequests, o.RemainingRequests, o.ResetRequestsMilliseconds = parseLevel(h, "Requests")
	o.ProjectLimitTokens, o.ProjectRemainingTokens, _ = parseLevel(h, "Project-Tokens")
	if o.LimitTokens == 0 && o.LimitRequests == 0 && o.ProjectLimitTokens == 0 {
		return nil
	}
	o.SentAt = metav1.NewMicroTime(sentAt)
	return o
}

// parseLevel reads the three headers of one bucket.
func parseLevel(h http.Header, bucket string) (limit, remaining, resetMillis int64) {
	limit, okLimit := parseCount(h.Get("X-Ratelimit-Limit-" + bucket))
	remaining, okRemaining := parseCount(h.Get("X-Ratelimit-Remaining-" + bucket))
	if !okLimit || !okRemaining || limit < 1 {
		return 0, 0, 0
	}
	reset, _ := parseWait(h.Get("X-Ratelimit-Reset-" + bucket))
	return limit, min(max(remaining, 0), limit), reset.Milliseconds()
}

// parseCount reads an integer. It may be negative: a bucket can be overdrawn.
func parseCount(s string) (int64, bool) {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	return n, err == nil && n <= maxCount
}

// parseWait reads a duration in the provider's format ("6m0s", "174ms") or a number of seconds, which compatible
// providers use.
func parseWait(s string) (time.Duration, bool) {
	s = strings.TrimSpace(s)
	if d, err := time.ParseDuration(s); err == nil {
		return inRange(d)
	}
	seconds, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, false
	}
	return ofUnits(seconds, time.Second)
}

// ofUnits converts a number of units to a duration. It reports false if that is out of range.
func ofUnits(n float64, unit time.Duration) (time.Duration, bool) {
	if math.IsNaN(n) || n < 0 || n > float64(maxWait)/float64(unit) {
		return 0, false
	}
	return time.Duration(math.Ceil(n * float64(unit))), true
}

// inRange reports false for a duration that cannot be a wait.
func inRange(d time.Duration) (time.Duration, bool) {
	if d < 0 || d > maxWait {
		return 0, false
	}
	return d, true
}

// tryAgain matches the wait in the message of a 429, such as "Please try again in 18.642s". It is used without headers.
var tryAgain = regexp.MustCompile(`try again in ((?:[0-9]+(?:\.[0-9]+)?(?:ms|h|m|s))+)`)

// retryAfter returns the minimum wait that a response asks for: retry-after-ms, else Retry-After (seconds or a date),
// else the text of the error. Zero means none.
func retryAfter(h http.Header, message string, now time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(strings.TrimSpace(h.Get("Retry-After-Ms")), 64); err == nil {
		if d, ok := ofUnits(ms, time.Millisecond); ok {
			return d
		}
	}
	value := strings.TrimSpace(h.Get("Retry-After"))
	if d, ok := parseWait(value); ok {
		return d
	}
	if at, err := http.ParseTime(value); err == nil {
		if d, ok := inRange(at.Sub(now)); ok {
			return d
		}
	}
	if m := tryAgain.FindStringSubmatch(message); m != nil {
		if d, ok := parseWait(m[1]); ok {
			return d
		}
	}
	return 0
}
