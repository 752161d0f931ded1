// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tokenbudget

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/budget"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

// budgetInput is what a budget's status is derived from.
type budgetInput struct {
	key   scheduler.KeyState
	stats budget.Stats
	// estimates are those of the budget's models, the latest first.
	estimates []budget.Estimate
	// providerError is the provider's last error message about the key or the quota.
	providerError   string
	defaultEndpoint string
	now             time.Time
}

// computeBudgetStatus derives a budget's status from its key and its ledger's figures.
func computeBudgetStatus(b *v1alpha1.TokenBudget, in budgetInput) {
	s, stats := &b.Status, in.stats
	s.ObservedGeneration = b.Generation
	s.Endpoint = b.Spec.Endpoint
	if s.Endpoint == "" {
		s.Endpoint = in.defaultEndpoint
	}
	s.Limits = v1alpha1.BudgetLimits{
		TokensPerMinute: stats.TokensPerMinute, RequestsPerMinute: stats.RequestsPerMinute, RatePercent: stats.RatePercent,
	}
	if day := stats.RequestsPerDay; day != nil {
		s.Limits.RequestsPerDay = day.Limit
	}
	s.Usage = v1alpha1.BudgetUsage{
		TokensLastMinute: stats.TokensLastMinute, RequestsLastMinute: stats.RequestsLastMinute,
		ReservedTokens: stats.ReservedTokens, InFlight: stats.InFlight,
	}
	if stats.TokensPerMinute > 0 {
		s.Usage.UtilizationPercent = int32(min(100*stats.TokensLastMinute/stats.TokensPerMinute, 1000))
	}
	totals := v1alpha1.BudgetTotals{
		Calls: stats.Totals.Calls, InputTokens: stats.Totals.InputTokens,
		CachedInputTokens: stats.Totals.CachedInputTokens, OutputTokens: stats.Totals.OutputTokens,
	}
	s.Throttles = stats.Throttles
	s.ResumeAt = resumeAt(stats)
	s.Quota = nil
	if b.Spec.Quota != nil {
		s.Quota = &v1alpha1.QuotaStatus{PeriodStart: metav1.NewMicroTime(stats.QuotaPeriodStart), UsedTokens: stats.QuotaUsed}
	}
	if s.Bucket == nil || totals != s.Totals || stats.InFlight > 0 { // an idle budget's bucket can be computed from its last state
		s.Bucket = snapshotBucket(stats, in.now)
	}
	s.Totals = totals
	s.Estimates = callEstimates(in.estimates)

	setBudgetCondition(b, readyCondition(in))
	setBudgetCondition(b, throttledCondition(b, stats))
	setBudgetCondition(b, quotaCondition(b, in))
}

func setBudgetCondition(b *v1alpha1.TokenBudget, c metav1.Condition) {
	c.ObservedGeneration = b.Generation
	meta.SetStatusCondition(&b.Status.Conditions, c)
}

// snapshotBucket is the state from which a new leader restores the bucket.
func snapshotBucket(stats budget.Stats, now time.Time) *v1alpha1.BucketSnapshot {
	snapshot := stats.Snapshot(now.Truncate(time.Microsecond))
	return &v1alpha1.BucketSnapshot{
		At: metav1.NewMicroTime(snapshot.At), Tokens: snapshot.Tokens, Requests: snapshot.Requests,
		RequestWindowSeconds: int32(snapshot.RequestWindow / time.Second),
	}
}

// resumeAt is when calls are sent again; nil if they are not held, or held until an event.
func resumeAt(stats budget.Stats) *metav1.MicroTime {
	at := stats.ResumeAt
	if stats.Hold == "" && stats.QuotaExhausted {
		at = stats.QuotaPeriodEnd
	}
	if at.IsZero() {
		return nil
	}
	return &metav1.MicroTime{Time: at.Truncate(time.Microsecond)}
}

func readyCondition(in budgetInput) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: in.key.Reason, Message: in.key.Message}
	switch {
	case !in.key.Ready:
	case in.stats.Hold == budget.HoldUnauthorized:
		c.Reason = v1alpha1.ReasonKeyRejected
		c.Message = "the provider rejected the key; update the Secret with a valid key; scans wait until it is accepted" + quoted(in.providerError)
	case in.stats.Hold == budget.HoldUnreachable:
		c.Reason = v1alpha1.ReasonProviderUnreachable
		c.Message = "calls fail for every scan; check the endpoint and the network; scans wait while probe calls test the provider" + quoted(in.providerError)
	default:
		c.Status = metav1.ConditionTrue
	}
	return c
}

func throttledCondition(b *v1alpha1.TokenBudget, stats budget.Stats) metav1.Condition {
	c := metav1.Condition{
		Type: v1alpha1.ConditionThrottled, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonWithinLimits,
		Message: "the provider admits calls at the configured rate",
	}
	switch {
	case stats.Hold == budget.HoldRetryAfter:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonRateLimited
		c.Message = "the provider asked to wait for more than five minutes; probe calls test whether it is that long"
	case stats.Throttled && stats.RatePercent < b.Spec.TargetUtilizationPercent:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonSlowDown
		c.Message = fmt.Sprintf("the provider asked to slow down; calls use %d %% of the limits for now", stats.RatePercent)
	case stats.Throttled:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonRateLimited
		c.Message = "the provider rejected a call with a rate limit error less than a minute ago"
	}
	return c
}

// quoted appends the provider's own error message.
func quoted(message string) string {
	if message == "" {
		return ""
	}
	return ". The provider said: " + message
}

func quotaCondition(b *v1alpha1.TokenBudget, in budgetInput) metav1.Condition {
	stats := in.stats
	c := metav1.Condition{
		Type: v1alpha1.ConditionQuotaExhausted, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonQuotaAvailable,
		Message: "quota is available",
	}
	switch q := b.Spec.Quota; {
	case stats.Hold == budget.HoldQuotaExhausted:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonProviderQuotaExhausted
		c.Message = "the provider's quota is exhausted; add credit or raise the limit there; scans wait while probe calls test the quota" + quoted(in.providerError)
	case q != nil && stats.QuotaExhausted:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonSpecQuotaExhausted
		period := strings.ToLower(string(q.Period))
		c.Message = fmt.Sprintf("%d of %d tokens of spec.quota are used this %s, and the rest is less than a call needs; scans wait until the next %s or until spec.quota is raised",
			stats.QuotaUsed, q.Tokens, period, period)
	}
	return c
}
