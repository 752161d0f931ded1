// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

func asScan(t *testing.T, object any) *v1alpha1.ScanRequest {
	t.Helper()
	scan, ok := object.(*v1alpha1.ScanRequest)
	if !ok {
		t.Fatalf("got a %T, want a scan", object)
	}
	return scan
}

const wholeResult = `{"task_id":"job","status":"completed","message":"The scan is complete.",` +
	`"pipeline_result":{"classification_result":{"classification":{"major_category":"재활용폐기물","middle_category":"종이","minor_category":"골판지 상자"},"situation_tags":["내용물_있음"]},` +
	`"disposal_rules":{"id":"paper","title":"종이","steps":["펴기","묶기"],"exclusions":[]},` +
	`"final_answer":{"disposal_steps":["상자를 펴세요"],"insufficiencies":[],"user_answer":"상자를 펴서 묶어 내놓으세요."}},` +
	`"reward":{"name":"페이피","dialog":"고마워!","match_reason":"종이","type":"paper"},"error":null}`

func TestResult(t *testing.T) {
	tests := map[string]struct {
		live       func(l *life)
		queue      QueueView
		wantStatus int
		wantBody   string
		wantRetry  string
	}{
		"succeeded": {live: succeed, wantStatus: http.StatusOK, wantBody: wholeResult},
		"no rule and no reward": {
			live: scanLives["all in one write"], wantStatus: http.StatusOK,
			wantBody: `{"task_id":"job","status":"completed","message":"The scan is complete.",` +
				`"pipeline_result":{"classification_result":{"classification":{"major_category":"재활용폐기물","middle_category":"종이","minor_category":"골판지 상자"},"situation_tags":["내용물_있음"]},` +
				`"disposal_rules":null,"final_answer":{"disposal_steps":["상자를 펴세요"],"insufficiencies":[],"user_answer":"상자를 펴서 묶어 내놓으세요."}},"reward":null,"error":null}`,
		},
		"failed at once": {
			live: scanLives["refused"], wantStatus: http.StatusOK,
			wantBody: `{"task_id":"job","status":"failed","message":"The photo or the question was declined. Send another one.","pipeline_result":null,"reward":null,"error":"CONTENT_REFUSED"}`,
		},
		"failed half-way": {
			live: scanLives["expired between stages"], wantStatus: http.StatusOK,
			wantBody: `{"task_id":"job","status":"failed","message":"The scan took too long. Send the photo again.",` +
				`"pipeline_result":{"classification_result":{"classification":{"major_category":"재활용폐기물","middle_category":"종이","minor_category":"골판지 상자"},"situation_tags":["내용물_있음"]},` +
				`"disposal_rules":{"id":"paper","title":"종이","steps":["펴기","묶기"],"exclusions":[]},"final_answer":null},"reward":null,"error":"DEADLINE_EXCEEDED"}`,
		},
		"just submitted": {
			live: func(*life) {}, wantStatus: http.StatusAccepted, wantRetry: "2",
			wantBody: `{"status":"processing","message":"The scan is waiting for its turn.","current_stage":"queued","progress":0,"queue_position":null,"estimated_wait_seconds":null}`,
		},
		"in the queue": {
			live:  func(l *life) { l.fold(pipeline.Waiting{Reason: v1alpha1.ReasonWaitingForQuota, Message: "budget b"}) },
			queue: fixedQueue{position: 12, wait: 33500 * time.Millisecond}, wantStatus: http.StatusAccepted, wantRetry: "9",
			wantBody: `{"status":"processing","message":"The scan is waiting: the service has used up its quota for now.","current_stage":"queued","progress":0,"queue_position":12,"estimated_wait_seconds":34}`,
		},
		"far back in the queue": {
			live: func(*life) {}, queue: fixedQueue{position: 1200, wait: time.Hour}, wantStatus: http.StatusAccepted, wantRetry: "15",
			wantBody: `{"status":"processing","message":"The scan is waiting for its turn.","current_stage":"queued","progress":0,"queue_position":1200,"estimated_wait_seconds":3600}`,
		},
		"in the queue, nobody knows for how long": {
			live: func(*life) {}, queue: fixedQueue{position: 3, wait: -1}, wantStatus: http.StatusAccepted, wantRetry: "2",
			wantBody: `{"status":"processing","message":"The scan is waiting for its turn.","current_stage":"queued","progress":0,"queue_position":3,"estimated_wait_seconds":null}`,
		},
		"running": {
			live: func(l *life) { l.assign(v1alpha1.StageVision) }, queue: fixedQueue{position: 12, wait: time.Minute},
			wantStatus: http.StatusAccepted, wantRetry: "2",
			wantBody: `{"status":"processing","message":"The scan is running: stage vision.","current_stage":"vision","progress":0,"queue_position":null,"estimated_wait_seconds":null}`,
		},
		"between stages": {
			live:       func(l *life) { l.assign(v1alpha1.StageVision).complete(visionOutcome, ruleOutcome) },
			wantStatus: http.StatusAccepted, wantRetry: "2",
			wantBody: `{"status":"processing","message":"The scan is waiting for its turn.","current_stage":"answer","progress":50,"queue_position":null,"estimated_wait_seconds":null}`,
		},
		"tried again": {
			live: func(l *life) {
				l.assign(v1alpha1.StageVision).fail(v1alpha1.StageVision, v1alpha1.FailureUnavailable)
			},
			wantStatus: http.StatusAccepted, wantRetry: "2",
			wantBody: `{"status":"processing","message":"The scan will be retried soon.","current_stage":"vision","progress":0,"queue_position":null,"estimated_wait_seconds":null}`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, func(o *Options) { o.Queue = tt.queue })
			l := newLife(t, "job")
			tt.live(l)
			h.cluster.put(l.scan)
			for _, path := range []string{"/api/v1/scan/job/result", "/api/v1/scan/result/job"} {
				w := h.call(t, http.MethodGet, path, "")
				if w.Code != tt.wantStatus {
					t.Errorf("GET %s: status %d, want %d", path, w.Code, tt.wantStatus)
				}
				if diff := cmp.Diff(tt.wantBody, w.Body.String()); diff != "" {
					t.Errorf("GET %s (-want +got):\n%s", path, diff)
				}
				if got := w.Header().Get("Retry-After"); got != tt.wantRetry {
					t.Errorf("GET %s: Retry-After %q, want %q", path, got, tt.wantRetry)
				}
				if got := w.Header().Get("Cache-Control"); got != "no-store" {
					t.Errorf("GET %s: Cache-Control %q, want no-store", path, got)
				}
			}
			if n := h.cluster.liveReads.Load(); n != 0 {
				t.Errorf("%d reads of the API server, want 0", n)
			}
		})
	}
}

