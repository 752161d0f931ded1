// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
)

// fakeCompleter answers each API with one text or error, after "callTime" on the test's clock.
type fakeCompleter struct {
	clock   *clocktesting.FakePassiveClock
	replies map[API]Reply
	errs    map[API]error
	before  func()
	calls   []Call
}

const callTime = 5 * time.Second

func (f *fakeCompleter) Complete(_ context.Context, call Call) (Reply, error) {
	f.calls = append(f.calls, call)
	f.clock.SetTime(f.clock.Now().Add(callTime))
	if f.before != nil {
		f.before()
	}
	return f.replies[call.API], f.errs[call.API]
}

const (
	visionText1 = `{"classification":{"major_category":"재활용폐기물","middle_category":"무색페트병","minor_category":"생수병"},"situation_tags":["라벨 붙음"]}`
	answerText1 = `{"disposal_steps":["비운다"],"insufficiencies":[],"user_answer":"이렇게 하세요."}`
)

var startOfTest = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

func newFakeCompleter() *fakeCompleter {
	return &fakeCompleter{
		clock: clocktesting.NewFakePassiveClock(startOfTest),
		replies: map[API]Reply{
			Responses:       {Text: visionText1, Usage: v1alpha1.TokenUsage{Input: 500, Output: 40}, RateLimit: &v1alpha1.RateLimitObservation{LimitTokens: 1000}},
			ChatCompletions: {Text: answerText1, Usage: v1alpha1.TokenUsage{Input: 300, CachedInput: 100, Output: 90}},
		},
		errs: map[API]error{},
	}
}

// brief is what the table below says of an outcome.
type brief struct {
	Stage  v1alpha1.StageName
	State  v1alpha1.StageState
	Reason string
	Class  v1alpha1.FailureClass
}

func briefOf(outcomes []pipeline.Outcome) []brief {
	var list []brief
	for _, o := range outcomes {
		b := brief{Stage: o.Stage, State: o.State, Reason: o.Reason}
		if o.Failure != nil {
			b.State, b.Class = "", o.Failure.Class
		}
		list = append(list, b)
	}
	return list
}

