// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
)

// photoScan is a scan of a bottle that nothing is known of yet.
func photoScan() Scan {
	return Scan{
		ID:   "uid-1",
		Spec: v1alpha1.ScanRequestSpec{ImageURL: "https://images.example/1.jpg", UserInput: "이거 어떻게 버려요?"},
		Assignment: v1alpha1.Assignment{
			ID: "assignment-1", Stage: v1alpha1.StageVision, Budget: "main", Model: "gpt-4o", MaxOutputTokens: 300,
			ImageDetail: v1alpha1.ImageDetailHigh,
		},
	}
}

// classifiedScan is the same scan after vision and rule.
func classifiedScan() Scan {
	scan := photoScan()
	scan.Result = v1alpha1.ScanResult{
		Classification: &v1alpha1.Classification{MajorCategory: "재활용폐기물", MiddleCategory: "무색페트병", MinorCategory: "생수병"},
		SituationTags:  []string{"라벨 붙음", "뚜껑 있음"},
		DisposalRules: &v1alpha1.DisposalRules{
			ID: "clear-pet", Title: "무색 페트병", Steps: []string{"비운다.", "라벨을 뗀다.", "누른다."}, Exclusions: []string{"유색 페트병"},
		},
	}
	scan.Assignment.Stage = v1alpha1.StageAnswer
	return scan
}

func TestStageCallVision(t *testing.T) {
	pack, scan := knowledge.Default(), photoScan()
	got, ok := StageCall(pack, scan)
	if !ok {
		t.Fatal("vision sends no call")
	}
	want := Call{
		API: Responses, Budget: "main", Model: "gpt-4o", Instructions: pack.VisionPrompt, Text: "User's note: 이거 어떻게 버려요?",
		ImageURL: "https://images.example/1.jpg", ImageDetail: v1alpha1.ImageDetailHigh, SchemaName: "classification", Schema: pack.VisionSchema(),
		MaxOutputTokens: 300, RequestID: "uid-1-vision", CacheKey: "vision-" + pack.Version,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("call (-want +got):\n%s", diff)
	}

	scan.Assignment.ImageDetail, scan.Spec.UserInput, scan.Assignment.Model = "", strings.Repeat("가", 4000), "gpt-5-mini"
	got, _ = StageCall(pack, scan)
	if got.ImageDetail != v1alpha1.ImageDetailLow {
		t.Errorf("without a detail in the assignment, the call's is %q; want low", got.ImageDetail)
	}
	if n := utf8.RuneCountInString(got.Text); n > 250 {
		t.Errorf("a long question makes a note of %d characters", n)
	}
	if got.ReasoningEffort != "minimal" {
		t.Errorf("the effort of gpt-5-mini is %q, want minimal", got.ReasoningEffort)
	}

	scan.Spec.UserInput = " \n"
	if got, _ = StageCall(pack, scan); got.Text != "" {
		t.Errorf("without a question, the note is %q", got.Text)
	}
}

func TestStageCallAnswer(t *testing.T) {
	pack, scan := knowledge.Default(), classifiedScan()
	got, ok := StageCall(pack, scan)
	if !ok {
		t.Fatal("answer sends no call")
	}
	want := Call{
		API: ChatCompletions, Budget: "main", Model: "gpt-4o", Instructions: pack.AnswerPrompt,
		Text: "Rule: 무색 페트병\nSteps:\n1. 비운다.\n2. 라벨을 뗀다.\n3. 누른다.\nNot covered:\n- 유색 페트병\n" +
			"Photo: 재활용폐기물 / 무색페트병 / 생수병\nState: 라벨 붙음, 뚜껑 있음\nQuestion: 이거 어떻게 버려요?",
		SchemaName: "advice", Schema: adviceSchema, MaxOutputTokens: 300, RequestID: "uid-1-answer",
		CacheKey: "answer-" + pack.Version + "-clear-pet",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("call (-want +got):\n%s", diff)
	}

	scan.Spec.UserInput, scan.Result.SituationTags = "", nil
	scan.Result.Classification = &v1alpha1.Classification{MajorCategory: "대형폐기물"}
	got, _ = StageCall(pack, scan)
	if want := "- 유색 페트병\nPhoto: 대형폐기물"; !strings.HasSuffix(got.Text, want) {
		t.Errorf("the bare text ends with %q, want %q", got.Text[strings.LastIndex(got.Text, "- "):], want)
	}
}

