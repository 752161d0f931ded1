// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

func TestSubmit(t *testing.T) {
	h := newHarness(t, nil)
	w := h.call(t, http.MethodPost, scanapi.SubmitPath, `{"image_url":"https://img.example.com/a.jpg","user_input":"질문","model":"gpt-a","new_field":[1]}`)
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	got := decode[scanapi.SubmitResponse](t, w)
	if id, err := uuid.Parse(got.JobID); err != nil || id.Version() != 7 {
		t.Errorf("job_id %q is no UUIDv7", got.JobID)
	}
	want := scanapi.SubmitResponse{
		JobID: got.JobID, StreamURL: "/api/v1/scan/" + got.JobID + "/events",
		ResultURL: "/api/v1/scan/" + got.JobID + "/result", Status: "queued",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	wantSpec := v1alpha1.ScanRequestSpec{
		ImageURL: "https://img.example.com/a.jpg", UserInput: "질문", Model: "gpt-a", UserID: "kim",
	}
	if diff := cmp.Diff(wantSpec, h.cluster.stored[got.JobID].Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}

func TestSubmitRejects(t *testing.T) {
	image := func(url string) string { return fmt.Sprintf(`{"image_url":%q}`, url) }
	tests := map[string]struct {
		body       string
		headers    []string
		wantStatus int
		wantCode   string
		wantErrors []string // field:rule
	}{
		"no body":             {wantStatus: 415, wantCode: scanapi.CodeUnsupportedMediaType},
		"no JSON":             {body: `image_url=x`, wantStatus: 400, wantCode: scanapi.CodeBodyInvalid, wantErrors: []string{"body:format"}},
		"cut off":             {body: `{"image_url":"https://`, wantStatus: 400, wantCode: scanapi.CodeBodyInvalid, wantErrors: []string{"body:format"}},
		"trailing data":       {body: goodBody + `{}`, wantStatus: 400, wantCode: scanapi.CodeBodyInvalid, wantErrors: []string{"body:format"}},
		"trailing garbage":    {body: goodBody + `garbage`, wantStatus: 400, wantCode: scanapi.CodeBodyInvalid, wantErrors: []string{"body:format"}},
		"null":                {body: `null`, wantStatus: 400, wantCode: scanapi.CodeBodyInvalid, wantErrors: []string{"body:type"}},
		"a list":              {body: `[]`, wantStatus: 400, wantCode: scanapi.CodeBodyInvalid, wantErrors: []string{"body:type"}},
		"invalid UTF-8":       {body: "{\"image_url\":\"https://a/\xff\"}", wantStatus: 400, wantCode: scanapi.CodeBodyInvalid, wantErrors: []string{"body:encoding"}},
		"a form":              {body: `image_url=x`, headers: []string{"Content-Type", "application/x-www-form-urlencoded"}, wantStatus: 415, wantCode: scanapi.CodeUnsupportedMediaType},
		"text from elsewhere": {body: goodBody, headers: []string{"Content-Type", "text/plain"}, wantStatus: 415, wantCode: scanapi.CodeUnsupportedMediaType},
		"10 MB":               {body: `{"image_url":"` + strings.Repeat("a", 10<<20) + `"}`, wantStatus: 413, wantCode: scanapi.CodeBodyTooLarge},
		"no image":            {body: `{}`, wantStatus: 400, wantCode: scanapi.CodeImageURLRequired, wantErrors: []string{"image_url:required"}},
		"image null":          {body: `{"image_url":null}`, wantStatus: 400, wantCode: scanapi.CodeImageURLRequired, wantErrors: []string{"image_url:required"}},
		"image a number":      {body: `{"image_url":5}`, wantStatus: 400, wantCode: scanapi.CodeImageURLInvalid, wantErrors: []string{"image_url:type"}},
		"question an object":  {body: `{"image_url":"https://a/b","user_input":{}}`, wantStatus: 400, wantCode: scanapi.CodeUserInputInvalid, wantErrors: []string{"user_input:type"}},
		"model a list":        {body: `{"image_url":"https://a/b","model":[]}`, wantStatus: 400, wantCode: scanapi.CodeModelInvalid, wantErrors: []string{"model:type"}},
		"no URL":              {body: image("photo"), wantStatus: 400, wantCode: scanapi.CodeImageURLInvalid, wantErrors: []string{"image_url:format"}},
		"relative URL":        {body: image("/photo.jpg"), wantStatus: 400, wantCode: scanapi.CodeImageURLInvalid, wantErrors: []string{"image_url:scheme"}},
		"javascript":          {body: image("javascript:alert(1)"), wantStatus: 400, wantCode: scanapi.CodeImageURLInvalid, wantErrors: []string{"image_url:scheme"}},
		"file":                {body: image("file:///etc/passwd"), wantStatus: 400, wantCode: scanapi.CodeImageURLInvalid, wantErrors: []string{"image_url:scheme"}},
		"data":                {body: image("data:image/png;base64,AAAA"), wantStatus: 400, wantCode: scanapi.CodeImageURLInvalid, wantErrors: []string{"image_url:scheme"}},
		"no host":             {body: image("https:///a.jpg"), wantStatus: 400, wantCode: scanapi.CodeImageURLInvalid, wantErrors: []string{"image_url:host"}},
		"port without host":   {body: image("https://:443/a.jpg"), wantStatus: 400, wantCode: scanapi.CodeImageURLInvalid, wantErrors: []string{"image_url:host"}},
		"credentials":         {body: image("https://me:secret@a/b.jpg"), wantStatus: 400, wantCode: scanapi.CodeImageURLInvalid, wantErrors: []string{"image_url:userinfo"}},
		"line break in URL":   {body: `{"image_url":"https://a/b\r\nX: y"}`, wantStatus: 400, wantCode: scanapi.CodeImageURLInvalid, wantErrors: []string{"image_url:format"}},
		"space in URL":        {body: image("https://a/b c.jpg"), wantStatus: 400, wantCode: scanapi.CodeImageURLInvalid, wantErrors: []string{"image_url:format"}},
		"10,000 characters":   {body: image("https://a/" + strings.Repeat("b", 9990)), wantStatus: 400, wantCode: scanapi.CodeImageURLInvalid, wantErrors: []string{"image_url:maxLength"}},
		"long question":       {body: fmt.Sprintf(`{"image_url":"https://a/b","user_input":%q}`, strings.Repeat("가", 4001)), wantStatus: 400, wantCode: scanapi.CodeUserInputInvalid, wantErrors: []string{"user_input:maxLength"}},
		"NUL in question":     {body: `{"image_url":"https://a/b","user_input":"a\u0000b"}`, wantStatus: 400, wantCode: scanapi.CodeUserInputInvalid, wantErrors: []string{"user_input:format"}},
		"model with spaces":   {body: `{"image_url":"https://a/b","model":"gpt a"}`, wantStatus: 400, wantCode: scanapi.CodeModelInvalid, wantErrors: []string{"model:pattern"}},
		"long model":          {body: fmt.Sprintf(`{"image_url":"https://a/b","model":%q}`, strings.Repeat("m", 129)), wantStatus: 400, wantCode: scanapi.CodeModelInvalid, wantErrors: []string{"model:maxLength"}},
		"unknown model":       {body: `{"image_url":"https://a/b","model":"gpt-z"}`, wantStatus: 400, wantCode: scanapi.CodeUnsupportedModel, wantErrors: []string{"model:enum"}},
		"everything wrong": {
			body:       fmt.Sprintf(`{"image_url":"ftp://a/b","user_input":%q,"model":"?"}`, strings.Repeat("x", 4001)),
			wantStatus: 400, wantCode: scanapi.CodeImageURLInvalid,
			wantErrors: []string{"image_url:scheme", "user_input:maxLength", "model:pattern"},
		},
		"empty key":           {body: goodBody, headers: []string{"X-Idempotency-Key", " "}, wantStatus: 400, wantCode: scanapi.CodeIdempotencyInvalid, wantErrors: []string{"X-Idempotency-Key:pattern"}},
		"key with line break": {body: goodBody, headers: []string{"X-Idempotency-Key", "a\r\nSet-Cookie: b"}, wantStatus: 400, wantCode: scanapi.CodeIdempotencyInvalid, wantErrors: []string{"X-Idempotency-Key:pattern"}},
		"long key":            {body: goodBody, headers: []string{"X-Idempotency-Key", strings.Repeat("k", 257)}, wantStatus: 400, wantCode: scanapi.CodeIdempotencyInvalid, wantErrors: []string{"X-Idempotency-Key:maxLength"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, nil)
			w := h.call(t, http.MethodPost, scanapi.SubmitPath, tt.body, tt.headers...)
			if w.Code != tt.wantStatus {
				t.Errorf("status %d, want %d: %s", w.Code, tt.wantStatus, w.Body)
			}
			if got := problemCode(t, w); got != tt.wantCode {
				t.Errorf("code %s, want %s", got, tt.wantCode)
			}
			p := decode[scanapi.Problem](t, w)
			var broken []string
			for _, e := range p.Errors {
				broken = append(broken, e.Field+":"+e.Rule)
			}
			if diff := cmp.Diff(tt.wantErrors, broken); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
			if tt.wantCode == scanapi.CodeUnsupportedModel {
				if diff := cmp.Diff([]string{"gpt-a", "gpt-b"}, p.SupportedModels); diff != "" {
					t.Errorf("supported_models (-want +got):\n%s", diff)
				}
			}
			if n := h.cluster.creates.Load(); n != 0 {
				t.Errorf("%d creates, want 0", n)
			}
		})
	}
}

func TestSubmitNamesSupportedModelsEvenIfThereAreNone(t *testing.T) {
	h := newHarness(t, nil)
	h.cluster.models = []string{}
	w := h.call(t, http.MethodPost, scanapi.SubmitPath, `{"image_url":"https://a/b","model":"gpt-a"}`)
	if !strings.Contains(w.Body.String(), `"supported_models":[]`) {
		t.Errorf("answer %s, want an empty list of supported_models", w.Body)
	}
}

func TestSubmitTakesEveryGoodURL(t *testing.T) {
	for _, url := range []string{
		"https://a/b", "http://img.example.com:8080/a%20b.jpg?x=1&y=%ED%95%9C#f", "https://이미지.example.com/사진.jpg",
		"https://[2001:db8::1]/a.jpg", "HTTPS://a/b", "https://a/" + strings.Repeat("b", 2038),
	} {
		h := newHarness(t, nil)
		if w := h.call(t, http.MethodPost, scanapi.SubmitPath, fmt.Sprintf(`{"image_url":%q}`, url)); w.Code != http.StatusOK {
			t.Errorf("%s: status %d: %s", url, w.Code, w.Body)
		}
	}
}

func TestIdempotency(t *testing.T) {
	other := `{"image_url":"https://img.example.com/b.jpg"}`
	tests := map[string]struct {
		second     string
		headers    []string // of the second submit
		unwatched  bool     // the watch has not delivered the first one
		wantStatus int
		wantSame   bool
		wantScans  int
	}{
		"same again":               {second: goodBody, headers: []string{"X-Idempotency-Key", "k1"}, wantStatus: 200, wantSame: true, wantScans: 1},
		"same, before the watch":   {second: goodBody, headers: []string{"X-Idempotency-Key", "k1"}, unwatched: true, wantStatus: 200, wantSame: true, wantScans: 1},
		"same in other words":      {second: ` { "user_input":"어떻게 버려요?", "x":1, "image_url":"https://img.example.com/a.jpg"}`, headers: []string{"X-Idempotency-Key", "k1"}, wantStatus: 200, wantSame: true, wantScans: 1},
		"other body":               {second: other, headers: []string{"X-Idempotency-Key", "k1"}, wantStatus: 409, wantScans: 1},
		"other body, before watch": {second: other, headers: []string{"X-Idempotency-Key", "k1"}, unwatched: true, wantStatus: 409, wantScans: 1},
		"other key":                {second: goodBody, headers: []string{"X-Idempotency-Key", "k2"}, wantStatus: 200, wantScans: 2},
		"other user":               {second: goodBody, headers: []string{"X-Idempotency-Key", "k1", "X-User-ID", "lee"}, wantStatus: 200, wantScans: 2},
		"no key":                   {second: goodBody, wantStatus: 200, wantScans: 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, nil)
			h.cluster.watching = !tt.unwatched
			first := h.call(t, http.MethodPost, scanapi.SubmitPath, goodBody, "X-Idempotency-Key", "k1")
			if first.Code != http.StatusOK {
				t.Fatalf("first submit: status %d: %s", first.Code, first.Body)
			}
			second := h.call(t, http.MethodPost, scanapi.SubmitPath, tt.second, tt.headers...)
			if second.Code != tt.wantStatus {
				t.Fatalf("second submit: status %d, want %d: %s", second.Code, tt.wantStatus, second.Body)
			}
			if same := first.Body.String() == second.Body.String(); same != tt.wantSame {
				t.Errorf("answers %s and %s: same is %v, want %v", first.Body, second.Body, same, tt.wantSame)
			}
			if tt.wantStatus == http.StatusConflict && problemCode(t, second) != scanapi.CodeIdempotencyReused {
				t.Errorf("problem %s", second.Body)
			}
			if got := h.cluster.count(); got != tt.wantScans {
				t.Errorf("%d scans, want %d", got, tt.wantScans)
			}
		})
	}
}