func TestRun(t *testing.T) {
	const (
		vision, rule, answer, reward = v1alpha1.StageVision, v1alpha1.StageRule, v1alpha1.StageAnswer, v1alpha1.StageReward
		succeeded, skipped           = v1alpha1.StageSucceeded, v1alpha1.StageSkipped
		noRule                       = v1alpha1.ReasonNoRuleFound
	)
	withRule := func(s *Scan) { s.Result = classifiedScan().Result }
	tests := map[string]struct {
		stage     v1alpha1.StageName
		change    func(*Scan)
		completer func(*fakeCompleter)
		pool      []v1alpha1.StageName
		want      []brief
		wantCalls int
	}{
		"vision goes on with rule and stops before answer, which needs tokens": {
			stage: vision, pool: []v1alpha1.StageName{vision, rule, answer, reward},
			want: []brief{{Stage: vision, State: succeeded}, {Stage: rule, State: succeeded}}, wantCalls: 1,
		},
		"vision alone, in a pool without rule": {
			stage: vision, pool: []v1alpha1.StageName{vision, answer},
			want: []brief{{Stage: vision, State: succeeded}}, wantCalls: 1,
		},
		"answer goes on with reward": {
			stage: answer, change: withRule, pool: []v1alpha1.StageName{answer, reward},
			want: []brief{{Stage: answer, State: succeeded}, {Stage: reward, State: succeeded}}, wantCalls: 1,
		},
		"answer alone": {
			stage: answer, change: withRule, pool: []v1alpha1.StageName{answer},
			want: []brief{{Stage: answer, State: succeeded}}, wantCalls: 1,
		},
		"rule alone": {
			stage: rule, change: withRule, pool: []v1alpha1.StageName{rule},
			want: []brief{{Stage: rule, State: succeeded}},
		},
		"reward alone": {
			stage: reward, change: func(s *Scan) {
				withRule(s)
				s.Result.Answer = &v1alpha1.Answer{UserAnswer: "네."}
			}, pool: []v1alpha1.StageName{reward},
			want: []brief{{Stage: reward, State: succeeded}},
		},
		"no rule ends the scan in a pool that has neither answer nor reward": {
			stage: vision, pool: []v1alpha1.StageName{vision, rule},
			completer: func(f *fakeCompleter) {
				f.replies[Responses] = Reply{Text: `{"classification":{"major_category":"없는규정"},"situation_tags":[]}`}
			},
			want: []brief{
				{Stage: vision, State: succeeded},
				{Stage: rule, State: succeeded, Reason: noRule},
				{Stage: answer, State: skipped, Reason: noRule},
				{Stage: reward, State: skipped, Reason: noRule},
			}, wantCalls: 1,
		},
		"no rule, found out by a worker of another pool": {
			stage: answer, change: func(s *Scan) {
				withRule(s)
				s.Result.DisposalRules = nil
			}, pool: []v1alpha1.StageName{answer},
			want: []brief{{Stage: answer, State: skipped, Reason: noRule}, {Stage: reward, State: skipped, Reason: noRule}},
		},
		"a failure stops it": {
			stage: vision, pool: []v1alpha1.StageName{vision, rule},
			completer: func(f *fakeCompleter) {
				f.errs[Responses] = fmt.Errorf("sending: %w", &pipeline.Failure{Class: v1alpha1.FailureRateLimited, Message: "later"})
			},
			want: []brief{{Stage: vision, Class: v1alpha1.FailureRateLimited}}, wantCalls: 1,
		},
		"an unclassified error": {
			stage: vision, pool: []v1alpha1.StageName{vision, rule},
			completer: func(f *fakeCompleter) { f.errs[Responses] = errors.New("boom") },
			want:      []brief{{Stage: vision, Class: v1alpha1.FailureInternal}}, wantCalls: 1,
		},
		"output that cannot be used": {
			stage: answer, change: withRule, pool: []v1alpha1.StageName{answer, reward},
			completer: func(f *fakeCompleter) { f.replies[ChatCompletions] = Reply{Text: "I'd say:"} },
			want:      []brief{{Stage: answer, Class: v1alpha1.FailureInvalidOutput}}, wantCalls: 1,
		},
		"a class outside the taxonomy, before answer is paid for": {
			stage: vision, pool: []v1alpha1.StageName{vision, rule},
			completer: func(f *fakeCompleter) {
				f.replies[Responses] = Reply{Text: `{"classification":{"major_category":"우주쓰레기"}}`}
			},
			want: []brief{{Stage: vision, Class: v1alpha1.FailureNotClassifiable}}, wantCalls: 1,
		},
		"a stage that does not exist": {
			stage: "dance", pool: []v1alpha1.StageName{vision, rule},
			want: []brief{{Stage: "dance", Class: v1alpha1.FailureInternal}},
		},
		"rule before vision": {
			stage: rule, pool: []v1alpha1.StageName{rule},
			want: []brief{{Stage: rule, Class: v1alpha1.FailureInternal}},
		},
		"answer before vision": {
			stage: answer, pool: []v1alpha1.StageName{answer},
			want: []brief{{Stage: answer, Class: v1alpha1.FailureInternal}},
		},
		"vision without an image": {
			stage: vision, change: func(s *Scan) { s.Spec.ImageURL = "" }, pool: []v1alpha1.StageName{vision},
			want: []brief{{Stage: vision, Class: v1alpha1.FailureInternal}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			completer := newFakeCompleter()
			if tc.completer != nil {
				tc.completer(completer)
			}
			scan := photoScan()
			scan.Assignment.Stage = tc.stage
			if tc.change != nil {
				tc.change(&scan)
			}
			runner := NewRunner(packWithAClassWithoutRule(t), completer, completer.clock)
			outcomes := runner.Run(t.Context(), scan, tc.pool)
			if diff := cmp.Diff(tc.want, briefOf(outcomes)); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
			if len(completer.calls) != tc.wantCalls {
				t.Errorf("%d calls were sent, want %d", len(completer.calls), tc.wantCalls)
			}
			for _, o := range outcomes {
				if o.Failure != nil && o.Message != o.Failure.Message {
					t.Errorf("%s: the outcome says %q, its failure %q", o.Stage, o.Message, o.Failure.Message)
				}
			}
		})
	}
}