// fixedQueue always answers the same. A negative wait is one that is not known.
type fixedQueue struct {
	position int
	wait     time.Duration
}

func (q fixedQueue) Position(string, string) (int, *time.Duration, bool) {
	if q.wait < 0 {
		return q.position, nil, true
	}
	return q.position, &q.wait, true
}

func (q fixedQueue) EstimatedWait(string) (time.Duration, time.Time, bool) {
	return q.wait, testStart, q.wait >= 0
}

func TestReadThrough(t *testing.T) {
	id := func(age time.Duration) string {
		id := uuid.Must(uuid.NewV7())
		ms := testStart.Add(-age).UnixMilli()
		for i := range 6 {
			id[i] = byte(ms >> (8 * (5 - i)))
		}
		return id.String()
	}
	tests := map[string]struct {
		name       string
		exists     bool
		user       string
		fail       error
		wantStatus int
		wantCode   string
		wantReads  int64
	}{
		"created a moment ago":       {name: id(time.Second), exists: true, user: "kim", wantStatus: http.StatusAccepted, wantReads: 1},
		"of another user":            {name: id(time.Second), exists: true, user: "lee", wantStatus: http.StatusNotFound, wantCode: scanapi.CodeResultNotFound, wantReads: 1},
		"deleted":                    {name: id(time.Second), wantStatus: http.StatusNotFound, wantCode: scanapi.CodeResultNotFound, wantReads: 1},
		"deleted long ago":           {name: id(time.Hour), wantStatus: http.StatusNotFound, wantCode: scanapi.CodeResultNotFound},
		"by idempotency key":         {name: uuid.NewSHA1(jobIDNamespace, []byte("x")).String(), exists: true, user: "kim", wantStatus: http.StatusAccepted, wantReads: 1},
		"made with kubectl":          {name: "my-scan", exists: true, user: "kim", wantStatus: http.StatusAccepted, wantReads: 1},
		"no name of an object":       {name: "A_B", wantStatus: http.StatusNotFound, wantCode: scanapi.CodeResultNotFound},
		"escaped slash":              {name: "a%2Fb", wantStatus: http.StatusNotFound, wantCode: scanapi.CodeResultNotFound},
		"the API server is down":     {name: id(time.Second), fail: errRefused, wantStatus: http.StatusServiceUnavailable, wantCode: scanapi.CodeUnavailable, wantReads: 1},
		"the API server is too slow": {name: id(time.Second), fail: errTimeout, wantStatus: http.StatusServiceUnavailable, wantCode: scanapi.CodeUnavailable, wantReads: 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, nil)
			if tt.exists {
				l := newLife(t, tt.name)
				l.scan.Spec.UserID = tt.user
				h.cluster.stored[tt.name] = l.scan
			}
			h.cluster.setFail(tt.fail)
			w := h.call(t, http.MethodGet, "/api/v1/scan/"+tt.name+"/result", "")
			if w.Code != tt.wantStatus {
				t.Errorf("status %d, want %d: %s", w.Code, tt.wantStatus, w.Body)
			}
			if tt.wantCode != "" && problemCode(t, w) != tt.wantCode {
				t.Errorf("problem %s, want %s", w.Body, tt.wantCode)
			}
			if n := h.cluster.liveReads.Load(); n != tt.wantReads {
				t.Errorf("%d reads of the API server, want %d", n, tt.wantReads)
			}
		})
	}
}

