// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"k8s.io/utils/clock"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/dev/openaisim"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/pipeline/pricing"
	"github.com/eco2-team/scan-operator/internal/pipeline/stages"
)

// instantly is a speed at which every latency is below the clock's resolution.
const instantly = 1e9

// simulate starts the simulated provider.
func simulate(t *testing.T, config openaisim.Config) (*openaisim.Server, string) {
	t.Helper()
	config.Speed = instantly
	sim := openaisim.New(openaisim.Options{Config: config})
	server := httptest.NewServer(sim.Handler())
	t.Cleanup(server.Close)
	return sim, server.URL + "/v1"
}

// scanOf is a scan of an image that shows a class.
func scanOf(class, userInput string) stages.Scan {
	return stages.Scan{
		Spec: v1alpha1.ScanRequestSpec{ImageURL: "https://images.example/1.jpg?class=" + url.QueryEscape(class), UserInput: userInput},
		Assignment: v1alpha1.Assignment{
			ID: "assignment-1", Stage: v1alpha1.StageVision, Budget: "main", Model: "gpt-5.4-mini", MaxOutputTokens: 800,
			ImageDetail: v1alpha1.ImageDetailLow,
		},
	}
}

// Every class of the taxonomy makes its way from the photo to the advice, and every call is charged what was
// reserved for it, or less.
func TestScansThroughTheSimulator(t *testing.T) {
	pack := knowledge.Default()
	sim, base := simulate(t, openaisim.Config{EmptyArrays: map[string]int64{"insufficiencies": 100}})
	runner := stages.NewRunner(pack, newTestClient(t, base), clock.RealClock{})
	stages := []v1alpha1.StageName{v1alpha1.StageVision, v1alpha1.StageRule, v1alpha1.StageAnswer, v1alpha1.StageReward}
	for _, rule := range pack.Rules {
		class := rule.Major
		if rule.Middle != "" {
			class += "/" + rule.Middle
		}
		t.Run(class, func(t *testing.T) {
			scan := scanOf(class, "이거 어떻게 버려요?")
			outcomes := runCharged(t, sim, runner, scan, stages)
			scan.Result.Classification, scan.Result.DisposalRules = outcomes[0].Result.Classification, outcomes[1].Result.DisposalRules
			if got := scan.Result.Classification; got.MajorCategory != rule.Major || got.MiddleCategory != rule.Middle {
				t.Fatalf("the photo was classified as %+v", got)
			}
			if got := scan.Result.DisposalRules; got == nil || got.ID != rule.ID {
				t.Fatalf("the rule is %+v, want %s", got, rule.ID)
			}
			scan.Assignment.Stage = v1alpha1.StageAnswer
			outcomes = runCharged(t, sim, runner, scan, stages)
			if answer := outcomes[0].Result.Answer; answer == nil || answer.UserAnswer == "" {
				t.Errorf("the answer is %+v", answer)
			}
			if got, want := outcomes[1].Result.Reward != nil, pack.Recyclable(rule.Major); got != want {
				t.Errorf("rewarded: %t, want %t (%s)", got, want, outcomes[1].Message)
			}
		})
	}
}

// runCharged runs two stages that must succeed, and compares the charge of the first with its reservation.
func runCharged(t *testing.T, sim *openaisim.Server, runner *stages.Runner, scan stages.Scan, names []v1alpha1.StageName) []pipeline.Outcome {
	t.Helper()
	a := scan.Assignment
	reserved := stages.EstimateStage(knowledge.Default(), scan)
	before := sim.Stats().TokensCharged
	outcomes := runner.Run(t.Context(), scan, names)
	charged := sim.Stats().TokensCharged - before
	for _, o := range outcomes {
		if o.Failure != nil {
			t.Fatalf("%s failed: %v", o.Stage, o.Failure)
		}
	}
	if len(outcomes) != 2 {
		t.Fatalf("%d stages were run, want 2", len(outcomes))
	}
	if charged < 1 || charged > reserved {
		t.Errorf("%s was charged %d tokens, reserved were %d", a.Stage, charged, reserved)
	}
	// Only the image's size is unknown when a call is priced.
	if a.Stage == v1alpha1.StageAnswer && charged != reserved {
		t.Errorf("answer was charged %d tokens, reserved were %d", charged, reserved)
	}
	if o := outcomes[0]; o.Usage.Input < 1 || o.Usage.Output < 1 || o.RateLimit == nil || o.RateLimit.LimitTokens < 1 {
		t.Errorf("%s reports usage %+v and headers %+v", a.Stage, o.Usage, o.RateLimit)
	}
	return outcomes
}

