// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

var t0 = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return t0.Add(time.Duration(seconds * float64(time.Second))) }

// scan builds statuses event by event, as the system does.
type scan struct {
	t      *testing.T
	spec   v1alpha1.ScanRequestSpec
	status v1alpha1.ScanRequestStatus
}

func newScan(t *testing.T) *scan {
	t.Helper()
	return &scan{t: t, spec: v1alpha1.ScanRequestSpec{ImageURL: "https://images.example.org/1.jpg", DeadlineSeconds: 300}}
}

func (s *scan) try(seconds float64, ev Event) (bool, error) {
	return Fold(Context{
		Spec: s.spec, CreatedAt: t0, Generation: 1, Now: at(seconds), Jitter: func() float64 { return 0.5 },
	}, &s.status, ev)
}

// then folds an event that must change the status.
func (s *scan) then(seconds float64, ev Event) *scan {
	s.t.Helper()
	changed, err := s.try(seconds, ev)
	if err != nil {
		s.t.Fatalf("fold %T: %v", ev, err)
	}
	if !changed {
		s.t.Fatalf("fold %T changed nothing", ev)
	}
	return s
}

func assigned(id string, stage v1alpha1.StageName) Assigned {
	return Assigned{AcceptedAt: at(0.2), Assignment: v1alpha1.Assignment{
		ID: id, Stage: stage, Worker: "w1", Budget: "b", Model: "m", Attempt: 1, ReservedTokens: 500, MaxAttempts: 3,
		Deadline: metav1.NewMicroTime(at(100)),
	}}
}

func ok(stage v1alpha1.StageName, from, to float64) Outcome {
	o := Outcome{Stage: stage, State: v1alpha1.StageSucceeded, StartedAt: at(from), FinishedAt: at(to)}
	switch stage {
	case v1alpha1.StageVision:
		o.Result.Classification = &v1alpha1.Classification{MajorCategory: "재활용폐기물", MiddleCategory: "무색페트병"}
		o.Usage = v1alpha1.TokenUsage{Input: 300, Output: 40}
	case v1alpha1.StageRule:
		o.Result.DisposalRules = &v1alpha1.DisposalRules{ID: "pet"}
	case v1alpha1.StageAnswer:
		o.Result.Answer = &v1alpha1.Answer{UserAnswer: "비우고 헹구세요"}
		o.Usage = v1alpha1.TokenUsage{Input: 400, Output: 100}
	case v1alpha1.StageReward:
		o.Result.Reward = &v1alpha1.Reward{Name: "페티"}
	}
	return o
}

func broke(stage v1alpha1.StageName, class v1alpha1.FailureClass, from, to float64) Outcome {
	return Outcome{Stage: stage, StartedAt: at(from), FinishedAt: at(to), Failure: &Failure{Class: class, Code: "code", Message: "it broke"}}
}

func conditions(s *v1alpha1.ScanRequestStatus) map[string]string {
	got := map[string]string{}
	for _, c := range s.Conditions {
		got[c.Type] = string(c.Status) + " " + c.Reason
	}
	return got
}

func TestFoldWholeScan(t *testing.T) {
	s := newScan(t).
		then(0.25, assigned("a1", v1alpha1.StageVision)).
		then(5, Completed{AssignmentID: "a1", Outcomes: []Outcome{ok(v1alpha1.StageVision, 0.3, 4.9), ok(v1alpha1.StageRule, 4.9, 4.95)}})

	if s.status.Phase != v1alpha1.ScanQueued || s.status.Summary.Stage != "answer" {
		t.Errorf("after vision and rule: phase %s, next stage %s", s.status.Phase, s.status.Summary.Stage)
	}
	admitted := condition(&s.status, v1alpha1.ConditionAdmitted)
	if admitted.Status != metav1.ConditionFalse || admitted.Reason != v1alpha1.ReasonStageCompleted ||
		admitted.Message != "stage rule is done, stage answer is queued" {
		t.Errorf("after vision and rule: %+v", admitted)
	}
	s.then(6, assigned("a2", v1alpha1.StageAnswer)).
		then(11, Completed{AssignmentID: "a2", Outcomes: []Outcome{ok(v1alpha1.StageAnswer, 6.05, 11), ok(v1alpha1.StageReward, 11, 11)}})

	want := map[string]string{
		"Admitted": "False Finished", "VisionCompleted": "True Succeeded", "RuleCompleted": "True Succeeded",
		"AnswerCompleted": "True Succeeded", "RewardCompleted": "True Succeeded", "Finished": "True Succeeded",
	}
	if diff := cmp.Diff(want, conditions(&s.status)); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	// Waited: 0.2→0.25 to be assigned and →0.3 to start; 4.95→6 and →6.05 for answer.
	wantSummary := v1alpha1.Summary{
		Category: "재활용폐기물/무색페트병", Tokens: 840, DurationMilliseconds: 10_800, Reason: "Succeeded",
	}
	if diff := cmp.Diff(wantSummary, s.status.Summary); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	if s.status.Phase != v1alpha1.ScanSucceeded || s.status.Assignment != nil || !s.status.FinishedAt.Time.Equal(at(11)) {
		t.Errorf("phase %s, assignment %v, finished at %s", s.status.Phase, s.status.Assignment, s.status.FinishedAt)
	}
	r := s.status.Result
	if r.Classification == nil || r.DisposalRules == nil || r.Answer == nil || r.Reward == nil {
		t.Errorf("result is incomplete: %+v", r)
	}
	if got := Stage(&s.status, v1alpha1.StageVision); got.Attempts != 1 || got.Tokens.Reserved != 500 {
		t.Errorf("vision: %d attempts, %d tokens reserved", got.Attempts, got.Tokens.Reserved)
	}
}