func TestStageCallSendsNothingWithoutInput(t *testing.T) {
	tests := map[string]func(*Scan){
		"rule":                         func(s *Scan) { s.Assignment.Stage = v1alpha1.StageRule },
		"reward":                       func(s *Scan) { s.Assignment.Stage = v1alpha1.StageReward },
		"a stage that does not exist":  func(s *Scan) { s.Assignment.Stage = "dance" },
		"vision without an image":      func(s *Scan) { s.Assignment.Stage, s.Spec.ImageURL = v1alpha1.StageVision, "" },
		"answer without a rule":        func(s *Scan) { s.Result.DisposalRules = nil },
		"answer without a class":       func(s *Scan) { s.Result.Classification = nil },
		"answer without anything yet":  func(s *Scan) { s.Result = v1alpha1.ScanResult{} },
		"no assignment, empty request": func(s *Scan) { *s = Scan{} },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			scan := classifiedScan()
			change(&scan)
			if call, ok := StageCall(knowledge.Default(), scan); ok {
				t.Errorf("sends %+v", call)
			}
		})
	}
}

// Cache keys have at most 64 characters.
func TestCacheKeysFit(t *testing.T) {
	pack, scan := knowledge.Default(), classifiedScan()
	for _, rule := range pack.Rules {
		scan.Result.DisposalRules.ID = rule.ID
		if call, _ := StageCall(pack, scan); len(call.CacheKey) > 64 {
			t.Errorf("the cache key %q has %d characters", call.CacheKey, len(call.CacheKey))
		}
	}
}

func TestParseVision(t *testing.T) {
	tests := map[string]struct {
		text        string
		want        *v1alpha1.Classification
		wantTags    []string
		wantClass   v1alpha1.FailureClass
		wantMessage string
	}{
		"a kind": {
			text:     `{"classification":{"major_category":"재활용폐기물","middle_category":"종이","minor_category":" 신문지 "},"situation_tags":["젖음"]}`,
			want:     &v1alpha1.Classification{MajorCategory: "재활용폐기물", MiddleCategory: "종이", MinorCategory: "신문지"},
			wantTags: []string{"젖음"},
		},
		"a class without kinds": {
			text: `{"classification":{"major_category":"대형폐기물","minor_category":"소파"},"situation_tags":[]}`,
			want: &v1alpha1.Classification{MajorCategory: "대형폐기물", MinorCategory: "소파"},
		},
		"tags that are unknown or repeated": {
			text:     `{"classification":{"major_category":"대형폐기물"},"situation_tags":["젖음","마법","젖음","깨짐"]}`,
			want:     &v1alpha1.Classification{MajorCategory: "대형폐기물"},
			wantTags: []string{"젖음", "깨짐"},
		},
		"a name that is too long": {
			text: `{"classification":{"major_category":"대형폐기물","minor_category":"` + strings.Repeat("긴", 300) + `"}}`,
			want: &v1alpha1.Classification{MajorCategory: "대형폐기물", MinorCategory: strings.Repeat("긴", 256)},
		},
		"unexpected fields": {
			text: `{"classification":{"major_category":"대형폐기물","confidence":0.9},"reasoning":"big"}`,
			want: &v1alpha1.Classification{MajorCategory: "대형폐기물"},
		},
		"none of the classes": {
			text:        `{"classification":{"major_category":"분류불가","minor_category":"고양이"},"situation_tags":[]}`,
			wantClass:   v1alpha1.FailureNotClassifiable,
			wantMessage: "the photo shows nothing that the knowledge pack has a class for; take a photo of the thing itself, near and in good light",
		},
		"a class outside the taxonomy": {
			text:      `{"classification":{"major_category":"우주쓰레기","middle_category":"위성"}}`,
			wantClass: v1alpha1.FailureNotClassifiable,
			wantMessage: `the model's class "우주쓰레기 / 위성" is outside the taxonomy of the knowledge pack; ` +
				`use a model that honors strict JSON schemas, or add the class to taxonomy.yaml`,
		},
		"a kind of another class": {
			text:      `{"classification":{"major_category":"대형폐기물","middle_category":"종이"}}`,
			wantClass: v1alpha1.FailureNotClassifiable,
		},
		"a class without the kind it needs": {
			text:      `{"classification":{"major_category":"재활용폐기물"}}`,
			wantClass: v1alpha1.FailureNotClassifiable,
		},
		"no class":         {text: `{"situation_tags":[]}`, wantClass: v1alpha1.FailureInvalidOutput},
		"an empty class":   {text: `{"classification":{"major_category":""}}`, wantClass: v1alpha1.FailureInvalidOutput},
		"null":             {text: `null`, wantClass: v1alpha1.FailureInvalidOutput},
		"a wrong type":     {text: `{"classification":"대형폐기물"}`, wantClass: v1alpha1.FailureInvalidOutput},
		"cut off":          {text: `{"classification":{"major_ca`, wantClass: v1alpha1.FailureInvalidOutput},
		"text around JSON": {text: "Sure! {}", wantClass: v1alpha1.FailureInvalidOutput},
		"two answers":      {text: `{}{}`, wantClass: v1alpha1.FailureInvalidOutput},
		"nothing":          {text: ``, wantClass: v1alpha1.FailureInvalidOutput},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, tags, failure := parseVision(knowledge.Default(), tc.text)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("class (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.wantTags, tags); diff != "" {
				t.Errorf("tags (-want +got):\n%s", diff)
			}
			checkFailure(t, failure, tc.wantClass, tc.wantMessage)
		})
	}
}