func TestAPhotoOfNothing(t *testing.T) {
	_, base := simulate(t, openaisim.Config{})
	runner := stages.NewRunner(knowledge.Default(), newTestClient(t, base), clock.RealClock{})
	outcomes := runner.Run(t.Context(), scanOf("분류불가", ""), []v1alpha1.StageName{v1alpha1.StageVision, v1alpha1.StageRule})
	if len(outcomes) != 1 || outcomes[0].Failure == nil || outcomes[0].Failure.Class != v1alpha1.FailureNotClassifiable {
		t.Errorf("got %+v, want one failure NotClassifiable", outcomes)
	}
}

// The reservation covers every model, level of detail and size of image, and is exact where the size is known.
func TestReservationsCoverTheChargeOfEveryModel(t *testing.T) {
	sim, base := simulate(t, openaisim.Config{
		TokensPerMinute: 150_000_000, RequestsPerMinute: 1_000_000,
		Models: []openaisim.Model{{Name: "gpt-7", Like: "gpt-5.6"}},
	})
	client := newTestClient(t, base)
	for _, model := range append(modelsOf(t, base), "gpt-7") {
		for _, detail := range []v1alpha1.ImageDetail{v1alpha1.ImageDetailLow, v1alpha1.ImageDetailHigh, v1alpha1.ImageDetailAuto} {
			for _, size := range [][2]int{{1, 1}, {640, 480}, {1024, 1024}, {1080, 1920}, {4000, 3000}, {9000, 9000}, {65535, 40}} {
				if model == "gpt-7" && detail == v1alpha1.ImageDetailAuto {
					continue // this stand-in looks at images in full; what an unknown model does is a guess
				}
				call := visionCall()
				call.Model, call.ImageDetail, call.ReasoningEffort = model, detail, ""
				call.ImageURL = fmt.Sprintf("https://images.example/1.jpg?w=%d&h=%d", size[0], size[1])
				sim.Reset()
				if _, err := client.Complete(t.Context(), call); err != nil {
					t.Fatalf("%s %s %v: %v", model, detail, size, err)
				}
				charged, estimate := sim.Stats().TokensCharged, stages.EstimateCall(call)
				if charged > estimate.Total() {
					t.Errorf("%s %s %v: charged %d, reserved %d", model, detail, size, charged, estimate.Total())
				}
				exact := estimate.Prompt + estimate.Output + pricing.ImageTokens(model, detail, size[0], size[1])
				// What auto means for gpt-5.4 is not published: the larger level is reserved.
				unpublished := model == "gpt-7" || detail == v1alpha1.ImageDetailAuto
				if charged != exact && (!unpublished || charged > exact) {
					t.Errorf("%s %s %v: charged %d, the formulas say %d", model, detail, size, charged, exact)
				}
			}
		}
	}
}

// modelsOf lists the provider's models.
func modelsOf(t *testing.T, base string) []string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/models", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	var models []string
	for _, m := range list.Data {
		if m.ID != "gpt-7" {
			models = append(models, m.ID)
		}
	}
	if len(models) < 15 {
		t.Fatalf("only %d models are listed: %v", len(models), models)
	}
	return models
}