func TestFoldFailures(t *testing.T) {
	tests := map[string]struct {
		class        v1alpha1.FailureClass
		retryAfter   time.Duration
		attempts     int // failures in a row
		wantPhase    v1alpha1.ScanPhase
		wantReason   string // of the summary
		wantAttempts int32
		wantRetryIn  time.Duration // zero: no retry is set
	}{
		"rate limiting does not count":      {class: v1alpha1.FailureRateLimited, attempts: 5, wantPhase: v1alpha1.ScanQueued, wantReason: v1alpha1.ReasonWaitingForTokens},
		"quota does not count":              {class: v1alpha1.FailureQuotaExhausted, attempts: 5, wantPhase: v1alpha1.ScanQueued, wantReason: v1alpha1.ReasonWaitingForQuota},
		"a rejected key does not count":     {class: v1alpha1.FailureUnauthorized, attempts: 5, wantPhase: v1alpha1.ScanQueued, wantReason: v1alpha1.ReasonWaitingForBudget},
		"a 5xx counts and backs off":        {class: v1alpha1.FailureUnavailable, attempts: 1, wantPhase: v1alpha1.ScanQueued, wantReason: v1alpha1.ReasonBackingOff, wantAttempts: 1, wantRetryIn: 500 * time.Millisecond},
		"the second backoff is longer":      {class: v1alpha1.FailureTimeout, attempts: 2, wantPhase: v1alpha1.ScanQueued, wantReason: v1alpha1.ReasonBackingOff, wantAttempts: 2, wantRetryIn: time.Second},
		"Retry-After is a minimum":          {class: v1alpha1.FailureSlowDown, retryAfter: 7 * time.Second, attempts: 1, wantPhase: v1alpha1.ScanQueued, wantReason: v1alpha1.ReasonBackingOff, wantAttempts: 1, wantRetryIn: 7 * time.Second},
		"the last attempt fails the scan":   {class: v1alpha1.FailureInvalidOutput, attempts: 3, wantPhase: v1alpha1.ScanFailed, wantReason: v1alpha1.ReasonRetriesExhausted, wantAttempts: 3},
		"a refusal is terminal":             {class: v1alpha1.FailureRefused, attempts: 1, wantPhase: v1alpha1.ScanFailed, wantReason: v1alpha1.ReasonContentRefused, wantAttempts: 1},
		"a bad request is terminal":         {class: v1alpha1.FailureInvalidRequest, attempts: 1, wantPhase: v1alpha1.ScanFailed, wantReason: v1alpha1.ReasonInvalidRequest, wantAttempts: 1},
		"a request too large is terminal":   {class: v1alpha1.FailureRequestTooLarge, attempts: 1, wantPhase: v1alpha1.ScanFailed, wantReason: v1alpha1.ReasonRequestTooLarge, wantAttempts: 1},
		"outside the taxonomy is terminal":  {class: v1alpha1.FailureNotClassifiable, attempts: 1, wantPhase: v1alpha1.ScanFailed, wantReason: v1alpha1.ReasonNotClassifiable, wantAttempts: 1},
		"a fault of our own counts":         {class: v1alpha1.FailureInternal, attempts: 1, wantPhase: v1alpha1.ScanQueued, wantReason: v1alpha1.ReasonBackingOff, wantAttempts: 1, wantRetryIn: 500 * time.Millisecond},
		"a handed back scan does not count": {class: v1alpha1.FailureDrained, attempts: 5, wantPhase: v1alpha1.ScanQueued, wantReason: v1alpha1.ReasonWaitingForWorker},
		"a scan of a lost worker is no try": {class: v1alpha1.FailureWorkerLost, attempts: 5, wantPhase: v1alpha1.ScanQueued, wantReason: v1alpha1.ReasonWaitingForWorker},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := newScan(t)
			var last float64
			for i := range tc.attempts {
				last = float64(10*i + 5)
				o := broke(v1alpha1.StageVision, tc.class, last-4, last)
				o.Failure.RetryAfter = tc.retryAfter
				id := string(rune('a' + i))
				s.then(last-5, assigned(id, v1alpha1.StageVision)).then(last, Completed{AssignmentID: id, Outcomes: []Outcome{o}})
			}
			st := Stage(&s.status, v1alpha1.StageVision)
			if s.status.Phase != tc.wantPhase || s.status.Summary.Reason != tc.wantReason || st.Attempts != tc.wantAttempts {
				t.Errorf("phase %s, reason %s, attempts %d; want %s, %s, %d",
					s.status.Phase, s.status.Summary.Reason, st.Attempts, tc.wantPhase, tc.wantReason, tc.wantAttempts)
			}
			if st.Failure == nil || st.Failure.Class != tc.class || st.Failure.Code != "code" {
				t.Errorf("failure %+v, want class %s", st.Failure, tc.class)
			}
			var retryIn time.Duration
			if s.status.Retry != nil {
				retryIn = s.status.Retry.After.Sub(at(last))
			}
			if retryIn != tc.wantRetryIn {
				t.Errorf("retry in %s, want %s", retryIn, tc.wantRetryIn)
			}
			if next := NextStage(&s.status); (tc.wantPhase == v1alpha1.ScanFailed) != (next == "") {
				t.Errorf("next stage %q in phase %s", next, s.status.Phase)
			}
		})
	}
}

