// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scanstatus

import (
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// arrived says whether stored carries what a patch from base to sent changed. Others may have written since: then the
// two differ, and only what later writes leave in place is compared.
func arrived(base, sent, stored *v1alpha1.ScanRequestStatus) bool {
	if apiequality.Semantic.DeepEqual(sent, stored) {
		return true
	}
	if sent.Assignment != nil && (base.Assignment == nil || base.Assignment.ID != sent.Assignment.ID) {
		if stored.Assignment != nil {
			return stored.Assignment.ID == sent.Assignment.ID
		}
		ran := pipeline.Stage(stored, sent.Assignment.Stage) // the assignment may have ended already
		return ran != nil && ran.AssignmentID == sent.Assignment.ID
	}
	changed := !sent.FinishedAt.Equal(&base.FinishedAt)
	if changed && !stored.FinishedAt.Equal(&sent.FinishedAt) {
		return false
	}
	for i := range sent.Stages {
		ours := &sent.Stages[i]
		if before := pipeline.Stage(base, ours.Name); before != nil && apiequality.Semantic.DeepEqual(before, ours) {
			continue
		}
		changed = true
		theirs := pipeline.Stage(stored, ours.Name)
		if theirs == nil || theirs.Worker != ours.Worker || !theirs.FinishedAt.Equal(&ours.FinishedAt) {
			return false
		}
	}
	return changed
}

// hasRun says whether a stage of the scan began or ended between two states of it.
func hasRun(before, after *v1alpha1.ScanRequestStatus) bool {
	return !apiequality.Semantic.DeepEqual(before.Stages, after.Stages)
}
