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
	// maxCount is the largest number taken for a limit; what is larger is garbage.
	maxCount = 1_000_000_000_000
	// maxWait is the longest wait taken for one. The provider's longest window is a month.
	maxWait = 31 * 24 * time.Hour
)

// parseRateLimit reads the x-ratelimit headers. It is nil where there are none that can be used. A limit without
// its remainder is left out, and the other way round: half of a pair would be taken for an empty bucket.
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

// parseCount reads a whole number. Below zero is possible: an overdrawn bucket.
func parseCount(s string) (int64, bool) {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	return n, err == nil && n <= maxCount
}

// parseWait reads a duration as the provider writes it ("6m0s", "174ms"), or a number of seconds as compatible
// providers do.
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

// ofUnits is a number of units as a duration.
func ofUnits(n float64, unit time.Duration) (time.Duration, bool) {
	if math.IsNaN(n) || n < 0 || n > float64(maxWait)/float64(unit) {
		return 0, false
	}
	return time.Duration(math.Ceil(n * float64(unit))), true
}

// inRange refuses durations that make no sense as a wait.
func inRange(d time.Duration) (time.Duration, bool) {
	if d < 0 || d > maxWait {
		return 0, false
	}
	return d, true
}

// tryAgain finds the wait in the text of a 429, as in "Please try again in 18.642s", for when headers are missing.
var tryAgain = regexp.MustCompile(`try again in ((?:[0-9]+(?:\.[0-9]+)?(?:ms|h|m|s))+)`)

// retryAfter is the least time to wait that the provider asked for: retry-after-ms, else Retry-After (seconds or
// a date), else the text of the error. Zero where there is none.
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