func TestFoldRetryKeepsFinishedStages(t *testing.T) {
	s := newScan(t).
		then(0.25, assigned("a1", v1alpha1.StageVision)).
		then(5, Completed{AssignmentID: "a1", Outcomes: []Outcome{ok(v1alpha1.StageVision, 0.3, 4.9), ok(v1alpha1.StageRule, 4.9, 5)}}).
		then(6, assigned("a2", v1alpha1.StageAnswer)).
		then(8, Completed{AssignmentID: "a2", Outcomes: []Outcome{broke(v1alpha1.StageAnswer, v1alpha1.FailureUnavailable, 6, 8)}})
	if got := NextStage(&s.status); got != v1alpha1.StageAnswer {
		t.Fatalf("next stage after a failed answer = %s", got)
	}
	if got := Stage(&s.status, v1alpha1.StageVision).State; got != v1alpha1.StageSucceeded {
		t.Errorf("vision is %s", got)
	}
	s.then(9, assigned("a3", v1alpha1.StageAnswer)).
		then(12, Completed{AssignmentID: "a3", Outcomes: []Outcome{ok(v1alpha1.StageAnswer, 9, 12), ok(v1alpha1.StageReward, 12, 12)}})
	st := Stage(&s.status, v1alpha1.StageAnswer)
	if st.Attempts != 2 || st.Failure != nil || s.status.Retry != nil || st.Tokens.Reserved != 1000 {
		t.Errorf("answer: %d attempts, failure %v, retry %v, %d reserved", st.Attempts, st.Failure, s.status.Retry, st.Tokens.Reserved)
	}
}

func TestFoldNoRuleFound(t *testing.T) {
	skip := func(stage v1alpha1.StageName) Outcome {
		return Outcome{Stage: stage, State: v1alpha1.StageSkipped, StartedAt: at(5), FinishedAt: at(5)}
	}
	rule := ok(v1alpha1.StageRule, 5, 5)
	rule.Reason, rule.Result.DisposalRules = v1alpha1.ReasonNoRuleFound, nil
	answer := skip(v1alpha1.StageAnswer)
	answer.Result.Answer = &v1alpha1.Answer{UserAnswer: "규정을 찾지 못했습니다"}
	s := newScan(t).
		then(0.25, assigned("a1", v1alpha1.StageVision)).
		then(5, Completed{AssignmentID: "a1", Outcomes: []Outcome{ok(v1alpha1.StageVision, 0.3, 5), rule, answer, skip(v1alpha1.StageReward)}})
	if s.status.Phase != v1alpha1.ScanSucceeded {
		t.Errorf("phase = %s", s.status.Phase)
	}
	want := map[string]string{
		"Admitted": "False Finished", "VisionCompleted": "True Succeeded", "RuleCompleted": "True NoRuleFound",
		"AnswerCompleted": "True Skipped", "RewardCompleted": "True Skipped", "Finished": "True Succeeded",
	}
	if diff := cmp.Diff(want, conditions(&s.status)); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
}