func TestRunReportsWhatItFoundAndUsed(t *testing.T) {
	completer := newFakeCompleter()
	pack := knowledge.Default()
	runner := NewRunner(pack, completer, completer.clock)
	scan := photoScan()
	outcomes := runner.Run(t.Context(), scan, []v1alpha1.StageName{v1alpha1.StageVision, v1alpha1.StageRule})
	rule, ok := pack.Rule("재활용폐기물", "무색페트병")
	if !ok {
		t.Fatal("the default pack has no rule for 무색페트병")
	}
	want := []pipeline.Outcome{
		{
			Stage: v1alpha1.StageVision, State: v1alpha1.StageSucceeded, Message: "재활용폐기물 / 무색페트병",
			StartedAt: startOfTest, FinishedAt: startOfTest.Add(callTime),
			Usage: v1alpha1.TokenUsage{Input: 500, Output: 40}, RateLimit: &v1alpha1.RateLimitObservation{LimitTokens: 1000},
			Result: v1alpha1.ScanResult{
				Classification: &v1alpha1.Classification{MajorCategory: "재활용폐기물", MiddleCategory: "무색페트병", MinorCategory: "생수병"},
				SituationTags:  []string{"라벨 붙음"},
			},
		},
		{
			Stage: v1alpha1.StageRule, State: v1alpha1.StageSucceeded, Message: rule.Title,
			StartedAt: startOfTest.Add(callTime), FinishedAt: startOfTest.Add(callTime),
			Result: v1alpha1.ScanResult{DisposalRules: &v1alpha1.DisposalRules{ID: rule.ID, Title: rule.Title, Steps: rule.Steps, Exclusions: rule.Exclusions}},
		},
	}
	if diff := cmp.Diff(want, outcomes, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	if scan.Result.Classification != nil {
		t.Error("the caller's scan was changed")
	}
}

// A failed call may be billed, and its headers show the state of the limit.
func TestRunReportsWhatAFailedCallUsed(t *testing.T) {
	completer := newFakeCompleter()
	completer.replies[Responses] = Reply{
		Usage: v1alpha1.TokenUsage{Input: 500, Output: 300}, RateLimit: &v1alpha1.RateLimitObservation{LimitTokens: 1000, RemainingTokens: 7},
	}
	completer.errs[Responses] = &pipeline.Failure{Class: v1alpha1.FailureInvalidOutput, Code: "max_output_tokens", Message: "cut off"}
	outcome := NewRunner(knowledge.Default(), completer, completer.clock).Run(t.Context(), photoScan(), nil)[0]
	if outcome.Usage.Output != 300 || outcome.RateLimit == nil || outcome.RateLimit.RemainingTokens != 7 {
		t.Errorf("got usage %+v and headers %+v", outcome.Usage, outcome.RateLimit)
	}
	// Text that does not parse was paid for as well.
	completer.replies[Responses] = Reply{Text: "no JSON", Usage: v1alpha1.TokenUsage{Output: 20}}
	completer.errs[Responses] = nil
	outcome = NewRunner(knowledge.Default(), completer, completer.clock).Run(t.Context(), photoScan(), nil)[0]
	if outcome.Failure == nil || outcome.Usage.Output != 20 {
		t.Errorf("got failure %v with usage %+v", outcome.Failure, outcome.Usage)
	}
}

func TestTheFixedAnswer(t *testing.T) {
	for name, tc := range map[string]struct{ userInput, want string }{
		"Korean":  {"", "'없는규정'에 대한 배출 규정을 찾지 못했어요."},
		"English": {"What is this?", `No disposal rule was found for "없는규정".`},
	} {
		t.Run(name, func(t *testing.T) {
			completer := newFakeCompleter()
			completer.replies[Responses] = Reply{Text: `{"classification":{"major_category":"없는규정"},"situation_tags":[]}`}
			scan := photoScan()
			scan.Spec.UserInput = tc.userInput
			outcomes := NewRunner(packWithAClassWithoutRule(t), completer, completer.clock).
				Run(t.Context(), scan, []v1alpha1.StageName{v1alpha1.StageVision, v1alpha1.StageRule})
			answer := outcomes[2].Result.Answer
			if answer == nil || len(answer.UserAnswer) < len(tc.want) || answer.UserAnswer[:len(tc.want)] != tc.want {
				t.Errorf("got %+v, want %s…", answer, tc.want)
			}
		})
	}
}

func TestTheEndOfTheContext(t *testing.T) {
	lost := &pipeline.Failure{Class: v1alpha1.FailureWorkerLost, Message: "the Lease is gone"}
	tests := map[string]struct {
		cause error
		want  v1alpha1.FailureClass
	}{
		"the caller's own class":   {lost, v1alpha1.FailureWorkerLost},
		"a wrapped class":          {fmt.Errorf("stopping: %w", lost), v1alpha1.FailureWorkerLost},
		"a deadline":               {context.DeadlineExceeded, v1alpha1.FailureTimeout},
		"no reason given":          {nil, v1alpha1.FailureDrained},
		"a reason without a class": {errors.New("because"), v1alpha1.FailureDrained},
	}
	for name, tc := range tests {
		t.Run(name+", before the call", func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(tc.cause)
			completer := newFakeCompleter()
			outcomes := NewRunner(knowledge.Default(), completer, completer.clock).Run(ctx, photoScan(), nil)
			if diff := cmp.Diff([]brief{{Stage: v1alpha1.StageVision, Class: tc.want}}, briefOf(outcomes)); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
			if len(completer.calls) != 0 {
				t.Error("a call was sent")
			}
		})
		t.Run(name+", during the call", func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			completer := newFakeCompleter()
			completer.before = func() { cancel(tc.cause) }
			completer.errs[Responses] = context.Canceled
			outcomes := NewRunner(knowledge.Default(), completer, completer.clock).Run(ctx, photoScan(), nil)
			if diff := cmp.Diff([]brief{{Stage: v1alpha1.StageVision, Class: tc.want}}, briefOf(outcomes)); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
		})
	}
}

