// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tokenbudget

import (
	"cmp"
	"math"
	"slices"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/budget"
)

const (
	// maxEstimates is the API's limit of estimates in a status.
	maxEstimates = 8
	// estimatesInterval is the minimum interval between writes that change only estimates. Budgets that serve the same
	// model learn from each other's calls, so an idle budget's estimates change too.
	estimatesInterval = time.Minute
)

// callEstimates returns the latest estimates for the status, sorted by stage and model and rounded to whole numbers:
// what is reserved upwards, as less than was measured would be too little.
// In known, the latest comes first.
func callEstimates(known []budget.Estimate) []v1alpha1.CallEstimate {
	var list []v1alpha1.CallEstimate
	for _, e := range known[:min(len(known), maxEstimates)] {
		list = append(list, v1alpha1.CallEstimate{
			Stage: v1alpha1.StageName(e.Stage), Model: e.Model,
			ChargeTokens: round(e.Usual.Charge), InputTokens: round(e.Usual.Input), OutputTokens: round(e.Usual.Output),
			DurationMilliseconds: round(e.Usual.Seconds * 1000), Calls: e.Usual.Samples,
			ReservedPercent: int32((e.Ratio + 9) / 10), ChargeSamples: int32(e.Proofs),
			LastCallAt: metav1.NewMicroTime(e.At.Truncate(time.Microsecond)),
		})
	}
	slices.SortFunc(list, func(a, b v1alpha1.CallEstimate) int {
		return cmp.Or(cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Model, b.Model))
	})
	return list
}

func round(n float64) int64 { return int64(math.Round(n)) }

// worthWriting reports whether a status differs from the stored one in more than its estimates, or whether its estimates
// are newer by estimatesInterval.
func worthWriting(before, after *v1alpha1.TokenBudgetStatus) bool {
	if apiequality.Semantic.DeepEqual(before, after) {
		return false
	}
	rest := *after
	rest.Estimates = before.Estimates
	return !apiequality.Semantic.DeepEqual(before, &rest) ||
		latestCall(after.Estimates).Sub(latestCall(before.Estimates)) >= estimatesInterval
}

// latestCall is the end of the latest call in the estimates; zero if there is none.
func latestCall(list []v1alpha1.CallEstimate) time.Time {
	var latest time.Time
	for i := range list {
		if at := list[i].LastCallAt.Time; at.After(latest) {
			latest = at
		}
	}
	return latest
}