// TestFinishedScansAreNotAdmitted: a finished scan's Admitted names no worker and no wait, however the scan ended.
func TestFinishedScansAreNotAdmitted(t *testing.T) {
	waiting := Waiting{Reason: v1alpha1.ReasonWaitingForTokens, Message: "waits for tokens"}
	tests := map[string]*scan{
		"failed":                newScan(t).then(1, assigned("a1", v1alpha1.StageVision)).then(2, Completed{AssignmentID: "a1", Outcomes: []Outcome{broke(v1alpha1.StageVision, v1alpha1.FailureRefused, 1, 2)}}),
		"rejected":              newScan(t).then(1, waiting).then(2, Rejected{Reason: v1alpha1.ReasonUnsupportedModel, Message: "no budget serves it"}),
		"expired while waiting": newScan(t).then(1, waiting).then(301, Expired{}),
		"expired while running": newScan(t).then(1, assigned("a1", v1alpha1.StageVision)).then(301, Expired{}),
	}
	for name, s := range tests {
		t.Run(name, func(t *testing.T) {
			c := condition(&s.status, v1alpha1.ConditionAdmitted)
			if !IsFinished(&s.status) || c == nil || c.Status != metav1.ConditionFalse || c.Reason != v1alpha1.ReasonFinished ||
				c.Message != "the scan has finished and needs no worker" {
				t.Errorf("finished: %t, condition: %+v", IsFinished(&s.status), c)
			}
		})
	}
}

func TestFoldFences(t *testing.T) {
	running := func(t *testing.T) *scan { t.Helper(); return newScan(t).then(1, assigned("a1", v1alpha1.StageVision)) }
	tests := map[string]struct {
		state   func(*testing.T) *scan
		event   Event
		wantErr error
	}{
		"outcome of an old assignment": {
			state: running, event: Completed{AssignmentID: "a0", Outcomes: []Outcome{ok(v1alpha1.StageVision, 0, 1)}}, wantErr: ErrFenced,
		},
		"outcome after the scan was taken back": {
			state: func(t *testing.T) *scan {
				t.Helper()
				return running(t).then(2, Released{AssignmentID: "a1", Class: v1alpha1.FailureWorkerLost})
			},
			event: Completed{AssignmentID: "a1", Outcomes: []Outcome{ok(v1alpha1.StageVision, 0, 1)}}, wantErr: ErrFenced,
		},
		"outcome after the deadline ended the scan": {
			state: func(t *testing.T) *scan { t.Helper(); return running(t).then(301, Expired{}) },
			event: Completed{AssignmentID: "a1", Outcomes: []Outcome{ok(v1alpha1.StageVision, 0, 1)}}, wantErr: ErrFenced,
		},
		"release of an old assignment": {
			state: running, event: Released{AssignmentID: "a0", Class: v1alpha1.FailureDrained}, wantErr: ErrFenced,
		},
		"assignment of a running scan": {
			state: running, event: assigned("a2", v1alpha1.StageVision), wantErr: ErrStale,
		},
		"assignment of a stage that is not next": {
			state: newScan, event: assigned("a2", v1alpha1.StageAnswer), wantErr: ErrStale,
		},
		"assignment of a suspended scan": {
			state: func(t *testing.T) *scan { t.Helper(); s := newScan(t); s.spec.Suspend = true; return s },
			event: assigned("a1", v1alpha1.StageVision), wantErr: ErrStale,
		},
		"assignment of a finished scan": {
			state: func(t *testing.T) *scan { t.Helper(); return newScan(t).then(301, Expired{}) },
			event: assigned("a1", v1alpha1.StageVision), wantErr: ErrStale,
		},
		"reason of a running scan":   {state: running, event: Waiting{Reason: v1alpha1.ReasonWaitingForTokens}, wantErr: ErrStale},
		"rejection of a running one": {state: running, event: Rejected{Reason: v1alpha1.ReasonUnsupportedModel}, wantErr: ErrStale},
		"second deadline": {
			state: func(t *testing.T) *scan { t.Helper(); return newScan(t).then(301, Expired{}) }, event: Expired{}, wantErr: ErrStale,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := tc.state(t)
			before := s.status.DeepCopy()
			changed, err := s.try(400, tc.event)
			if changed || !errors.Is(err, tc.wantErr) {
				t.Errorf("changed %t, error %v; want %v", changed, err, tc.wantErr)
			}
			if diff := cmp.Diff(before, &s.status); diff != "" {
				t.Errorf("the status was changed (-before +after):\n%s", diff)
			}
		})
	}
}

