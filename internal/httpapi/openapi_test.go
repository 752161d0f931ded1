// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/eco2-team/scan-operator/internal/httpapi/openapi"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// contract validates answers against the server's own document. Every object is closed, so that an answer with a
// field that the document does not name is found too.
type contract struct {
	document map[string]any
	compiler *jsonschema.Compiler
}

func newContract(t *testing.T, h *harness) *contract {
	t.Helper()
	body := h.call(t, http.MethodGet, openAPIPath, "").Body.Bytes()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	c := &contract{compiler: jsonschema.NewCompiler()}
	c.document, _ = document.(map[string]any)
	for _, s := range dig(c.document, "components", "schemas") {
		s.(map[string]any)["additionalProperties"] = false
	}
	c.compiler.DefaultDraft(jsonschema.Draft2020)
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource("openapi.json", document); err != nil {
		t.Fatal(err)
	}
	return c
}

func dig(document map[string]any, keys ...string) map[string]any {
	for _, key := range keys {
		document, _ = document[key].(map[string]any)
	}
	return document
}

func (c *contract) validate(t *testing.T, pointer string, body []byte) {
	t.Helper()
	s, err := c.compiler.Compile("openapi.json#" + pointer)
	if err != nil {
		t.Fatalf("compile %s: %v", pointer, err)
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	if err := s.Validate(instance); err != nil {
		t.Errorf("%s is not what the document promises: %v", body, err)
	}
}

func escape(s string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(s)
}

// checkAnswer calls a route and validates the answer against what the document says of its status.
func (c *contract) checkAnswer(t *testing.T, h *harness, method, route, path, body string, headers ...string) int {
	t.Helper()
	w := h.call(t, method, path, body, headers...)
	status := strconv.Itoa(w.Code)
	answer := dig(c.document, "paths", route, strings.ToLower(method), "responses", status)
	if answer == nil {
		t.Errorf("%s %s: status %s is not in the document: %s", method, path, status, w.Body)
		return w.Code
	}
	for name := range dig(answer, "headers") {
		if w.Header().Get(name) == "" && w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s %s: status %s has no %s header", method, path, status, name)
		}
	}
	content := dig(answer, "content")
	if content == nil {
		if w.Body.Len() > 0 {
			t.Errorf("%s %s: status %s has a body that is not in the document", method, path, status)
		}
		return w.Code
	}
	kind := w.Header().Get("Content-Type")
	if dig(content, kind) == nil {
		t.Errorf("%s %s: status %s has Content-Type %q, which is not in the document", method, path, status, kind)
		return w.Code
	}
	pointer := "/paths/" + escape(route) + "/" + strings.ToLower(method) + "/responses/" + status + "/content/" + escape(kind) + "/schema"
	if kind == "text/event-stream" {
		for line := range strings.SplitSeq(w.Body.String(), "\n") {
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				c.validate(t, pointer, []byte(data))
			}
		}
		return w.Code
	}
	c.validate(t, pointer, w.Body.Bytes())
	return w.Code
}