// A key is never mistaken for another because of where user and key meet.
func TestIdempotencyKeysDoNotCollide(t *testing.T) {
	h := newHarness(t, nil)
	h.call(t, http.MethodPost, scanapi.SubmitPath, goodBody, "X-User-ID", "ab", "X-Idempotency-Key", "c")
	h.call(t, http.MethodPost, scanapi.SubmitPath, goodBody, "X-User-ID", "a", "X-Idempotency-Key", "bc")
	if got := h.cluster.count(); got != 2 {
		t.Errorf("%d scans, want 2", got)
	}
}

// Ids that were given out must stay valid.
func TestIdempotentJobIDNeverChanges(t *testing.T) {
	h := newHarness(t, nil)
	w := h.call(t, http.MethodPost, scanapi.SubmitPath, goodBody, "X-Idempotency-Key", "k1")
	if got, want := decode[scanapi.SubmitResponse](t, w).JobID, "e4a39814-e1ad-5621-8d8e-bb029ba328ca"; got != want {
		t.Errorf("job_id %s, want %s", got, want)
	}
}

func TestConcurrentSubmitsWithOneKey(t *testing.T) {
	for name, watching := range map[string]bool{"watched at once": true, "not watched yet": false} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, func(o *Options) { o.MaxUnfinishedPerUser = 1 })
			h.cluster.watching = watching
			const n = 100
			answers := make([]string, n)
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() {
					w := h.call(t, http.MethodPost, scanapi.SubmitPath, goodBody, "X-Idempotency-Key", "k1")
					answers[i] = fmt.Sprint(w.Code, w.Body)
				})
			}
			wg.Wait()
			for i, answer := range answers {
				if answer != answers[0] || !strings.HasPrefix(answer, "200") {
					t.Fatalf("answer %d is %s, answer 0 is %s", i, answer, answers[0])
				}
			}
			if got := h.cluster.count(); got != 1 {
				t.Errorf("%d scans, want 1", got)
			}
		})
	}
}

