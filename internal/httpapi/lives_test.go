// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// life makes the states that a scan goes through, with the operator's own transition function.
type life struct {
	tb     testing.TB
	scan   *v1alpha1.ScanRequest
	now    time.Time
	states []*v1alpha1.ScanRequest
	nextID int
}

func newLife(tb testing.TB, name string) *life {
	tb.Helper()
	l := &life{tb: tb, now: testStart, scan: &v1alpha1.ScanRequest{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: testNamespace, Name: name, UID: "uid", CreationTimestamp: metav1.NewTime(testStart),
		},
		Spec: v1alpha1.ScanRequestSpec{
			ImageURL: "https://img.example.com/a.jpg", UserID: "kim", DeadlineSeconds: 300,
		},
		Status: v1alpha1.ScanRequestStatus{Phase: v1alpha1.ScanQueued},
	}}
	l.states = append(l.states, l.scan.DeepCopy())
	return l
}

func (l *life) fold(event pipeline.Event) *life {
	l.tb.Helper()
	l.now = l.now.Add(time.Second)
	c := pipeline.Context{
		Spec: l.scan.Spec, CreatedAt: l.scan.CreationTimestamp.Time, Now: l.now,
		Jitter: func() float64 { return 0.5 },
	}
	if _, err := pipeline.Fold(c, &l.scan.Status, event); err != nil {
		l.tb.Fatalf("fold %T: %v", event, err)
	}
	l.states = append(l.states, l.scan.DeepCopy())
	return l
}

func (l *life) assign(stage v1alpha1.StageName) *life {
	l.tb.Helper()
	l.nextID++
	return l.fold(pipeline.Assigned{
		AcceptedAt: testStart.Add(10 * time.Millisecond),
		Assignment: v1alpha1.Assignment{
			ID: string(rune('a' + l.nextID)), Stage: stage, Worker: "worker-1", Budget: "budget", Model: "gpt-a",
			Attempt: 1, MaxAttempts: 3, ReservedTokens: 1000, Deadline: metav1.NewMicroTime(l.now.Add(time.Minute)),
		},
	})
}

func (l *life) complete(outcomes ...pipeline.Outcome) *life {
	l.tb.Helper()
	for i := range outcomes {
		outcomes[i].StartedAt, outcomes[i].FinishedAt = l.now, l.now.Add(500*time.Millisecond)
		if outcomes[i].State == "" {
			outcomes[i].State = v1alpha1.StageSucceeded
		}
	}
	return l.fold(pipeline.Completed{AssignmentID: l.scan.Status.Assignment.ID, Outcomes: outcomes})
}

func (l *life) fail(stage v1alpha1.StageName, class v1alpha1.FailureClass) *life {
	l.tb.Helper()
	return l.complete(pipeline.Outcome{Stage: stage, Failure: &pipeline.Failure{
		Class: class, Message: "worker-1 got a bad answer from budget",
	}})
}

func (l *life) release() *life {
	l.tb.Helper()
	return l.fold(pipeline.Released{
		AssignmentID: l.scan.Status.Assignment.ID, Class: v1alpha1.FailureWorkerLost, Message: "worker lost",
	})
}