func TestFoldWaitingChangesNothingTwice(t *testing.T) {
	w := Waiting{Reason: v1alpha1.ReasonWaitingForTokens, Message: "12 k tokens ahead"}
	s := newScan(t).then(6, w)
	if changed, err := s.try(60, w); changed || err != nil {
		t.Errorf("the same reason again: changed %t, error %v", changed, err)
	}
	if s.status.Summary.Reason != v1alpha1.ReasonWaitingForTokens || s.status.Phase != v1alpha1.ScanQueued {
		t.Errorf("reason %s, phase %s", s.status.Summary.Reason, s.status.Phase)
	}
}

func TestFoldExpiredSaysWhere(t *testing.T) {
	tests := map[string]struct {
		state       func(*testing.T) *scan
		wantMessage string
	}{
		"while waiting": {
			state: func(t *testing.T) *scan {
				t.Helper()
				return newScan(t).then(6, Waiting{Reason: v1alpha1.ReasonWaitingForTokens, Message: "no room"})
			},
			wantMessage: "stage vision was waiting: WaitingForTokens: no room",
		},
		"while running": {
			state:       func(t *testing.T) *scan { t.Helper(); return newScan(t).then(6, assigned("a1", v1alpha1.StageVision)) },
			wantMessage: "worker w1 was running stage vision",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := tc.state(t).then(300, Expired{})
			c := condition(&s.status, v1alpha1.ConditionFinished)
			if c == nil || c.Reason != v1alpha1.ReasonDeadlineExceeded || !strings.Contains(c.Message, tc.wantMessage) {
				t.Errorf("finished: %+v, want message with %q", c, tc.wantMessage)
			}
			if s.status.Phase != v1alpha1.ScanFailed {
				t.Errorf("phase = %s", s.status.Phase)
			}
		})
	}
}

// TestDeadlineIsNeverEarly: a scan has all of its time, whenever in the second of its creation it was stored.
func TestDeadlineIsNeverEarly(t *testing.T) {
	for _, seconds := range []int32{1, 300, 86_400} {
		spec := v1alpha1.ScanRequestSpec{DeadlineSeconds: seconds}
		for fraction := time.Duration(0); fraction < time.Second; fraction += 99_999_999 {
			stored := t0.Add(fraction)
			took := Deadline(spec, stored.Truncate(time.Second)).Sub(stored)
			if least := time.Duration(seconds) * time.Second; took < least || took > least+time.Second {
				t.Errorf("stored %s into the second, a scan of %d s has %s, want its time and at most a second more", fraction, seconds, took)
			}
		}
	}
}

func TestFoldAcceptedAt(t *testing.T) {
	tests := map[string]struct {
		seen time.Time
		want time.Time
	}{
		"seen within the second of creation": {seen: at(0.25), want: at(0.25)},
		"seen much later":                    {seen: at(9), want: at(0.999999)},
		"a clock that is behind":             {seen: at(-3), want: t0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			ev := assigned("a1", v1alpha1.StageVision)
			ev.AcceptedAt = tc.seen
			if got := newScan(t).then(10, ev).status.AcceptedAt; !got.Time.Equal(tc.want) {
				t.Errorf("acceptedAt = %s, want %s", got, tc.want)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	tests := map[string]struct {
		n      int32
		jitter float64
		want   time.Duration
	}{
		"first, longest":           {1, 1, time.Second},
		"first, shortest":          {1, 0, 0},
		"fourth":                   {4, 1, 8 * time.Second},
		"seventh is at the top":    {7, 1, time.Minute},
		"so is the thousandth":     {1000, 1, time.Minute},
		"zero counts as the first": {0, 1, time.Second},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Backoff(tc.n, tc.jitter); got != tc.want {
				t.Errorf("Backoff(%d, %g) = %s, want %s", tc.n, tc.jitter, got, tc.want)
			}
		})
	}
}

func TestMessagesAreCutAtCharacters(t *testing.T) {
	s := newScan(t).then(6, Waiting{Reason: v1alpha1.ReasonWaitingForTokens, Message: strings.Repeat("가", 400)})
	c := condition(&s.status, v1alpha1.ConditionAdmitted)
	if len(c.Message) > maxMessage || !strings.HasSuffix(c.Message, "가…") {
		t.Errorf("message of %d bytes ends with %q", len(c.Message), c.Message[len(c.Message)-6:])
	}
}
