// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package knowledge

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// A small valid pack. The tests below break it, one edit each; the wanted lines refer to these texts.
const (
	smallTaxonomy = `unclassifiable: 분류불가
situation_tags: [깨끗함, 젖음]
majors:
  - name: 재활용
    display_name: 재활용품
    recyclable: true
    middles:
      - id: 1
        name: 종이
        display_name: 종이류
        instructions: [묶어요]
      - id: 2
        name: 캔
        display_name: 캔류
        instructions: [헹궈요]
  - name: 일반
    id: 3
    display_name: 일반 쓰레기
    instructions: [담아요]
`
	smallRules = `rules:
  - id: paper
    major: 재활용
    middle: 종이
    title: 종이류
    items: [신문, 책, 공책, 상자, 전단지]
    steps:
      - 편다
      - 묶는다
      - 내놓는다
    exclusions: [영수증]
  - id: general
    major: 일반
    title: 일반 쓰레기
    items: [휴지, 칫솔, 볼펜, 기저귀, 장갑]
    steps: [고른다, 담는다, 묶는다]
    exclusions: [종이]
`
	smallRewards = `characters:
  - name: 바스락
    type: 종이
    dialog: 안녕!
    middles: [종이]
`
	smallTexts = `default_language: ko
no_rule_found:
  ko: "'{category}' 규정이 없어요."
  en: "No rule for {category}."
reward_reason:
  ko: "{item}!"
`
)