func TestSubmitTellsWhatTheClusterSays(t *testing.T) {
	kind := v1alpha1.GroupVersion.WithKind("ScanRequest").GroupKind()
	tests := map[string]struct {
		err        error
		wantStatus int
		wantCode   string
		wantField  string
		wantRetry  string
	}{
		"invalid field": {
			err:        apierrors.NewInvalid(kind, "x", field.ErrorList{field.Invalid(field.NewPath("spec", "imageURL"), "x", "imageURL must be an absolute http or https URL")}),
			wantStatus: 400, wantCode: scanapi.CodeRequestRejected, wantField: "image_url:valid",
		},
		"field too long": {
			err:        apierrors.NewInvalid(kind, "x", field.ErrorList{field.TooLong(field.NewPath("spec", "userInput"), "x", 4000)}),
			wantStatus: 400, wantCode: scanapi.CodeRequestRejected, wantField: "user_input:maxLength",
		},
		"down":       {err: errRefused, wantStatus: 503, wantCode: scanapi.CodeUnavailable, wantRetry: "2"},
		"too slow":   {err: errTimeout, wantStatus: 503, wantCode: scanapi.CodeUnavailable, wantRetry: "2"},
		"overloaded": {err: apierrors.NewTooManyRequests("later", 7), wantStatus: 503, wantCode: scanapi.CodeUnavailable, wantRetry: "7"},
		"over quota": {err: apierrors.NewForbidden(scanKind, "x", errors.New("exceeded quota")), wantStatus: 503, wantCode: scanapi.CodeUnavailable, wantRetry: "2"},
		"broken":     {err: errors.New("a fault of ours: secret detail"), wantStatus: 500, wantCode: scanapi.CodeInternal},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, func(o *Options) { o.MaxUnfinishedPerUser = 1 })
			h.cluster.setFail(tt.err)
			w := h.call(t, http.MethodPost, scanapi.SubmitPath, goodBody)
			if w.Code != tt.wantStatus || problemCode(t, w) != tt.wantCode {
				t.Errorf("status %d: %s; want %d %s", w.Code, w.Body, tt.wantStatus, tt.wantCode)
			}
			if strings.Contains(w.Body.String(), "secret") {
				t.Errorf("the response shows internals: %s", w.Body)
			}
			if got := w.Header().Get("Retry-After"); got != tt.wantRetry {
				t.Errorf("Retry-After %q, want %q", got, tt.wantRetry)
			}
			p := decode[scanapi.Problem](t, w)
			if tt.wantField != "" && (len(p.Errors) != 1 || p.Errors[0].Field+":"+p.Errors[0].Rule != tt.wantField) {
				t.Errorf("errors %+v, want %s", p.Errors, tt.wantField)
			}
			// What was not created does not count against the user.
			h.cluster.setFail(nil)
			if w := h.call(t, http.MethodPost, scanapi.SubmitPath, goodBody); w.Code != http.StatusOK {
				t.Errorf("submit after the failure: status %d: %s", w.Code, w.Body)
			}
		})
	}
}