// checkFailure compares a failure's class, and its message where one is given.
func checkFailure(t *testing.T, failure *pipeline.Failure, class v1alpha1.FailureClass, message string) {
	t.Helper()
	switch {
	case failure == nil && class == "":
	case failure == nil:
		t.Errorf("no failure, want %s", class)
	case failure.Class != class:
		t.Errorf("got %v, want %q", failure, class)
	case failure.Message == "" || message != "" && failure.Message != message:
		t.Errorf("message\n got %s\nwant %s", failure.Message, message)
	}
}

func TestParseAnswer(t *testing.T) {
	many := `["` + strings.Repeat(`한 걸음","`, 19) + `끝"]`
	tests := map[string]struct {
		text      string
		want      *v1alpha1.Answer
		wantClass v1alpha1.FailureClass
	}{
		"complete": {
			text: `{"disposal_steps":["비운다","누른다"],"insufficiencies":["라벨"],"user_answer":"이렇게 하세요."}`,
			want: &v1alpha1.Answer{DisposalSteps: []string{"비운다", "누른다"}, Insufficiencies: []string{"라벨"}, UserAnswer: "이렇게 하세요."},
		},
		"empty entries": {
			text: `{"disposal_steps":["", "  ", "누른다"],"insufficiencies":[],"user_answer":"네."}`,
			want: &v1alpha1.Answer{DisposalSteps: []string{"누른다"}, UserAnswer: "네."},
		},
		"too many steps": {
			text: `{"disposal_steps":` + many + `,"insufficiencies":[],"user_answer":"네."}`,
			want: &v1alpha1.Answer{DisposalSteps: strings.Split(strings.TrimSuffix(strings.Repeat("한 걸음,", 12), ","), ","), UserAnswer: "네."},
		},
		"too long a text": {
			text: `{"disposal_steps":["` + strings.Repeat("길", 600) + `"],"insufficiencies":[],"user_answer":"` + strings.Repeat("길", 2500) + `"}`,
			want: &v1alpha1.Answer{DisposalSteps: []string{strings.Repeat("길", 512)}, UserAnswer: strings.Repeat("길", 2000)},
		},
		"half a surrogate pair": {
			text: `{"disposal_steps":[],"insufficiencies":[],"user_answer":"\ud83d!"}`,
			want: &v1alpha1.Answer{UserAnswer: "\uFFFD!"},
		},
		"no text for the user": {text: `{"disposal_steps":["비운다"],"insufficiencies":[],"user_answer":" "}`, wantClass: v1alpha1.FailureInvalidOutput},
		"wrong types":          {text: `{"disposal_steps":"비운다","user_answer":"네."}`, wantClass: v1alpha1.FailureInvalidOutput},
		"cut off":              {text: `{"disposal_steps":["비`, wantClass: v1alpha1.FailureInvalidOutput},
		"null":                 {text: `null`, wantClass: v1alpha1.FailureInvalidOutput},
		"nothing":              {text: ``, wantClass: v1alpha1.FailureInvalidOutput},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, failure := parseAnswer(tc.text)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			checkFailure(t, failure, tc.wantClass, "")
		})
	}
}

