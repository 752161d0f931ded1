// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package knowledge

import (
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// The taxonomy that the product promises, major by major.
var promised = map[string][]string{
	"재활용폐기물": {
		"종이", "종이팩", "무색페트병", "플라스틱류", "비닐류", "유리병", "금속류", "의류및원단", "전기전자제품", "전지", "조명제품", "발포합성수지",
	},
	"음식물류폐기물":   nil,
	"일반종량제폐기물":  nil,
	"불연성종량제폐기물": nil,
	"대형폐기물":     nil,
	"생활계유해폐기물":  nil,
	"공사장생활폐기물":  nil,
}

func TestDefaultCoversThePromisedTaxonomy(t *testing.T) {
	pack := Default()
	got := make(map[string][]string)
	for i := range pack.Majors {
		var middles []string
		for _, middle := range pack.Majors[i].Middles {
			middles = append(middles, middle.Name)
		}
		got[pack.Majors[i].Name] = middles
	}
	if diff := cmp.Diff(promised, got); diff != "" {
		t.Errorf("taxonomy (-promised +default):\n%s", diff)
	}
}

func TestDefaultHasARuleForEveryClass(t *testing.T) {
	pack := Default()
	ids := make(map[string]bool)
	for major, middles := range promised {
		if middles == nil {
			middles = []string{""}
		}
		for _, middle := range middles {
			rule, ok := pack.Rule(major, middle)
			if !ok {
				t.Errorf("no rule for %s / %s", major, middle)
				continue
			}
			ids[rule.ID] = true
			if rule.Major != major || rule.Middle != middle {
				t.Errorf("the rule for %s / %s is that of %s / %s", major, middle, rule.Major, rule.Middle)
			}
			if len(rule.Items) < 5 || len(rule.Steps) < 3 || len(rule.Exclusions) < 2 {
				t.Errorf("%s has %d items, %d steps, %d exclusions; want at least 5, 3 and 2", rule.ID, len(rule.Items), len(rule.Steps), len(rule.Exclusions))
			}
		}
	}
	if len(ids) != len(pack.Rules) {
		t.Errorf("%d rules are used for the taxonomy, the pack has %d", len(ids), len(pack.Rules))
	}
}

func TestDefaultHasACharacterForEveryRecyclable(t *testing.T) {
	pack := Default()
	for _, middle := range promised["재활용폐기물"] {
		if !slices.ContainsFunc(pack.Characters, func(c Character) bool { return slices.Contains(c.Middles, middle) }) {
			t.Errorf("no character stands for %s", middle)
		}
	}
	for major, middles := range promised {
		if got, want := pack.Recyclable(major), middles != nil; got != want {
			t.Errorf("Recyclable(%s) = %t, want %t", major, got, want)
		}
	}
}

// Every call pays for the prompts: characters/4 at admission, and the output limit's default of 800 beside it.
func TestDefaultPromptsAreShort(t *testing.T) {
	for name, prompt := range map[string]string{"vision": Default().VisionPrompt, "answer": Default().AnswerPrompt} {
		if n := utf8.RuneCountInString(prompt); n > 1200 {
			t.Errorf("the %s prompt has %d characters, more than 1200", name, n)
		}
	}
}

func TestCategories(t *testing.T) {
	categories := Default().Categories()
	if len(categories) != 18 {
		t.Fatalf("got %d categories, want 18", len(categories))
	}
	for i, category := range categories {
		if category.ID != i+1 {
			t.Errorf("category %q has id %d, want %d: ids are part of the HTTP API", category.Name, category.ID, i+1)
		}
		if category.Name == "" || category.DisplayName == "" || len(category.Instructions) == 0 {
			t.Errorf("category %d is incomplete: %+v", category.ID, category)
		}
	}
	want := Category{ID: 13, Name: "음식물류폐기물", DisplayName: "음식물 쓰레기", Instructions: []string{
		"물기를 꼭 짜고 이물질을 골라내요", "전용 봉투나 전용 수거 용기에 넣어요",
	}}
	if diff := cmp.Diff(want, categories[12]); diff != "" {
		t.Errorf("category 13 (-want +got):\n%s", diff)
	}
}

func TestContains(t *testing.T) {
	tests := map[string]struct {
		major, middle string
		want          bool
	}{
		"a kind":                       {"재활용폐기물", "종이", true},
		"a class without kinds":        {"대형폐기물", "", true},
		"a class that needs a kind":    {"재활용폐기물", "", false},
		"a kind of another class":      {"대형폐기물", "종이", false},
		"an unknown kind":              {"재활용폐기물", "나무", false},
		"an unknown class":             {"우주폐기물", "", false},
		"the answer for none of these": {"분류불가", "", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Default().Contains(tc.major, tc.middle); got != tc.want {
				t.Errorf("Contains(%q, %q) = %t, want %t", tc.major, tc.middle, got, tc.want)
			}
		})
	}
}

func TestTextsFollowTheUsersLanguage(t *testing.T) {
	tests := map[string]struct {
		userInput string
		want      string
	}{
		"nothing written":      {"", "'캔' 분리배출을 제대로 준비해서 만났어요."},
		"Korean":               {"이거 어떻게 버려요?", "'캔' 분리배출을 제대로 준비해서 만났어요."},
		"English":              {"How do I recycle this?", "You met because your 캔 is ready for recycling."},
		"English with Korean":  {"What does 종량제 mean?", "'캔' 분리배출을 제대로 준비해서 만났어요."},
		"a language not there": {"これはどう捨てますか", "'캔' 분리배출을 제대로 준비해서 만났어요."},
		"digits only":          {"123", "'캔' 분리배출을 제대로 준비해서 만났어요."},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Default().RewardReason(tc.userInput, "금속류", "캔"); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestLanguageOf(t *testing.T) {
	tests := map[string]string{"": "", "…?!": "", "hello": "en", "안녕 hello": "ko", "塵": "zh", "塵はどこ": "ja", "café": "en"}
	for text, want := range tests {
		if got := languageOf(text); got != want {
			t.Errorf("languageOf(%q) = %q, want %q", text, got, want)
		}
	}
}

// A kind may only be combined with its own class, and there is a way to say that it is none of them.
func TestVisionSchema(t *testing.T) {
	pack := Default()
	branches := pack.VisionSchema()["properties"].(map[string]any)["classification"].(map[string]any)["anyOf"].([]any)
	combinations := make(map[string]bool)
	for _, branch := range branches {
		properties := branch.(map[string]any)["properties"].(map[string]any)
		middles := []any{""}
		if middle, ok := properties["middle_category"]; ok {
			middles = middle.(map[string]any)["enum"].([]any)
		}
		for _, major := range properties["major_category"].(map[string]any)["enum"].([]any) {
			for _, middle := range middles {
				if major == pack.Unclassifiable {
					combinations[pack.Unclassifiable] = true
					continue
				}
				if !pack.Contains(major.(string), middle.(string)) {
					t.Errorf("the schema allows %v / %v, which the taxonomy does not have", major, middle)
				}
				combinations[major.(string)+"/"+middle.(string)] = true
			}
		}
	}
	if want := len(pack.Categories()) + 1; len(combinations) != want {
		t.Errorf("the schema allows %d classes, want %d: every category and %q", len(combinations), want, pack.Unclassifiable)
	}
}