func TestAnswersAreWhatTheDocumentPromises(t *testing.T) {
	setUp := func(name string) func(t *testing.T, h *harness) {
		return func(t *testing.T, h *harness) {
			t.Helper()
			l := newLife(t, "job")
			scanLives[name](l)
			h.cluster.put(l.scan)
		}
	}
	waiting := func(t *testing.T, h *harness) { t.Helper(); h.cluster.put(newLife(t, "job").scan) }
	down := func(t *testing.T, h *harness) { t.Helper(); h.cluster.setFail(errRefused) }
	none := func(t *testing.T, _ *harness) { t.Helper() }
	const (
		result, events = "/api/v1/scan/{id}/result", "/api/v1/scan/{id}/events"
		older, query   = "/api/v1/scan/result/{id}", "/api/v1/stream"
	)
	tests := map[string]struct {
		set                 func(t *testing.T, h *harness)
		options             func(*Options)
		method, route, path string
		body                string
		headers             []string
		wantStatus          int
	}{
		"submit":                   {set: none, method: "POST", route: "/api/v1/scan", body: goodBody, wantStatus: 200},
		"submit without a user":    {set: none, method: "POST", route: "/api/v1/scan", body: goodBody, headers: []string{"X-User-ID", ""}, wantStatus: 401},
		"submit from elsewhere":    {set: none, method: "POST", route: "/api/v1/scan", body: goodBody, headers: []string{"Origin", "https://evil.net"}, wantStatus: 403},
		"submit nothing":           {set: none, method: "POST", route: "/api/v1/scan", body: `{}`, wantStatus: 400},
		"submit an unknown model":  {set: none, method: "POST", route: "/api/v1/scan", body: `{"image_url":"https://a/b","model":"z"}`, wantStatus: 400},
		"submit too much":          {set: none, method: "POST", route: "/api/v1/scan", body: strings.Repeat(" ", maxBodyBytes+1), wantStatus: 413},
		"submit a form":            {set: none, method: "POST", route: "/api/v1/scan", body: "a=b", headers: []string{"Content-Type", "text/plain"}, wantStatus: 415},
		"submit over the limit":    {set: waiting, options: func(o *Options) { o.MaxUnfinished = 1 }, method: "POST", route: "/api/v1/scan", body: goodBody, wantStatus: 429},
		"submit while it is down":  {set: down, method: "POST", route: "/api/v1/scan", body: goodBody, wantStatus: 503},
		"result":                   {set: setUp("as planned"), method: "GET", route: result, path: "/api/v1/scan/job/result", wantStatus: 200},
		"result of a failure":      {set: setUp("refused"), method: "GET", route: result, path: "/api/v1/scan/job/result", wantStatus: 200},
		"result without rule":      {set: setUp("all in one write"), method: "GET", route: older, path: "/api/v1/scan/result/job", wantStatus: 200},
		"result too early":         {set: waiting, method: "GET", route: result, path: "/api/v1/scan/job/result", wantStatus: 202},
		"result too early, queued": {set: waiting, options: func(o *Options) { o.Queue = fixedQueue{position: 1, wait: time.Second} }, method: "GET", route: older, path: "/api/v1/scan/result/job", wantStatus: 202},
		"no result":                {set: none, method: "GET", route: result, path: "/api/v1/scan/job/result", wantStatus: 404},
		"events":                   {set: setUp("as planned"), method: "GET", route: events, path: "/api/v1/scan/job/events", wantStatus: 200},
		"events of a failure":      {set: setUp("answer refused"), method: "GET", route: query, path: "/api/v1/stream?job_id=job", wantStatus: 200},
		"events, all seen":         {set: setUp("as planned"), method: "GET", route: events, path: "/api/v1/scan/job/events", headers: []string{"Last-Event-ID", "9"}, wantStatus: 204},
		"events of nothing":        {set: none, method: "GET", route: query, path: "/api/v1/stream", wantStatus: 400},
		"events of no scan":        {set: none, method: "GET", route: events, path: "/api/v1/scan/job/events", wantStatus: 404},
		"too many streams":         {set: waiting, options: func(o *Options) { o.MaxStreams = -1 }, method: "GET", route: events, path: "/api/v1/scan/job/events", wantStatus: 503},
		"cancel":                   {set: waiting, method: "DELETE", route: "/api/v1/scan/{id}", path: "/api/v1/scan/job", wantStatus: 204},
		"cancel nothing":           {set: none, method: "DELETE", route: "/api/v1/scan/{id}", path: "/api/v1/scan/job", wantStatus: 404},
		"categories":               {set: none, method: "GET", route: "/api/v1/scan/categories", wantStatus: 200},
		"health":                   {set: none, method: "GET", route: "/api/v1/scan/health", wantStatus: 200},
		"ready":                    {set: none, method: "GET", route: "/api/v1/scan/ready", wantStatus: 200},
		"not ready":                {set: none, options: func(o *Options) { o.Synced = func() bool { return false } }, method: "GET", route: "/api/v1/scan/ready", wantStatus: 503},
		"categories, not ready":    {set: none, options: func(o *Options) { o.Synced = func() bool { return false } }, method: "GET", route: "/api/v1/scan/categories", wantStatus: 503},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, tt.options)
			c := newContract(t, h)
			tt.set(t, h)
			if got := c.checkAnswer(t, h, tt.method, tt.route, cmp.Or(tt.path, tt.route), tt.body, tt.headers...); got != tt.wantStatus {
				t.Errorf("status %d, want %d", got, tt.wantStatus)
			}
		})
	}
}

