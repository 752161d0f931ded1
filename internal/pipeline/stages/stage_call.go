// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"strconv"
	"strings"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/clip"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/pipeline/pricing"
)

// visionHintRunes bounds how much of the user's input is sent to the vision stage. It helps if the photo shows
// several things ("the lid, not the bottle") and is not worth paying for beyond a sentence or two.
const visionHintRunes = 200

// answerTextBytes is the usual length of an answer's text: some 15 lines of Korean.
const answerTextBytes = 2048

// StageCall is the call that the assignment's stage sends. The scheduler prices this very call and the worker
// sends it. It is false if the stage sends none: rule and reward never do, vision not without an image, and
// answer not without a rule to ground it in.
func StageCall(pack *knowledge.Pack, scan Scan) (Call, bool) {
	a := scan.Assignment
	call := Call{
		Budget:          a.Budget,
		Model:           a.Model,
		MaxOutputTokens: a.MaxOutputTokens,
		ReasoningEffort: pricing.ReasoningEffort(a.Model),
		RequestID:       requestID(scan),
	}
	switch {
	case a.Stage == v1alpha1.StageVision && scan.Spec.ImageURL != "":
		call.API = Responses
		call.Instructions = pack.VisionPrompt
		call.Text = visionText(scan.Spec)
		call.ImageURL = scan.Spec.ImageURL
		call.ImageDetail = a.ImageDetail
		if call.ImageDetail == "" {
			call.ImageDetail = v1alpha1.ImageDetailLow
		}
		call.SchemaName, call.Schema = "classification", pack.VisionSchema()
		call.CacheKey = "vision-" + pack.Version
		return call, true
	case a.Stage == v1alpha1.StageAnswer && scan.Result.Classification != nil && scan.Result.DisposalRules != nil:
		call.API = ChatCompletions
		call.Instructions = pack.AnswerPrompt
		call.Text = answerText(scan.Spec, scan.Result)
		call.SchemaName, call.Schema = "advice", adviceSchema
		call.CacheKey = "answer-" + pack.Version + "-" + scan.Result.DisposalRules.ID
		return call, true
	default:
		return Call{}, false
	}
}

// requestID identifies the call in the provider's logs: the same scan and stage, however often they
// are tried, so that a call that was paid for twice shows.
func requestID(scan Scan) string {
	if scan.ID == "" {
		return ""
	}
	return scan.ID + "-" + string(scan.Assignment.Stage)
}

// visionText passes on what the user wrote, in short and marked as such.
func visionText(spec v1alpha1.ScanRequestSpec) string {
	hint := clip.Runes(strings.TrimSpace(spec.UserInput), visionHintRunes)
	if hint == "" {
		return ""
	}
	return "User's note: " + hint
}

// answerText lays out the rule, what vision saw, and the question, from what many scans share to what only this
// one has, so that a provider can cache the beginning.
func answerText(spec v1alpha1.ScanRequestSpec, result v1alpha1.ScanResult) string {
	rule, class := result.DisposalRules, result.Classification
	var b strings.Builder
	b.Grow(answerTextBytes)
	line := func(parts ...string) {
		for _, part := range parts {
			b.WriteString(part)
		}
		b.WriteByte('\n')
	}
	line("Rule: ", rule.Title)
	line("Steps:")
	for i, step := range rule.Steps {
		line(strconv.Itoa(i+1), ". ", step)
	}
	line("Not covered:")
	for _, exclusion := range rule.Exclusions {
		line("- ", exclusion)
	}
	if class.MinorCategory == "" {
		line("Photo: ", categoryOf(class))
	} else {
		line("Photo: ", categoryOf(class), " / ", class.MinorCategory)
	}
	if len(result.SituationTags) > 0 {
		line("State: ", strings.Join(result.SituationTags, ", "))
	}
	if question := strings.TrimSpace(spec.UserInput); question != "" {
		line("Question: ", question)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// categoryOf is a class for people: major and middle.
func categoryOf(class *v1alpha1.Classification) string {
	if class.MiddleCategory == "" {
		return class.MajorCategory
	}
	return class.MajorCategory + " / " + class.MiddleCategory
}

// clean makes a model's string fit to be stored: valid UTF-8, no space around it, at most limit characters.
func clean(text string, limit int) string {
	return strings.TrimSpace(clip.Runes(strings.TrimSpace(strings.ToValidUTF8(text, "\uFFFD")), limit))
}

// cleanList prepares a model's list for storage: no empty entries, at most count of them, each at most limit
// characters long.
func cleanList(texts []string, count, limit int) []string {
	var kept []string
	for _, text := range texts {
		if len(kept) == count {
			break
		}
		if text = clean(text, limit); text != "" {
			kept = append(kept, text)
		}
	}
	return kept
}
