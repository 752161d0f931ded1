// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// Whatever a client sends is accepted and creates one scan, or is a 4xx problem and creates none.
func FuzzSubmit(f *testing.F) {
	for _, body := range []string{
		goodBody, `{}`, `null`, `[]`, `"`, `{"image_url":5}`, `{"image_url":"javascript:alert(1)"}`, `{"image_url":"https://a/b"}x`,
		"{\"image_url\":\"https://a/\xff\"}", `{"image_url":"https://a/b","model":"gpt-a"}`, `{"image_url":"https://a/b","model":"gpt-z"}`,
		`{"image_url":"https://a/b","user_input":"\u0000"}`, `{"image_url":"http://[::1","user_input":{}}`,
		`{"Image_URL":"https://a/b","image_url":"file:///x"}`, `{"image_url":"https://%zz/"}`,
	} {
		f.Add(body, "application/json", "kim", "key-1")
	}
	f.Add(goodBody, "application/json; charset=utf-8", "김", "")
	f.Add(goodBody, "text/plain", "", "a\r\nX-User-ID: root")
	h := newHarness(f, nil)
	f.Fuzz(func(t *testing.T, body, contentType, user, key string) {
		created := h.cluster.creates.Load()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, scanapi.SubmitPath, strings.NewReader(body))
		r.RemoteAddr = "10.0.0.1:1"
		r.Header["Content-Type"] = []string{contentType}
		r.Header[http.CanonicalHeaderKey(scanapi.UserIDHeader)] = []string{user}
		r.Header[http.CanonicalHeaderKey(scanapi.IdempotencyKeyHeader)] = []string{key}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		switch {
		case w.Code == http.StatusOK:
			if h.cluster.count() != 1 {
				t.Errorf("accepted, but %d scans exist", h.cluster.count())
			}
			for _, scan := range h.cluster.stored {
				if err := h.cluster.Delete(t.Context(), scan); err != nil {
					t.Fatal(err)
				}
				if rule, detail := checkImageURL(scan.Spec.ImageURL); rule != "" || scan.Spec.UserID != user {
					t.Errorf("created %+v: %s: %s", scan.Spec, rule, detail)
				}
			}
		case w.Code >= 400 && w.Code < 500:
			problemCode(t, w)
			if h.cluster.creates.Load() != created {
				t.Errorf("status %d, but a scan was created", w.Code)
			}
		default:
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
	})
}

// Whatever the path, the query and the headers are, a read is answered with what the API knows or a 4xx problem.
func FuzzRead(f *testing.F) {
	f.Add("/api/v1/scan/job/result", "", "kim", "")
	f.Add("/api/v1/scan/job/events", "", "kim", "3")
	f.Add("/api/v1/stream", "job_id=job", "kim", "-1")
	f.Add("/api/v1/stream", "job_id=%00&job_id=..%2f", "kim", "1e9")
	f.Add("/api/v1/scan/result/../job", "%zz", "\x7f", "\r\nid: 1")
	f.Add("//api//v1/scan/result/result", "", "kim", "")
	h := newHarness(f, nil)
	l := newLife(f, "job")
	succeed(l)
	h.cluster.put(l.scan)
	f.Fuzz(func(t *testing.T, path, query, user, lastEventID string) {
		h.clock.Step(time.Second) // reads of unknown scans are limited by second
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		r.URL.Path, r.URL.RawQuery = path, query
		r.RemoteAddr = "10.0.0.1:1"
		r.Header[http.CanonicalHeaderKey(scanapi.UserIDHeader)] = []string{user}
		r.Header[http.CanonicalHeaderKey(scanapi.LastEventIDHeader)] = []string{lastEventID}
		recorder := httptest.NewRecorder()
		h.ServeHTTP(deadlines{recorder}, r)
		switch {
		case recorder.Code >= 400 && recorder.Code < 500:
			problemCode(t, recorder)
		case recorder.Code >= 400:
			t.Errorf("status %d: %s", recorder.Code, recorder.Body)
		}
	})
}