// A create whose response is lost is reported to the client as what it led to.
func TestSubmitFindsOutWhatBecameOfACreate(t *testing.T) {
	reset := &url.Error{Op: "Post", URL: "https://127.0.0.1:6443", Err: &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}}
	internal := apierrors.NewInternalError(errors.New("etcdserver: request timed out"))
	tests := map[string]struct {
		lost       []lostAnswer
		key        string
		wantStatus int
		wantScans  int
	}{
		"stored, timed out":             {lost: []lostAnswer{{errTimeout, true}}, wantStatus: 200, wantScans: 1},
		"stored, connection reset":      {lost: []lostAnswer{{reset, true}}, wantStatus: 200, wantScans: 1},
		"stored, etcd timed out":        {lost: []lostAnswer{{internal, true}}, wantStatus: 200, wantScans: 1},
		"stored, with a key":            {lost: []lostAnswer{{errTimeout, true}}, key: "k1", wantStatus: 200, wantScans: 1},
		"not stored, timed out":         {lost: []lostAnswer{{errTimeout, false}}, wantStatus: 200, wantScans: 1},
		"not stored, then stored":       {lost: []lostAnswer{{errTimeout, false}, {reset, true}}, wantStatus: 200, wantScans: 1},
		"never stored":                  {lost: []lostAnswer{{errTimeout, false}, {errTimeout, false}, {errTimeout, false}}, wantStatus: 503},
		"not sent":                      {lost: []lostAnswer{{errRefused, false}}, wantStatus: 503},
		"turned away, so not ambiguous": {lost: []lostAnswer{{apierrors.NewTooManyRequests("later", 1), false}}, wantStatus: 503},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, func(o *Options) { o.MaxUnfinishedPerUser = 1 })
			h.cluster.lost = tt.lost
			w := h.call(t, http.MethodPost, scanapi.SubmitPath, goodBody, scanapi.IdempotencyKeyHeader, tt.key)
			if w.Code != tt.wantStatus {
				t.Errorf("status %d, want %d: %s", w.Code, tt.wantStatus, w.Body)
			}
			if got := h.cluster.count(); got != tt.wantScans {
				t.Errorf("%d scans, want %d", got, tt.wantScans)
			}
			if got := h.limiter.backlog(); got != tt.wantScans {
				t.Errorf("%d scans count against the limits, want %d", got, tt.wantScans)
			}
			if tt.wantStatus != http.StatusOK {
				return
			}
			job := decode[scanapi.SubmitResponse](t, w).JobID
			if w := h.call(t, http.MethodGet, scanapi.ResultPath(job), ""); w.Code != http.StatusAccepted {
				t.Errorf("poll of %s: status %d, want 202", job, w.Code)
			}
		})
	}
}

