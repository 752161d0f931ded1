// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/clip"
)

// maxMessage is the maximum length of a message in a status, in bytes: an object must stay small.
const maxMessage = 512

// PhaseOf derives the phase from the rest of the status.
func PhaseOf(s *v1alpha1.ScanRequestStatus) v1alpha1.ScanPhase {
	switch {
	case IsFinished(s) && meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionRewardCompleted):
		return v1alpha1.ScanSucceeded
	case IsFinished(s):
		return v1alpha1.ScanFailed
	case s.Assignment != nil:
		return v1alpha1.ScanRunning
	default:
		return v1alpha1.ScanQueued
	}
}

// summaryOf derives the columns that kubectl prints.
func summaryOf(s *v1alpha1.ScanRequestStatus) v1alpha1.Summary {
	sum := v1alpha1.Summary{Stage: string(NextStage(s))}
	if s.Result != nil && s.Result.Classification != nil {
		k := s.Result.Classification
		sum.Category = strings.TrimSuffix(k.MajorCategory+"/"+k.MiddleCategory, "/")
	}
	for i := range s.Stages {
		sum.Tokens += s.Stages[i].Tokens.Input + s.Stages[i].Tokens.Output
	}
	if IsFinished(s) {
		sum.DurationMilliseconds = positiveMillis(s.FinishedAt.Sub(s.AcceptedAt.Time))
	}
	switch finished, admitted := condition(s, v1alpha1.ConditionFinished), condition(s, v1alpha1.ConditionAdmitted); {
	case finished != nil:
		sum.Reason = finished.Reason
	case admitted != nil:
		sum.Reason = admitted.Reason
	}
	return sum
}

func condition(s *v1alpha1.ScanRequestStatus, kind string) *metav1.Condition {
	return meta.FindStatusCondition(s.Conditions, kind)
}

func setCondition(c Context, s *v1alpha1.ScanRequestStatus, kind string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&s.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: clip.Bytes(message, maxMessage),
		ObservedGeneration: c.Generation, LastTransitionTime: metav1.NewTime(c.Now.Truncate(time.Second)),
	})
}
