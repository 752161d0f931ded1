// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// quota is the spending cap of the spec. Running calls count by their reservation, finished ones by their usage, in
// the period in which they finished.
type quota struct {
	limit      *Quota
	start, end time.Time // of the current period
	used       int64
	// short is true after a denied call that would not fit even if the running ones used nothing: the rest of the
	// quota is of no use in this period.
	short bool
}

// roll sets the cap in force, and starts a new period when the old one has ended.
func (q *quota) roll(limit *Quota, now time.Time) {
	if limit == nil {
		*q = quota{}
		return
	}
	if q.limit != nil && q.limit.Period == limit.Period && now.Before(q.end) {
		q.short = q.short && limit.Tokens <= q.limit.Tokens
		q.limit = limit
		return
	}
	q.limit, q.used, q.short = limit, 0, false
	q.start, q.end = period(limit.Period, now)
}

// restore sets the usage that an earlier leader counted, if it was in this period.
func (q *quota) restore(start time.Time, used int64) {
	if q.limit != nil && start.Equal(q.start) {
		q.used = used
	}
}

// fits reports whether the tokens fit the cap together with what is used and reserved.
func (q *quota) fits(tokens, reserved int64) bool {
	return q.limit == nil || q.used+reserved <= q.limit.Tokens-tokens
}

// refused records that a call did not fit.
func (q *quota) refused(tokens int64) { q.short = q.short || !q.fits(tokens, 0) }

// exhausted reports whether nothing more can be spent in this period.
func (q *quota) exhausted() bool { return q.limit != nil && (q.short || q.used >= q.limit.Tokens) }

// settle counts a finished call. If the provider may have done the work without reporting its usage, the reservation
// counts.
func (q *quota) settle(reserved int64, r Result) {
	used := r.Usage.Input + r.Usage.Output
	if used == 0 && mayBeBilled(r.Class) {
		used = reserved
	}
	q.used += used
}

// mayBeBilled reports whether the provider may bill a call that ended with this class.
func mayBeBilled(class v1alpha1.FailureClass) bool {
	switch class {
	case "", v1alpha1.FailureTimeout, v1alpha1.FailureWorkerLost, v1alpha1.FailureInternal,
		v1alpha1.FailureInvalidOutput, v1alpha1.FailureRefused, v1alpha1.FailureNotClassifiable:
		return true
	default:
		return false
	}
}

// period returns the period that contains a time, in UTC. An unknown kind counts as a month, the longest.
func period(p v1alpha1.QuotaPeriod, now time.Time) (start, end time.Time) {
	now = now.UTC()
	year, month, d := now.Date()
	switch p {
	case v1alpha1.QuotaPerHour:
		start = time.Date(year, month, d, now.Hour(), 0, 0, 0, time.UTC)
		return start, start.Add(time.Hour)
	case v1alpha1.QuotaPerDay:
		start = time.Date(year, month, d, 0, 0, 0, 0, time.UTC)
		return start, start.AddDate(0, 0, 1)
	default:
		start = time.Date(year, month, 1, 0, 0, 0, 0, time.UTC)
		return start, start.AddDate(0, 1, 0)
	}
}