// The results of events are documents that the document names.
func TestEventResultsAreWhatTheDocumentPromises(t *testing.T) {
	names := map[string]string{
		scanapi.EventVision: "ClassificationResult", scanapi.EventRule: "DisposalRulesResult",
		scanapi.EventAnswer: "FinalAnswerResult", scanapi.EventReward: "RewardResult", scanapi.EventDone: "Result",
	}
	c := newContract(t, newHarness(t, nil))
	for name, live := range scanLives {
		l := newLife(t, "job")
		live(l)
		for _, line := range encodeAll(t, Events(l.scan)) {
			var e scanapi.Event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			want := names[e.Stage]
			switch e.Status {
			case scanapi.EventStarted:
				if e.Result != nil {
					t.Errorf("%s: %s has a result", name, line)
				}
				continue
			case scanapi.EventFailed:
				want = "Failure"
			}
			c.validate(t, "/components/schemas/"+want, e.Result)
		}
	}
}

func TestTheDocumentTakesWhatTheServerTakes(t *testing.T) {
	h := newHarness(t, nil)
	c := newContract(t, h)
	s, err := c.compiler.Compile("openapi.json#/components/schemas/SubmitRequest")
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]bool{
		goodBody: true,
		`{"image_url":"https://a/b","user_input":null,"model":null}`: true,
		`{"image_url":"https://a/b","user_input":"","model":""}`:     true,
		`{}`:                  false,
		`{"image_url":""}`:    false,
		`{"image_url":5}`:     false,
		`{"image_url":"a b"}`: false,
		`{"image_url":"https://a/b","model":"a b"}`:                                    false,
		`{"image_url":"https://a/b","user_input":"` + strings.Repeat("가", 4000) + `"}`: true,
		`{"image_url":"https://a/b","user_input":"` + strings.Repeat("가", 4001) + `"}`: false,
		`{"image_url":"https://a/` + strings.Repeat("b", 2038) + `"}`:                  true,
		`{"image_url":"https://a/` + strings.Repeat("b", 2039) + `"}`:                  false,
	} {
		instance, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		w := h.call(t, http.MethodPost, scanapi.SubmitPath, body)
		if documented, taken := s.Validate(instance) == nil, w.Code == http.StatusOK; documented != want || taken != want {
			t.Errorf("%.80s: the document takes it: %v; the server takes it: %v; want %v", body, documented, taken, want)
		}
	}
}

func TestTheDocumentIsComplete(t *testing.T) {
	h := newHarness(t, nil)
	body := h.call(t, http.MethodGet, openAPIPath, "").Body.String()
	var doc openapi.Document
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, r := range apiRoutes(h.Server, nil) {
		o := doc.Paths[r.Path][strings.ToLower(r.Method)]
		if o == nil {
			t.Errorf("%s %s is not in the document", r.Method, r.Path)
			continue
		}
		if ids[o.OperationID] {
			t.Errorf("operationId %s is used twice", o.OperationID)
		}
		ids[o.OperationID] = true
		for _, name := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(r.Path, -1) {
			found := false
			for _, p := range o.Parameters {
				found = found || p.In == "path" && p.Name == name[1] && p.Required
			}
			if !found {
				t.Errorf("%s %s: the parameter %s is not described", r.Method, r.Path, name[1])
			}
		}
	}
	for _, ref := range regexp.MustCompile(`"\$ref": "([^"]*)"`).FindAllStringSubmatch(body, -1) {
		if _, ok := doc.Components.Schemas[strings.TrimPrefix(ref[1], "#/components/schemas/")]; !ok {
			t.Errorf("%s is not in the document", ref[1])
		}
	}
}

func TestTheDocsPageStandsAlone(t *testing.T) {
	page := newHarness(t, nil).callDocs(t)
	if loads := regexp.MustCompile(`(?i)<(script|link|img|iframe)|url\(|@import|https?://`).FindAllString(page, -1); loads != nil {
		t.Errorf("the page loads %q", loads)
	}
	for _, link := range regexp.MustCompile(`href="#([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if !strings.Contains(page, `id="`+link[1]+`"`) {
			t.Errorf("the link to #%s leads nowhere", link[1])
		}
	}
	for _, want := range []string{"/api/v1/scan/{id}/result", `id="IMAGE_URL_REQUIRED"`, `id="ROUTE_NOT_FOUND"`, "disposal_steps"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}

func (h *harness) callDocs(t *testing.T) string {
	t.Helper()
	return h.call(t, http.MethodGet, docsPath, "").Body.String()
}