var (
	visionOutcome = pipeline.Outcome{Stage: v1alpha1.StageVision, Result: v1alpha1.ScanResult{
		Classification: &v1alpha1.Classification{
			MajorCategory: "재활용폐기물", MiddleCategory: "종이", MinorCategory: "골판지 상자",
		},
		SituationTags: []string{"내용물_있음"},
	}}
	ruleOutcome = pipeline.Outcome{Stage: v1alpha1.StageRule, Result: v1alpha1.ScanResult{
		DisposalRules: &v1alpha1.DisposalRules{ID: "paper", Title: "종이", Steps: []string{"펴기", "묶기"}},
	}}
	answerOutcome = pipeline.Outcome{Stage: v1alpha1.StageAnswer, Result: v1alpha1.ScanResult{
		Answer: &v1alpha1.Answer{DisposalSteps: []string{"상자를 펴세요"}, UserAnswer: "상자를 펴서 묶어 내놓으세요."},
	}}
	rewardOutcome = pipeline.Outcome{Stage: v1alpha1.StageReward, Result: v1alpha1.ScanResult{
		Reward: &v1alpha1.Reward{Name: "페이피", Dialog: "고마워!", MatchReason: "종이", Type: "paper"},
	}}
	noRule    = pipeline.Outcome{Stage: v1alpha1.StageRule, Reason: v1alpha1.ReasonNoRuleFound}
	noCall    = pipeline.Outcome{Stage: v1alpha1.StageAnswer, State: v1alpha1.StageSkipped, Reason: v1alpha1.ReasonNoRuleFound, Result: answerOutcome.Result}
	noReward  = pipeline.Outcome{Stage: v1alpha1.StageReward, State: v1alpha1.StageSkipped}
	scanLives = map[string]func(l *life){
		"as planned": func(l *life) { succeed(l) },
		"one stage at a time": func(l *life) {
			l.assign(v1alpha1.StageVision).complete(visionOutcome)
			l.assign(v1alpha1.StageRule).complete(ruleOutcome)
			l.assign(v1alpha1.StageAnswer).complete(answerOutcome)
			l.assign(v1alpha1.StageReward).complete(rewardOutcome)
		},
		"all in one write": func(l *life) {
			l.assign(v1alpha1.StageVision).complete(visionOutcome, noRule, noCall, noReward)
		},
		"vision tried again, worker lost in answer": func(l *life) {
			l.assign(v1alpha1.StageVision).fail(v1alpha1.StageVision, v1alpha1.FailureUnavailable)
			l.assign(v1alpha1.StageVision).fail(v1alpha1.StageVision, v1alpha1.FailureRateLimited)
			l.assign(v1alpha1.StageVision).complete(visionOutcome, ruleOutcome)
			l.assign(v1alpha1.StageAnswer).release()
			l.assign(v1alpha1.StageAnswer).complete(answerOutcome, noReward)
		},
		"rule fails after vision in one write, then succeeds": func(l *life) {
			failed := pipeline.Outcome{Stage: v1alpha1.StageRule, Failure: &pipeline.Failure{Class: v1alpha1.FailureInternal, Message: "broken"}}
			l.assign(v1alpha1.StageVision).complete(visionOutcome, failed)
			l.assign(v1alpha1.StageRule).complete(ruleOutcome)
			l.assign(v1alpha1.StageAnswer).complete(answerOutcome, rewardOutcome)
		},
		"refused": func(l *life) {
			l.assign(v1alpha1.StageVision).fail(v1alpha1.StageVision, v1alpha1.FailureRefused)
		},
		"answer refused": func(l *life) {
			l.assign(v1alpha1.StageVision).complete(visionOutcome, ruleOutcome)
			l.assign(v1alpha1.StageAnswer).fail(v1alpha1.StageAnswer, v1alpha1.FailureRefused)
		},
		"expired in the queue": func(l *life) { l.fold(pipeline.Expired{}) },
		"expired while it runs": func(l *life) {
			l.assign(v1alpha1.StageVision).fold(pipeline.Expired{})
		},
		"expired between stages": func(l *life) {
			l.assign(v1alpha1.StageVision).complete(visionOutcome, ruleOutcome).fold(pipeline.Expired{})
		},
		"rejected while it waits to be tried again": func(l *life) {
			l.assign(v1alpha1.StageVision).release().fold(pipeline.Waiting{Reason: v1alpha1.ReasonWaitingForTokens, Message: "later"})
			l.fold(pipeline.Rejected{Reason: v1alpha1.ReasonUnsupportedModel, Message: "no budget"})
		},
	}
)

func succeed(l *life) {
	l.assign(v1alpha1.StageVision).complete(visionOutcome, ruleOutcome)
	l.assign(v1alpha1.StageAnswer).complete(answerOutcome, rewardOutcome)
}