func TestFaultsOfTheSimulator(t *testing.T) {
	tests := map[openaisim.FaultKind]struct {
		want                 v1alpha1.FailureClass
		visionOnly, wantWait bool
	}{
		openaisim.FaultRateLimitTokens:   {want: v1alpha1.FailureRateLimited, wantWait: true},
		openaisim.FaultRateLimitRequests: {want: v1alpha1.FailureRateLimited, wantWait: true},
		openaisim.FaultInsufficientQuota: {want: v1alpha1.FailureQuotaExhausted},
		openaisim.FaultCreditBalance:     {want: v1alpha1.FailureQuotaExhausted},
		openaisim.FaultOrganizationSpend: {want: v1alpha1.FailureQuotaExhausted},
		openaisim.FaultProjectSpend:      {want: v1alpha1.FailureQuotaExhausted},
		openaisim.FaultOrganizationUsage: {want: v1alpha1.FailureQuotaExhausted},
		openaisim.FaultFlexUnavailable:   {want: v1alpha1.FailureUnavailable},
		openaisim.FaultOverloaded:        {want: v1alpha1.FailureUnavailable},
		openaisim.FaultSlowDown:          {want: v1alpha1.FailureSlowDown},
		openaisim.FaultBadGateway:        {want: v1alpha1.FailureUnavailable},
		openaisim.FaultInvalidImage:      {want: v1alpha1.FailureInvalidRequest, visionOnly: true},
		openaisim.FaultServerError:       {want: v1alpha1.FailureUnavailable},
		openaisim.FaultReset:             {want: v1alpha1.FailureUnavailable},
		openaisim.FaultFailed:            {want: v1alpha1.FailureUnavailable, visionOnly: true},
		openaisim.FaultMalformed:         {want: v1alpha1.FailureInvalidOutput},
		openaisim.FaultTruncated:         {want: v1alpha1.FailureInvalidOutput},
		openaisim.FaultRefusal:           {want: v1alpha1.FailureRefused},
		openaisim.FaultContentFilter:     {want: v1alpha1.FailureRefused},
	}
	for kind, tc := range tests {
		t.Run(string(kind), func(t *testing.T) {
			_, base := simulate(t, openaisim.Config{Faults: []openaisim.Fault{{Kind: kind}}})
			runner := stages.NewRunner(knowledge.Default(), newTestClient(t, base), clock.RealClock{})
			vision := scanOf("재활용폐기물/종이", "")
			answer := vision
			answer.Assignment.Stage = v1alpha1.StageAnswer
			answer.Result = v1alpha1.ScanResult{
				Classification: &v1alpha1.Classification{MajorCategory: "재활용폐기물", MiddleCategory: "종이"},
				DisposalRules:  &v1alpha1.DisposalRules{ID: "recyclable-paper", Title: "종이류", Steps: []string{"묶는다"}},
			}
			scans := []stages.Scan{vision, answer}
			if tc.visionOnly {
				scans = scans[:1]
			}
			for _, scan := range scans {
				outcomes := runner.Run(t.Context(), scan, []v1alpha1.StageName{v1alpha1.StageVision, v1alpha1.StageAnswer})
				failure := outcomes[0].Failure
				if failure == nil || failure.Class != tc.want {
					t.Errorf("%s: got %v, want %s", scan.Assignment.Stage, failure, tc.want)
					continue
				}
				if tc.wantWait && failure.RetryAfter <= 0 {
					t.Errorf("%s: no time to wait in %v", scan.Assignment.Stage, failure)
				}
				checkMessage(t, failure)
			}
		})
	}
}

// A key that the provider does not know, and a call that its limit has no room for at all.
func TestRejectionsOfTheSimulator(t *testing.T) {
	_, base := simulate(t, openaisim.Config{OnlyListedKeys: true})
	if failure := failureFrom(t, newTestClient(t, base), answerCall()); failure.Class != v1alpha1.FailureUnauthorized || failure.Code != "invalid_api_key" {
		t.Errorf("a wrong key: %v", failure)
	}
	_, base = simulate(t, openaisim.Config{TokensPerMinute: 500})
	if failure := failureFrom(t, newTestClient(t, base), answerCall()); failure.Class != v1alpha1.FailureRequestTooLarge {
		t.Errorf("a call larger than the limit: %v", failure)
	}
	call := answerCall()
	call.Model = "gpt-nonsense"
	_, base = simulate(t, openaisim.Config{})
	if failure := failureFrom(t, newTestClient(t, base), call); failure.Class != v1alpha1.FailureBlocked || failure.Code != "model_not_found" {
		t.Errorf("an unknown model: %v", failure)
	}
}