func TestReadThroughIsLimited(t *testing.T) {
	h := newHarness(t, nil)
	for range readThroughBurst {
		if w := h.call(t, http.MethodGet, "/api/v1/scan/unknown/result", ""); w.Code != http.StatusNotFound {
			t.Fatalf("status %d, want 404", w.Code)
		}
	}
	w := h.call(t, http.MethodGet, "/api/v1/scan/unknown/result", "")
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" {
		t.Errorf("status %d, Retry-After %q; want 503, 1", w.Code, w.Header().Get("Retry-After"))
	}
	h.clock.Step(time.Second)
	if w := h.call(t, http.MethodGet, "/api/v1/scan/unknown/result", ""); w.Code != http.StatusNotFound {
		t.Errorf("a second later: status %d, want 404", w.Code)
	}
}

func TestCancel(t *testing.T) {
	tests := map[string]struct {
		user       string
		absent     bool
		fail       error
		wantStatus int
		wantCode   string
		wantLeft   int
	}{
		"own":                    {user: "kim", wantStatus: http.StatusNoContent},
		"another user's":         {user: "lee", wantStatus: http.StatusNotFound, wantCode: scanapi.CodeScanNotFound, wantLeft: 1},
		"unknown":                {absent: true, wantStatus: http.StatusNotFound, wantCode: scanapi.CodeScanNotFound},
		"the API server is down": {user: "kim", fail: errRefused, wantStatus: http.StatusServiceUnavailable, wantCode: scanapi.CodeUnavailable, wantLeft: 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, nil)
			if !tt.absent {
				l := newLife(t, "job")
				l.scan.Spec.UserID = tt.user
				h.cluster.put(l.scan)
			}
			h.cluster.setFail(tt.fail)
			w := h.call(t, http.MethodDelete, "/api/v1/scan/job", "")
			if w.Code != tt.wantStatus {
				t.Errorf("status %d, want %d: %s", w.Code, tt.wantStatus, w.Body)
			}
			if tt.wantCode != "" && problemCode(t, w) != tt.wantCode {
				t.Errorf("problem %s, want %s", w.Body, tt.wantCode)
			}
			if got := h.cluster.count(); got != tt.wantLeft {
				t.Errorf("%d scans are left, want %d", got, tt.wantLeft)
			}
		})
	}
}
