// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// wasteSchema is the shape of a vision request: flat enums and tags.
const wasteSchema = `{"type":"object","additionalProperties":false,"required":["major_category","middle_category","minor_category","tags"],"properties":{
	"major_category":{"type":"string","enum":["재활용폐기물","음식물류폐기물","대형폐기물"]},
	"middle_category":{"type":["string","null"],"enum":["종이","무색페트병","유리병",null]},
	"minor_category":{"type":"string","minLength":1,"maxLength":20},
	"tags":{"type":"array","items":{"type":"string","enum":["내용물_있음","라벨_부착","뚜껑_있음"]}}}}`

// answerSchema is the shape of an answer request.
const answerSchema = `{"type":"object","additionalProperties":false,"required":["disposal_steps","insufficiencies","user_answer"],"properties":{
	"disposal_steps":{"type":"array","items":{"type":"string"},"minItems":2,"maxItems":6},
	"insufficiencies":{"type":"array","items":{"type":"string"}},
	"user_answer":{"type":"string","minLength":40}}}`

// exoticSchema uses everything else the generator knows.
const exoticSchema = `{"type":"object","additionalProperties":false,
	"required":["n","i","m","f","b","z","code","date","uuid","const","pick","tree","open"],
	"$defs":{"node":{"type":"object","additionalProperties":false,"required":["name","children"],
		"properties":{"name":{"type":"string","pattern":"^[a-z]{3,8}$"},"children":{"type":"array","items":{"$ref":"#/$defs/node"},"maxItems":2}}}},
	"properties":{
		"n":{"type":"number","minimum":-2.5,"maximum":-1},
		"i":{"type":"integer","exclusiveMinimum":3,"maximum":5},
		"m":{"type":"integer","multipleOf":7,"minimum":1},
		"f":{"type":"number","minimum":0,"maximum":1},
		"b":{"type":"boolean"},
		"z":{"type":"null"},
		"code":{"type":"string","pattern":"^(AB|CD)-\\d{2,4}[xyz]?$"},
		"date":{"type":"string","format":"date"},
		"uuid":{"type":"string","format":"uuid"},
		"const":{"type":"string","enum":["only"]},
		"pick":{"anyOf":[{"type":"string","enum":["a","b"]},{"type":"integer","minimum":10,"maximum":12}]},
		"tree":{"$ref":"#/$defs/node"},
		"open":{"type":"array","minItems":1,"items":{"type":"object","additionalProperties":false,"required":["k"],"properties":{"k":{"type":"string"}}}}}}`

func mustSchema(t *testing.T, raw string) *schema {
	t.Helper()
	s, err := compileSchema(json.RawMessage(raw), true)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// satisfies checks a document against a schema with an independent validator.
func satisfies(t *testing.T, schemaText, document string) {
	t.Helper()
	schemaJSON, err := jsonschema.UnmarshalJSON(strings.NewReader(schemaText))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("schema.json", schemaJSON); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(document))
	if err != nil {
		t.Fatalf("not JSON: %v: %s", err, document)
	}
	if err := schema.Validate(value); err != nil {
		t.Errorf("%v in %s", err, document)
	}
}

// TestGeneratedValuesSatisfyTheirSchema tries many seeds on every schema.
func TestGeneratedValuesSatisfyTheirSchema(t *testing.T) {
	for name, raw := range map[string]string{"waste": wasteSchema, "answer": answerSchema, "exotic": exoticSchema} {
		t.Run(name, func(t *testing.T) {
			c := mustParse(t, endpointResponses, `{"model":"gpt-5.4","input":"Hi"}`)
			c.format = &outputFormat{raw: json.RawMessage(raw), schema: mustSchema(t, raw)}
			for seed := range uint64(100) {
				satisfies(t, raw, generateAnswer(c, &Config{Seed: seed}, 0))
				if t.Failed() {
					return
				}
			}
		})
	}
}