// A burst does not exceed the limit by one estimate, which is as old as the last response of the leader.
func TestSubmitAddsABurstToTheEstimate(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.MaxEstimatedWait, o.Queue = time.Minute, fixedQueue{wait: 50 * time.Second} })
	done := newLife(t, "done")
	for i := range 60 { // one a second
		done.scan.Name = fmt.Sprint("done-", i)
		done.scan.Status.Phase, done.scan.Status.FinishedAt = v1alpha1.ScanQueued, metav1.MicroTime{}
		h.cluster.put(done.scan)
		done.scan.Status.Phase, done.scan.Status.FinishedAt = v1alpha1.ScanSucceeded, metav1.NewMicroTime(h.clock.Now())
		h.cluster.put(done.scan)
	}
	for i := range 10 {
		if w := h.call(t, http.MethodPost, scanapi.SubmitPath, goodBody); w.Code != http.StatusOK {
			t.Fatalf("submit %d: status %d: %s", i, w.Code, w.Body)
		}
	}
	h.call(t, http.MethodPost, scanapi.SubmitPath, goodBody)
	w := h.call(t, http.MethodPost, scanapi.SubmitPath, goodBody)
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "1" {
		t.Errorf("status %d, Retry-After %q; want 429 and 1: %s", w.Code, w.Header().Get("Retry-After"), w.Body)
	}
}

