// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
)

// TestDefaultClassesFitTheKnowledgePack checks that, asked with the pipeline's
// own schema, the simulation only sees classes that the pipeline knows, and
// the one that an image's URL names.
func TestDefaultClassesFitTheKnowledgePack(t *testing.T) {
	pack := knowledge.Default()
	raw, err := json.Marshal(pack.VisionSchema())
	if err != nil {
		t.Fatal(err)
	}
	config := Config{}.withDefaults()
	classify := func(imageURL string) string {
		t.Helper()
		c := mustParse(t, endpointResponses, fmt.Sprintf(
			`{"model":"gpt-5.4-mini","input":[{"role":"user","content":[{"type":"input_image","image_url":%q}]}],`+
				`"text":{"format":{"type":"json_schema","name":"c","strict":true,"schema":%s}}}`, imageURL, raw))
		text := generateAnswer(c, &config, 0)
		satisfies(t, string(raw), text)
		var answer struct {
			Classification struct {
				Major  string `json:"major_category"`
				Middle string `json:"middle_category"`
			} `json:"classification"`
		}
		if err := json.Unmarshal([]byte(text), &answer); err != nil {
			t.Fatal(err)
		}
		if got := answer.Classification; !pack.Contains(got.Major, got.Middle) {
			t.Errorf("%s shows %+v, which is not in the pack", imageURL, got)
		}
		return strings.TrimSuffix(answer.Classification.Major+"/"+answer.Classification.Middle, "/")
	}
	for _, class := range config.Classes {
		if got := classify("https://x.test/a.jpg?class=" + url.QueryEscape(class)); got != class {
			t.Errorf("an image of %s shows %s", class, got)
		}
	}
	for i := range 50 {
		classify(fmt.Sprintf("https://x.test/%d.jpg", i))
	}
}