// An answer that arrived in time is kept even though the context has ended since.
func TestAnAnswerInTimeIsKept(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	completer := newFakeCompleter()
	completer.before = cancel
	outcomes := NewRunner(knowledge.Default(), completer, completer.clock).
		Run(ctx, photoScan(), []v1alpha1.StageName{v1alpha1.StageVision, v1alpha1.StageRule})
	want := []brief{{Stage: v1alpha1.StageVision, State: v1alpha1.StageSucceeded}, {Stage: v1alpha1.StageRule, State: v1alpha1.StageSucceeded}}
	if diff := cmp.Diff(want, briefOf(outcomes)); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

// packWithAClassWithoutRule is the default pack with one more class, which has no rule.
func packWithAClassWithoutRule(t *testing.T) *knowledge.Pack {
	t.Helper()
	files := fstest.MapFS{}
	dir := os.DirFS("../knowledge/default")
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		data, err := fs.ReadFile(dir, entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		files[entry.Name()] = &fstest.MapFile{Data: data}
	}
	taxonomy := files["taxonomy.yaml"]
	taxonomy.Data = append(taxonomy.Data, "\n  - {id: 99, name: 없는규정, display_name: 규정이 없는 것, instructions: [물어봐요]}\n"...)
	pack, err := knowledge.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	return pack
}