func TestGeneratedKeysKeepTheSchemasOrder(t *testing.T) {
	c := mustParse(t, endpointResponses, `{"model":"gpt-5.4","input":"Hi"}`)
	c.format = &outputFormat{schema: mustSchema(t,
		`{"type":"object","additionalProperties":false,"required":["z","a","m"],"properties":{"z":{"type":"null"},"a":{"type":"null"},"m":{"type":"null"}}}`)}
	if got, want := generateAnswer(c, &Config{}, 0), `{"z":null,"a":null,"m":null}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestClassification checks that a vision answer shows what the image's URL
// says, whatever the properties are called and however they are nested.
func TestClassification(t *testing.T) {
	const (
		branches = `{"type":"object","additionalProperties":false,"required":["c"],"properties":{"c":{"anyOf":[
			{"type":"object","additionalProperties":false,"required":["big","mid"],"properties":{"big":{"type":"string","const":"재활용폐기물"},"mid":{"type":"string","enum":["종이","유리병"]}}},
			{"type":"object","additionalProperties":false,"required":["big","mid"],"properties":{"big":{"type":"string","const":"대형폐기물"},"mid":{"type":"null"}}}]}}}`
		joined = `{"type":"object","additionalProperties":false,"required":["c"],"properties":{"c":{"type":"string","enum":["대형폐기물","재활용폐기물/종이","재활용폐기물/유리병"]}}}`
	)
	for _, tc := range []struct {
		name, schema, class string
		want                map[string]any
	}{
		{"two levels", wasteSchema, "재활용폐기물/무색페트병", map[string]any{"major_category": "재활용폐기물", "middle_category": "무색페트병"}},
		{"one level: the other is null", wasteSchema, "대형폐기물", map[string]any{"major_category": "대형폐기물", "middle_category": nil}},
		{"alternatives", branches, "재활용폐기물/유리병", map[string]any{"c": map[string]any{"big": "재활용폐기물", "mid": "유리병"}}},
		{"alternatives, one level", branches, "대형폐기물", map[string]any{"c": map[string]any{"big": "대형폐기물", "mid": nil}}},
		{"joined levels", joined, "재활용폐기물/유리병", map[string]any{"c": "재활용폐기물/유리병"}},
		{"joined, one level", joined, "대형폐기물", map[string]any{"c": "대형폐기물"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := mustParse(t, endpointResponses, fmt.Sprintf(
				`{"model":"gpt-5.4","input":[{"role":"user","content":[{"type":"input_image","image_url":"https://x.test/a.jpg?class=%s"}]}]}`,
				url.QueryEscape(tc.class)))
			c.format = &outputFormat{schema: mustSchema(t, tc.schema)}
			for seed := range uint64(20) {
				var got map[string]any
				if err := json.Unmarshal([]byte(generateAnswer(c, &Config{Seed: seed}, 0)), &got); err != nil {
					t.Fatal(err)
				}
				for name := range got {
					if _, ok := tc.want[name]; !ok {
						delete(got, name)
					}
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Fatalf("seed %d (-want +got):\n%s", seed, diff)
				}
			}
		})
	}
}

// TestClassificationWithoutHint checks that an image shows the same class every
// time, that images differ, and that the levels belong together.
func TestClassificationWithoutHint(t *testing.T) {
	config := Config{}.withDefaults()
	seen := map[string]bool{}
	for i := range 50 {
		body := fmt.Sprintf(`{"model":"gpt-5.4","input":[{"role":"user","content":[{"type":"input_image","image_url":"https://x.test/%d.jpg"}]}]}`, i)
		hints := mustParse(t, endpointResponses, body).hints(config.Classes)
		if diff := cmp.Diff(hints, mustParse(t, endpointResponses, body).hints(config.Classes)); diff != "" {
			t.Errorf("image %d shows two things:\n%s", i, diff)
		}
		seen[hints[0]] = true
	}
	if len(seen) < 10 {
		t.Errorf("50 images show %d classes, want at least 10", len(seen))
	}
	bare := mustParse(t, endpointResponses, `{"model":"gpt-5.4","input":[{"role":"user","content":[{"type":"input_image","image_url":"https://x.test/a"}]}]}`)
	if got := bare.hints([]string{}); got != nil {
		t.Errorf("hints %v without classes, want none", got)
	}
}

func TestGenerationIsRepeatable(t *testing.T) {
	write := func(seed uint64, text string) string {
		c := mustParse(t, endpointResponses, `{"model":"gpt-5.4","input":"`+text+`"}`)
		c.format = &outputFormat{schema: mustSchema(t, answerSchema)}
		return generateAnswer(c, &Config{Seed: seed}, 0)
	}
	first := write(1, "how?")
	if again := write(1, "how?"); again != first {
		t.Errorf("the same seed and request gave\n%s\nand\n%s", first, again)
	}
	if other := write(2, "how?"); other == first {
		t.Error("another seed gave the same text")
	}
	if other := write(1, "why?"); other == first {
		t.Error("another request gave the same text")
	}
	if korean := write(1, "어떻게 버려요?"); !strings.Contains(korean, "요.") && !strings.Contains(korean, "니다.") {
		t.Errorf("a Korean question got %s", korean)
	}
}

// FuzzParseCall feeds arbitrary bodies to the parser and, where it accepts
// one, generates an answer: neither may panic, and what is charged is positive.
func FuzzParseCall(f *testing.F) {
	f.Add(true, []byte(`{"model":"gpt-4o","n":2,"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]}`))
	f.Add(false, []byte(`{"model":"gpt-5.4","instructions":"x","input":[{"role":"user","content":"b"}],"max_output_tokens":16}`))
	f.Add(false, []byte(`{"model":"gpt-5.4","input":"x","text":{"format":{"type":"json_schema","name":"n","strict":true,"schema":`+exoticSchema+`}}}`))
	f.Add(false, []byte(`{"model":"gpt-5.4","input":"x","text":{"format":{"type":"json_schema","name":"n","schema":`+
		`{"type":"object","properties":{"a":{"$ref":"#"},"b":{"$ref":"#"},"c":{"type":"array","minItems":99,"items":{"$ref":"#"}}}}}}}`))
	f.Add(true, []byte(`{"model":"gpt-4o","messages":[{"role":"user","content":"c"}],"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":`+answerSchema+`}}}`))
	set := newSettings(Config{}, 1, epoch)
	f.Fuzz(func(t *testing.T, chat bool, body []byte) {
		at := endpointResponses
		if chat {
			at = endpointChat
		}
		c, apiErr := parseCall(at, body, set)
		if apiErr != nil {
			return
		}
		if got := c.charge(ChargeSum); got < 1 {
			t.Errorf("charge %d, want at least one token", got)
		}
		a := newAnswer(c, &set.config, "", 0)
		if a.usage.input < 1 {
			t.Error("no input tokens")
		}
		if one := a.choices[0]; c.format != nil && one.finish == finishStop && !json.Valid([]byte(one.text)) {
			t.Errorf("not JSON: %s", one.text)
		}
	})
}