func TestMatchReward(t *testing.T) {
	tests := map[string]struct {
		change      func(*v1alpha1.ScanResult)
		want        string // the character's name
		wantMessage string
		wantClass   v1alpha1.FailureClass
	}{
		"by kind":    {want: "투명이슬"},
		"by keyword": {change: func(r *v1alpha1.ScanResult) { r.Classification.MinorCategory = "샴푸 통" }, want: "거품펌퍼"},
		"the longest keyword": {
			change: func(r *v1alpha1.ScanResult) { r.Classification.MinorCategory = "골판지 위의 캔" }, want: "네모깡",
		},
		"no name for the thing": {change: func(r *v1alpha1.ScanResult) { r.Classification.MinorCategory = "" }, want: "투명이슬"},
		"not ready yet": {
			change:      func(r *v1alpha1.ScanResult) { r.Answer.Insufficiencies = []string{"라벨을 떼세요"} },
			wantMessage: "the thing is not ready for disposal yet",
		},
		"not recyclable": {
			change:      func(r *v1alpha1.ScanResult) { r.Classification.MajorCategory = "대형폐기물" },
			wantMessage: "rewards are for recyclables",
		},
		"no rule": {
			change: func(r *v1alpha1.ScanResult) { r.DisposalRules = nil }, wantMessage: "rewards need a disposal rule",
		},
		"no match": {
			change:      func(r *v1alpha1.ScanResult) { r.Classification.MiddleCategory = "새로운것" },
			wantMessage: "no character of the catalog matches",
		},
		"no answer yet": {change: func(r *v1alpha1.ScanResult) { r.Answer = nil }, wantClass: v1alpha1.FailureInternal},
		"no class yet":  {change: func(r *v1alpha1.ScanResult) { r.Classification = nil }, wantClass: v1alpha1.FailureInternal},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			scan := classifiedScan()
			scan.Result.Answer = &v1alpha1.Answer{UserAnswer: "네."}
			if tc.change != nil {
				tc.change(&scan.Result)
			}
			got := matchReward(knowledge.Default(), scan)
			checkFailure(t, got.Failure, tc.wantClass, "")
			switch reward := got.Result.Reward; {
			case tc.wantClass != "":
			case tc.want == "" && (got.State != v1alpha1.StageSkipped || reward != nil || got.Message != tc.wantMessage):
				t.Errorf("got %s, %+v, %q; want it skipped: %s", got.State, reward, got.Message, tc.wantMessage)
			case tc.want != "" && (got.State != v1alpha1.StageSucceeded || reward == nil || reward.Name != tc.want):
				t.Errorf("got %s, %+v; want %s", got.State, reward, tc.want)
			case tc.want != "" && (reward.Dialog == "" || reward.Type == "" || reward.MatchReason == ""):
				t.Errorf("the reward is incomplete: %+v", reward)
			}
		})
	}
}

func TestRewardTellsWhy(t *testing.T) {
	scan := classifiedScan()
	scan.Result.Answer = &v1alpha1.Answer{UserAnswer: "네."}
	got := matchReward(knowledge.Default(), scan).Result.Reward
	if want := "'생수병' 분리배출을 제대로 준비해서 만났어요."; got.MatchReason != want {
		t.Errorf("got %q, want %q", got.MatchReason, want)
	}
	scan.Spec.UserInput, scan.Result.Classification.MinorCategory = "How?", ""
	got = matchReward(knowledge.Default(), scan).Result.Reward
	if want := "You met because your 무색페트병 is ready for recycling."; got.MatchReason != want {
		t.Errorf("got %q, want %q", got.MatchReason, want)
	}
}

// Whatever a model writes, what is read of it fits the API's bounds.
func FuzzParseAnswers(f *testing.F) {
	for _, seed := range []string{
		`{"classification":{"major_category":"재활용폐기물","middle_category":"종이","minor_category":"신문지"},"situation_tags":["젖음"]}`,
		`{"disposal_steps":["비운다"],"insufficiencies":[],"user_answer":"네."}`,
		`{"user_answer":"\ud800\u0000"}`, `[]`, `null`, ``, `{"classification":null,"situation_tags":null}`,
	} {
		f.Add(seed)
	}
	pack := knowledge.Default()
	f.Fuzz(func(t *testing.T, text string) {
		class, tags, failure := parseVision(pack, text)
		if (class == nil) == (failure == nil) {
			t.Errorf("class %v with failure %v", class, failure)
		}
		if class != nil && (!pack.Contains(class.MajorCategory, class.MiddleCategory) || utf8.RuneCountInString(class.MinorCategory) > maxMinorCategory) {
			t.Errorf("class %+v", class)
		}
		if len(tags) > maxSituationTags {
			t.Errorf("%d tags", len(tags))
		}
		advice, failure := parseAnswer(text)
		if (advice == nil) == (failure == nil) {
			t.Errorf("answer %v with failure %v", advice, failure)
		}
		if advice == nil {
			return
		}
		if len(advice.DisposalSteps) > maxAnswerItems || len(advice.Insufficiencies) > maxAnswerItems || utf8.RuneCountInString(advice.UserAnswer) > maxUserAnswer {
			t.Errorf("answer %+v", advice)
		}
		for _, s := range append(append([]string{advice.UserAnswer}, advice.DisposalSteps...), advice.Insufficiencies...) {
			if s == "" || !utf8.ValidString(s) {
				t.Errorf("%q cannot be stored", s)
			}
		}
	})
}
