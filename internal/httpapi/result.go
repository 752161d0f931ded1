// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"net/http"
	"strings"
	"time"
	"unicode"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/httpapi/auth"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// Bounds of the Retry-After of a poll. A scan takes some ten seconds, so a poll every two seconds is frequent enough; a
// scan that waits for minutes needs fewer.
const (
	minPollInterval = 2 * time.Second
	maxPollInterval = 15 * time.Second
)

// result serves a poll.
func (s *Server) result(w http.ResponseWriter, r *http.Request, caller auth.Caller) error {
	scan, err := s.ownScan(r.Context(), r.PathValue("id"), caller, scanapi.CodeResultNotFound)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	if pipeline.IsFinished(&scan.Status) {
		writeJSON(w, http.StatusOK, resultOf(scan))
		return nil
	}
	processing, wait := s.processing(scan)
	setRetryAfter(w, wait)
	writeJSON(w, http.StatusAccepted, processing)
	return nil
}

// cancel deletes a scan. Its worker aborts the call, and the scheduler settles the reservation.
func (s *Server) cancel(w http.ResponseWriter, r *http.Request, caller auth.Caller) error {
	scan, err := s.ownScan(r.Context(), r.PathValue("id"), caller, scanapi.CodeScanNotFound)
	if err != nil {
		return err
	}
	ctx, stop := s.writeContext(r.Context())
	defer stop()
	err = s.scans.Delete(ctx, scan)
	s.created.drop(scan.Name)
	if err != nil {
		if isGone(err) {
			return notFound(scanapi.CodeScanNotFound)
		}
		return fromKubernetes(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// resultOf is the document of a finished scan.
func resultOf(scan *v1alpha1.ScanRequest) scanapi.Result {
	doc := scanapi.Result{TaskID: scan.Name, Status: scanapi.StatusCompleted, Message: "The scan is complete."}
	if found := scan.Status.Result; found != nil {
		doc.PipelineResult = &scanapi.PipelineResult{
			ClassificationResult: classificationResultOf(found),
			DisposalRules:        disposalRulesOf(found.DisposalRules),
			FinalAnswer:          finalAnswerOf(found.Answer),
		}
		doc.Reward = rewardOf(found.Reward)
	}
	if scan.Status.Phase == v1alpha1.ScanFailed {
		failure := failureOf(scan)
		doc.Status, doc.Message, doc.Error = scanapi.StatusFailed, failure.Message, &failure.Code
	}
	return doc
}

// processing is the document of a scan that has not finished, and the interval to the next poll.
func (s *Server) processing(scan *v1alpha1.ScanRequest) (scanapi.Processing, time.Duration) {
	events := Events(scan)
	doc := scanapi.Processing{
		Status:       scanapi.StatusProcessing,
		CurrentStage: scanapi.EventQueued,
		Progress:     events[len(events)-1].Progress,
	}
	if len(scan.Status.Stages) > 0 {
		doc.CurrentStage = string(pipeline.NextStage(&scan.Status))
	}
	doc.Message = waitMessage(scan, doc.CurrentStage)
	interval := minPollInterval
	if scan.Status.Assignment == nil {
		if position, wait, ok := s.queue.Position(scan.Namespace, scan.Name); ok {
			doc.QueuePosition = &position
			if wait != nil {
				doc.EstimatedWaitSeconds = new(wholeSeconds(*wait))
				interval = min(max(*wait/4, minPollInterval), maxPollInterval)
			}
		}
	}
	return doc, interval
}

// waitMessages are the messages for the user of a scan that waits, by the reason of its Admitted condition. The message
// of the condition itself is for operators.
var waitMessages = map[string]string{
	v1alpha1.ReasonWaitingForTokens:   "The scan is waiting for its turn.",
	v1alpha1.ReasonWaitingForRequests: "The scan is waiting for its turn.",
	v1alpha1.ReasonWaitingForQuota:    "The scan is waiting: the service has used up its quota for now.",
	v1alpha1.ReasonWaitingForBudget:   "The scan is waiting: the service cannot analyze photos now.",
	v1alpha1.ReasonWaitingForWorker:   "The scan is waiting for its turn.",
	v1alpha1.ReasonBackingOff:         "The scan will be retried soon.",
	v1alpha1.ReasonSuspended:          "The scan is suspended.",
}

func waitMessage(scan *v1alpha1.ScanRequest, stage string) string {
	admitted := meta.FindStatusCondition(scan.Status.Conditions, v1alpha1.ConditionAdmitted)
	switch {
	case scan.Status.Assignment != nil:
		return "The scan is running: stage " + stage + "."
	case admitted != nil && admitted.Status == metav1.ConditionFalse && waitMessages[admitted.Reason] != "":
		return waitMessages[admitted.Reason]
	default:
		return "The scan is waiting for its turn."
	}
}

// failureMessages are the messages for the user of a failed scan, by the reason of its Finished condition. The message of
// the condition itself names workers and budgets and is for operators.
var failureMessages = map[string]string{
	v1alpha1.ReasonDeadlineExceeded: "The scan took too long. Send the photo again.",
	v1alpha1.ReasonRetriesExhausted: "The photo could not be analyzed after several attempts. Send it again later.",
	v1alpha1.ReasonUnsupportedModel: "The model is not supported. Choose another one or leave it out.",
	v1alpha1.ReasonRequestTooLarge:  "The photo or the question is too large. Send a smaller one.",
	v1alpha1.ReasonNotClassifiable:  "The photo shows nothing that can be classified as waste. Send another photo.",
	v1alpha1.ReasonContentRefused:   "The photo or the question was declined. Send another one.",
	v1alpha1.ReasonInvalidRequest:   "The photo could not be read. Check that its URL is public and that it is an image.",
}

// failureOf is the reason why a scan failed.
func failureOf(scan *v1alpha1.ScanRequest) scanapi.Failure {
	failure := scanapi.Failure{Code: "FAILED", Message: "The scan failed. Send the photo again."}
	finished := meta.FindStatusCondition(scan.Status.Conditions, v1alpha1.ConditionFinished)
	if finished == nil {
		return failure
	}
	failure.Code = codeOf(finished.Reason)
	if message, ok := failureMessages[finished.Reason]; ok {
		failure.Message = message
	}
	return failure
}

// codeOf turns a condition's reason into a code: DeadlineExceeded becomes DEADLINE_EXCEEDED.
func codeOf(reason string) string {
	var b strings.Builder
	for i, c := range reason {
		if i > 0 && unicode.IsUpper(c) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(c))
	}
	return b.String()
}

func classificationResultOf(found *v1alpha1.ScanResult) *scanapi.ClassificationResult {
	if found.Classification == nil {
		return nil
	}
	return &scanapi.ClassificationResult{
		Classification: scanapi.Classification{
			MajorCategory:  found.Classification.MajorCategory,
			MiddleCategory: found.Classification.MiddleCategory,
			MinorCategory:  found.Classification.MinorCategory,
		},
		SituationTags: list(found.SituationTags),
	}
}

func disposalRulesOf(rules *v1alpha1.DisposalRules) *scanapi.DisposalRules {
	if rules == nil {
		return nil
	}
	return &scanapi.DisposalRules{
		ID: rules.ID, Title: rules.Title, Steps: list(rules.Steps), Exclusions: list(rules.Exclusions),
	}
}

func finalAnswerOf(answer *v1alpha1.Answer) *scanapi.FinalAnswer {
	if answer == nil {
		return nil
	}
	return &scanapi.FinalAnswer{
		DisposalSteps: list(answer.DisposalSteps), Insufficiencies: list(answer.Insufficiencies),
		UserAnswer: answer.UserAnswer,
	}
}

func rewardOf(reward *v1alpha1.Reward) *scanapi.Reward {
	if reward == nil {
		return nil
	}
	return &scanapi.Reward{
		Name: reward.Name, Dialog: reward.Dialog, MatchReason: reward.MatchReason, Type: reward.Type,
	}
}

// list returns items as a list that is never null in JSON.
func list(items []string) []string {
	if items == nil {
		return []string{}
	}
	return items
}