// smallPack returns the files of the small pack.
func smallPack() fstest.MapFS {
	pack := fstest.MapFS{}
	for name, text := range map[string]string{
		fileTaxonomy: smallTaxonomy, fileRules: smallRules, fileRewards: smallRewards, fileTexts: smallTexts,
		fileVision: "Classify.\n", fileAnswer: "Advise.\n",
	} {
		pack[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return pack
}

func TestLoadSmallPack(t *testing.T) {
	pack, err := Load(smallPack())
	if err != nil {
		t.Fatal(err)
	}
	rule, ok := pack.Rule("재활용", "종이")
	if !ok {
		t.Fatal("no rule for 재활용 / 종이")
	}
	want := &Rule{
		ID: "paper", Major: "재활용", Middle: "종이", Title: "종이류", Items: []string{"신문", "책", "공책", "상자", "전단지"},
		Steps: []string{"편다", "묶는다", "내놓는다"}, Exclusions: []string{"영수증"},
	}
	if diff := cmp.Diff(want, rule); diff != "" {
		t.Errorf("rule (-want +got):\n%s", diff)
	}
	if _, ok := pack.Rule("재활용", "캔"); ok {
		t.Error("found a rule for 재활용 / 캔, which has none")
	}
	if pack.VisionPrompt != "Classify." || pack.AnswerPrompt != "Advise." {
		t.Errorf("prompts are %q and %q", pack.VisionPrompt, pack.AnswerPrompt)
	}
	if got, want := pack.NoRuleFound("", "재활용 / 캔"), "'재활용 / 캔' 규정이 없어요."; got != want {
		t.Errorf("NoRuleFound = %q, want %q", got, want)
	}
	if got, want := pack.NoRuleFound("what now?", "캔"), "No rule for 캔."; got != want {
		t.Errorf("NoRuleFound = %q, want %q", got, want)
	}
}

func TestARuleForAClassIsForItsKindsToo(t *testing.T) {
	files := smallPack()
	edit(t, files, fileRules, "    middle: 종이\n", "")
	pack, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	if rule, ok := pack.Rule("재활용", "캔"); !ok || rule.ID != "paper" {
		t.Errorf("Rule(재활용, 캔) = %v, %t; want the rule of the class", rule, ok)
	}
}

func TestVersionFollowsTheContents(t *testing.T) {
	first, err := Load(smallPack())
	if err != nil {
		t.Fatal(err)
	}
	again, err := Load(smallPack())
	if err != nil {
		t.Fatal(err)
	}
	if first.Version != again.Version || len(first.Version) != versionDigits {
		t.Errorf("the same contents have the versions %q and %q", first.Version, again.Version)
	}
	files := smallPack()
	edit(t, files, fileVision, "Classify.", "Classify!")
	other, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	if other.Version == first.Version {
		t.Errorf("other contents have the same version %q", other.Version)
	}
}

// A ConfigMap is mounted as a folder of links into a hidden folder, next to which other files may lie.
func TestLoadFromAMountedConfigMap(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "..2026_01_02")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..2026_01_02", filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	for name, file := range smallPack() {
		if err := os.WriteFile(filepath.Join(data, name), file.Data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "README.md"), []byte("about this pack"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(os.DirFS(dir)); err != nil {
		t.Error(err)
	}
}

func TestLoadReportsFaults(t *testing.T) {
	tests := map[string]struct {
		file, old, new string
		want           []string // the whole error, one problem per line
	}{
		"YAML syntax": {
			fileRules, "items: [신문, 책", "items: [신문, 책: [",
			[]string{`rules.yaml:5: not YAML: did not find expected node content; fix: correct the syntax at or next to this line`},
		},
		"empty file": {
			fileRules, smallRules, "# nothing yet\n",
			[]string{`rules.yaml: the file is empty; fix: fill it as README.md describes, or start from the default pack`},
		},
		"two documents": {
			fileRewards, smallRewards, smallRewards + "---\ncharacters: []\n",
			[]string{`rewards.yaml:1: the file has more than one YAML document; fix: keep one: remove the line --- and what follows it`},
		},
		"not UTF-8": {
			fileTexts, "{item}!", "\xff{item}!",
			[]string{`texts.yaml:6: is not UTF-8; fix: save the file as UTF-8`},
		},
		"misspelled field": {
			fileRules, "    title: 종이류", "    titel: 종이류",
			[]string{
				`rules.yaml:2: a rule has no field "title"; fix: add it`,
				`rules.yaml:5: unknown field "titel" in a rule; fix: use one of id, major, middle, title, items, steps, exclusions`,
			},
		},
		"repeated field": {
			fileRules, "    title: 종이류\n", "    title: 종이류\n    title: 종이\n",
			[]string{`rules.yaml:6: the field "title" is there twice in a rule; fix: keep one of them`},
		},
		"misspelled top field": {
			fileRewards, "characters:", "character:",
			[]string{
				`rewards.yaml:1: unknown field "character" in the file; fix: use one of characters`,
				`rewards.yaml:1: the file has no field "characters"; fix: add it`,
			},
		},
		"list instead of fields": {
			fileTexts, smallTexts, "- ko\n",
			[]string{`texts.yaml:1: the file must have fields; fix: write default_language, no_rule_found, reward_reason as name: value`},
		},
		"text instead of list": {
			fileRules, "exclusions: [영수증]", "exclusions: 영수증",
			[]string{`rules.yaml:11: exclusions must be a list; fix: write one entry per line, each after a dash`},
		},
		"fields instead of text": {
			fileRules, "      - 편다", "      - 편다: 잘",
			[]string{`rules.yaml:8: an entry of steps must be a text; fix: write a text; quote it if it holds one of : # { [`},
		},
		"no text": {
			fileRules, "    title: 종이류", "    title:",
			[]string{`rules.yaml:5: title must be a text; fix: write a text; quote it if it holds one of : # { [`},
		},
		"empty text": {
			fileRules, "    title: 종이류", `    title: " "`,
			[]string{`rules.yaml:5: title is empty; fix: write a text`},
		},
		"too few items": {
			fileRules, "items: [신문, 책, ", "items: [",
			[]string{`rules.yaml:6: items has 3 entries, which is not 5 to 64; fix: add or remove entries`},
		},
		"too few steps": {
			fileRules, "      - 편다\n", "",
			[]string{`rules.yaml:8: steps has 2 entries, which is not 3 to 12; fix: add or remove entries`},
		},
		"no exclusions": {
			fileRules, "exclusions: [영수증]", "exclusions: []",
			[]string{`rules.yaml:11: exclusions has 0 entries, which is not 1 to 12; fix: add or remove entries`},
		},
		"too long a step": {
			fileRules, "      - 묶는다", "      - " + strings.Repeat("묶", 513),
			[]string{`rules.yaml:9: an entry of steps has 513 characters, more than 512; fix: shorten it`},
		},
		"repeated item": {
			fileRules, "items: [신문, 책,", "items: [신문, 신문, 책,",
			[]string{`rules.yaml:6: "신문" is in items twice; fix: keep one of them`},
		},
		"rule id": {
			fileRules, "id: paper", "id: Paper_1",
			[]string{`rules.yaml:2: the id "Paper_1" is not made of lower-case letters, digits and single dashes; fix: rename it, e.g. recyclable-paper`},
		},
		"repeated rule id": {
			fileRules, "id: general", "id: paper",
			[]string{`rules.yaml:12: the id "paper" is there twice; fix: give each rule an id of its own`},
		},
		"rule for an unknown major": {
			fileRules, "major: 일반", "major: 일빈",
			[]string{`rules.yaml:13: the taxonomy has no major "일빈"; fix: use one of 재활용, 일반`},
		},
		"rule for an unknown middle": {
			fileRules, "middle: 종이", "middle: 종이팩",
			[]string{`rules.yaml:4: the major "재활용" has no middle "종이팩"; fix: use one of 종이, 캔`},
		},
		"rule for a middle of a major without": {
			fileRules, "    major: 일반\n", "    major: 일반\n    middle: 종이\n",
			[]string{`rules.yaml:14: the major "일반" has no middle "종이"; fix: remove the field: this major has no middles`},
		},
		"two rules for a class": {
			fileRules, "    middle: 종이\n", "    middle: 종이\n    title: 종이\n    items: [가, 나, 다, 라, 마]\n    steps: [가, 나, 다]\n    exclusions: [가]\n" +
				"  - id: paper-2\n    major: 재활용\n    middle: 종이\n",
			[]string{`rules.yaml:9: there are two rules for "재활용 / 종이"; fix: merge them`},
		},
		"repeated major": {
			fileTaxonomy, "name: 일반\n", "name: 재활용\n",
			[]string{
				`rules.yaml:13: the taxonomy has no major "일반"; fix: use one of 재활용`,
				`taxonomy.yaml:16: the major "재활용" is there twice; fix: give each major, and unclassifiable, a name of its own`,
			},
		},
		"repeated middle": {
			fileTaxonomy, "name: 캔", "name: 종이",
			[]string{`taxonomy.yaml:12: the middle "종이" is in "재활용" twice; fix: give each middle a name of its own`},
		},
		"repeated category id": {
			fileTaxonomy, "id: 3", "id: 2",
			[]string{`taxonomy.yaml:17: the id 2 of "일반" is that of "캔"; fix: choose a number that is not taken`},
		},
		"category id that is no number": {
			fileTaxonomy, "id: 3", "id: three",
			[]string{`taxonomy.yaml:17: id must be a whole number of at least 1; fix: write a number`},
		},
		"flag that is none": {
			fileTaxonomy, "recyclable: true", "recyclable: perhaps",
			[]string{
				`rewards.yaml:5: no recyclable major has a middle "종이"; fix: mark the major it belongs to as recyclable: true in taxonomy.yaml`,
				`taxonomy.yaml:6: recyclable must be true or false; fix: write true or false`,
			},
		},
		"major with neither id nor middles": {
			fileTaxonomy, "    id: 3\n", "",
			[]string{`taxonomy.yaml:16: the major "일반" has neither middles nor the field "id"; fix: add one of them`},
		},
		"major with instructions and middles": {
			fileTaxonomy, "    recyclable: true\n", "    recyclable: true\n    instructions: [모아요]\n",
			[]string{`taxonomy.yaml:7: the major "재활용" has middles, which have the field "instructions" instead; fix: remove it here`},
		},
		"unclassifiable that is a major": {
			fileTaxonomy, "unclassifiable: 분류불가", "unclassifiable: 일반",
			[]string{
				`rules.yaml:13: the taxonomy has no major "일반"; fix: use one of 재활용`,
				`taxonomy.yaml:16: the major "일반" is there twice; fix: give each major, and unclassifiable, a name of its own`,
			},
		},
		"no situation tags": {
			fileTaxonomy, "[깨끗함, 젖음]", "[]",
			[]string{`taxonomy.yaml:2: situation_tags has 0 entries, which is not 1 to 64; fix: add or remove entries`},
		},
		"repeated character": {
			fileRewards, smallRewards, smallRewards + strings.TrimPrefix(smallRewards, "characters:\n"),
			[]string{`rewards.yaml:6: the character "바스락" is there twice; fix: give each character a name of its own`},
		},
		"character that nothing matches": {
			fileRewards, "    middles: [종이]\n", "",
			[]string{`rewards.yaml:2: nothing matches the character "바스락"; fix: add middles or keywords`},
		},
		"character for a class that earns none": {
			fileRewards, "[종이]", "[종이, 일반]",
			[]string{`rewards.yaml:5: no recyclable major has a middle "일반"; fix: use one of 종이, 캔`},
		},
		"unknown placeholder": {
			fileTexts, "{item}!", "{name}!",
			[]string{`texts.yaml:6: reward_reason has no placeholder {name}; fix: use one of {category}, {item}`},
		},
		"text in no language": {
			fileTexts, "  en:", "  English:",
			[]string{`texts.yaml:4: "English" in no_rule_found is no language; fix: use a two-letter code such as ko or en`},
		},
		"text missing in the default language": {
			fileTexts, "default_language: ko", "default_language: en",
			[]string{`texts.yaml:6: reward_reason has no text in the default language "en"; fix: add one, or change default_language`},
		},
		"language twice": {
			fileTexts, "  en:", "  ko:",
			[]string{`texts.yaml:4: the language "ko" is in no_rule_found twice; fix: keep one of them`},
		},
		"no texts": {
			fileTexts, "reward_reason:\n  ko: \"{item}!\"\n", "reward_reason: {}\n",
			[]string{`texts.yaml:5: reward_reason must have at least one entry; fix: write entries as name: value`},
		},
		"empty prompt": {
			fileVision, "Classify.", " ",
			[]string{`vision.txt:1: the prompt is empty; fix: write instructions for the model, or copy those of the default pack`},
		},
		"too long a prompt": {
			fileAnswer, "Advise.", strings.Repeat("가", 8001),
			[]string{`answer.txt:1: the prompt has 8001 characters, more than 8000; fix: shorten it; every call pays for it`},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			files := smallPack()
			edit(t, files, tc.file, tc.old, tc.new)
			pack, err := Load(files)
			if err == nil {
				t.Fatal("the pack was accepted")
			}
			if pack != nil {
				t.Error("a pack was returned with the error")
			}
			if diff := cmp.Diff(tc.want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if _, ok := errors.AsType[*Problem](err); !ok {
				t.Errorf("%T holds no *Problem", err)
			}
		})
	}
}

func TestLoadReportsMissingAndMisnamedFiles(t *testing.T) {
	files := smallPack()
	files["rule.yaml"] = files[fileRules]
	delete(files, fileRules)
	delete(files, fileVision)
	_, err := Load(files)
	if err == nil {
		t.Fatal("the pack was accepted")
	}
	const all = "answer.txt, rewards.yaml, rules.yaml, taxonomy.yaml, texts.yaml, vision.txt"
	want := []string{
		"rule.yaml: is no file of a pack; fix: rename it to one of " + all + ", or remove it",
		"rules.yaml: cannot be read: open rules.yaml: file does not exist; fix: a pack needs all of " + all + "; copy the missing ones from the default pack",
		"vision.txt: cannot be read: open vision.txt: file does not exist; fix: a pack needs all of " + all + "; copy the missing ones from the default pack",
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

func TestLoadRefusesAHugeFile(t *testing.T) {
	files := smallPack()
	files[fileRules] = &fstest.MapFile{Data: make([]byte, maxFileBytes+1)}
	_, err := Load(files)
	const want = "rules.yaml: has 1048577 bytes, more than 1048576; fix: shorten it"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Whatever a pack's YAML holds, Load returns.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{smallRules, "", "# c", "a: &a [*a]", "rules: {}", "rules: [{}, [], x]", "- &x {<<: *x}", "? {a: b}\n: c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range []string{fileTaxonomy, fileRules, fileRewards, fileTexts} {
			files := smallPack()
			files[name] = &fstest.MapFile{Data: []byte(text)}
			pack, err := Load(files)
			if (pack == nil) == (err == nil) {
				t.Errorf("%s: pack %v with error %v", name, pack, err)
			}
		}
	})
}

// edit replaces text in a file of a pack. The text must be there.
func edit(t *testing.T, files fstest.MapFS, name, old, replacement string) {
	t.Helper()
	data, err := fs.ReadFile(files, name)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), old) {
		t.Fatalf("%s does not contain %q", name, old)
	}
	files[name] = &fstest.MapFile{Data: []byte(strings.Replace(string(data), old, replacement, 1))}
}
