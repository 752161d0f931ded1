// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/queuestatus"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

type fakeScheduler struct {
	positions   map[types.NamespacedName]scheduler.QueuePosition
	newScanWait time.Duration
}

func (f fakeScheduler) QueuePosition(n types.NamespacedName) (scheduler.QueuePosition, bool) {
	st, ok := f.positions[n]
	return st, ok
}

func (f fakeScheduler) EstimateNewScanWait(string) (time.Duration, bool) {
	return f.newScanWait, f.newScanWait > 0
}

func TestHandler(t *testing.T) {
	f := fakeScheduler{positions: map[types.NamespacedName]scheduler.QueuePosition{
		{Namespace: "ns", Name: "a"}:    {Ahead: 3, TokensAhead: 4500, Wait: 1500 * time.Millisecond, WaitKnown: true, Reason: "WaitingForTokens", Message: "m"},
		{Namespace: "ns", Name: "b"}:    {Reason: "Suspended"},
		{Namespace: "other", Name: "c"}: {Reason: "Suspended"},
	}, newScanWait: 2 * time.Second}
	wait, newcomer := 1.5, 2.0
	tests := map[string]struct {
		body     string
		wantCode int
		want     queuestatus.Response
	}{
		"known, unknown and another namespace's": {
			body: `{"names":["a","b","c","d"]}`, wantCode: http.StatusOK,
			want: queuestatus.Response{Scans: map[string]queuestatus.QueuePosition{
				"a": {Ahead: 3, TokensAhead: 4500, WaitSeconds: &wait, Reason: "WaitingForTokens", Message: "m"},
				"b": {Reason: "Suspended"},
			}, NewScanWaitSeconds: &newcomer},
		},
		"no names":   {body: `{}`, wantCode: http.StatusOK, want: queuestatus.Response{Scans: map[string]queuestatus.QueuePosition{}, NewScanWaitSeconds: &newcomer}},
		"no request": {body: `[`, wantCode: http.StatusBadRequest},
		"too many":   {body: `{"names":[` + strings.Repeat(`"x",`, queuestatus.MaxNames) + `"x"]}`, wantCode: http.StatusBadRequest},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			rec := httptest.NewRecorder()
			req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/namespaces/ns/positions", bytes.NewBufferString(tc.body))
			Handler(f).ServeHTTP(rec, req)
			if rec.Code != tc.wantCode {
				t.Fatalf("status %d, want %d: %s", rec.Code, tc.wantCode, rec.Body)
			}
			if tc.wantCode != http.StatusOK {
				return
			}
			var got queuestatus.Response
			if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("response (-want +got):\n%s", diff)
			}
		})
	}
}

// The wire types import nothing of this module, so that the one reason that the client needs is written twice.
func TestReasonSuspendedIsTheConditionsReason(t *testing.T) {
	if queuestatus.ReasonSuspended != v1alpha1.ReasonSuspended {
		t.Errorf("queuestatus.ReasonSuspended = %q, want %q", queuestatus.ReasonSuspended, v1alpha1.ReasonSuspended)
	}
}