// After a quiet minute, few finished scans mean that there were few, not that there could not be more: neither where
// no scan waits nor where the first of a burst do, for workers that are being started.
func TestSubmitTakesABurstOnAnIdleSystem(t *testing.T) {
	for name, wait := range map[string]time.Duration{"no scan waits": 0, "the first wait": 10 * time.Second} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, func(o *Options) { o.MaxEstimatedWait, o.Queue = time.Minute, fixedQueue{wait: wait} })
			done := newLife(t, "done")
			done.scan.Status.Phase, done.scan.Status.FinishedAt = v1alpha1.ScanQueued, metav1.MicroTime{}
			h.cluster.put(done.scan)
			done.scan.Status.Phase, done.scan.Status.FinishedAt = v1alpha1.ScanSucceeded, metav1.NewMicroTime(h.clock.Now())
			h.cluster.put(done.scan) // one in the last minute
			for i := range 20 {
				if w := h.call(t, http.MethodPost, scanapi.SubmitPath, goodBody); w.Code != http.StatusOK {
					t.Fatalf("submit %d: status %d: %s", i, w.Code, w.Body)
				}
			}
		})
	}
}

func TestSubmitIsTurnedAway(t *testing.T) {
	tests := map[string]struct {
		options   func(*Options)
		before    int // scans of user kim that were submitted before
		user      string
		wantCode  string // empty: accepted
		wantRetry string
	}{
		"no limits":              {options: func(*Options) {}, before: 50},
		"below the user's limit": {options: func(o *Options) { o.MaxUnfinishedPerUser = 3 }, before: 2},
		"at the user's limit":    {options: func(o *Options) { o.MaxUnfinishedPerUser = 3 }, before: 3, wantCode: scanapi.CodeTooManyScans, wantRetry: "10"},
		"another user":           {options: func(o *Options) { o.MaxUnfinishedPerUser = 3 }, before: 3, user: "lee"},
		"at the overall limit":   {options: func(o *Options) { o.MaxUnfinished = 3 }, before: 3, user: "lee", wantCode: scanapi.CodeOverloaded, wantRetry: "10"},
		"wait within the limit":  {options: func(o *Options) { o.MaxEstimatedWait, o.Queue = time.Minute, fixedQueue{wait: time.Minute} }},
		"wait above the limit": {
			options: func(o *Options) {
				o.MaxEstimatedWait, o.Queue = time.Minute, fixedQueue{wait: 90500 * time.Millisecond}
			},
			wantCode: scanapi.CodeOverloaded, wantRetry: "31",
		},
		"wait not known":   {options: func(o *Options) { o.MaxEstimatedWait, o.Queue = time.Minute, fixedQueue{wait: -1} }},
		"wait not limited": {options: func(o *Options) { o.Queue = fixedQueue{wait: time.Hour} }},
	}
	for name, tt := range tests {
		for _, watching := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, watching %v", name, watching), func(t *testing.T) {
				h := newHarness(t, tt.options)
				h.cluster.watching = watching
				for i := range tt.before {
					if w := h.call(t, http.MethodPost, scanapi.SubmitPath, goodBody); w.Code != http.StatusOK {
						t.Fatalf("submit %d: status %d: %s", i, w.Code, w.Body)
					}
				}
				var headers []string
				if tt.user != "" {
					headers = []string{scanapi.UserIDHeader, tt.user}
				}
				w := h.call(t, http.MethodPost, scanapi.SubmitPath, goodBody, headers...)
				if tt.wantCode == "" {
					if w.Code != http.StatusOK {
						t.Errorf("status %d: %s", w.Code, w.Body)
					}
					return
				}
				if w.Code != http.StatusTooManyRequests || problemCode(t, w) != tt.wantCode {
					t.Errorf("status %d: %s; want 429 %s", w.Code, w.Body, tt.wantCode)
				}
				if got := w.Header().Get("Retry-After"); got != tt.wantRetry {
					t.Errorf("Retry-After %q, want %q", got, tt.wantRetry)
				}
				if got := h.cluster.count(); got != tt.before {
					t.Errorf("%d scans, want %d", got, tt.before)
				}
			})
		}
	}
}

func TestARepeatedSubmitIsAnsweredUnderOverload(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.MaxUnfinished = 1 })
	first := h.call(t, http.MethodPost, scanapi.SubmitPath, goodBody, "X-Idempotency-Key", "k1")
	again := h.call(t, http.MethodPost, scanapi.SubmitPath, goodBody, "X-Idempotency-Key", "k1")
	if again.Code != http.StatusOK || again.Body.String() != first.Body.String() {
		t.Errorf("answers %s and %d %s", first.Body, again.Code, again.Body)
	}
}
