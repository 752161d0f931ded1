// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package rewardhook

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

func scan() *v1alpha1.ScanRequest {
	return &v1alpha1.ScanRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "job-1", UID: "uid-1"},
		Spec:       v1alpha1.ScanRequestSpec{UserID: "me"},
		Status: v1alpha1.ScanRequestStatus{
			FinishedAt: metav1.NewMicroTime(time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)),
			Result:     &v1alpha1.ScanResult{Reward: &v1alpha1.Reward{Name: "페티", Type: "plastic", Dialog: "안녕", MatchReason: "bottle"}},
		},
	}
}

func TestPost(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		answer   int
		wantCode int // of the StatusError; zero for none
	}{
		"taken":                    {answer: http.StatusAccepted},
		"the receiver is broken":   {answer: http.StatusBadGateway, wantCode: http.StatusBadGateway},
		"a redirect is no success": {answer: http.StatusNotModified, wantCode: http.StatusNotModified},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var got Event
			var header http.Header
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				header = r.Header
				if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
					t.Error(err)
				}
				w.WriteHeader(tc.answer)
			}))
			defer server.Close()
			err := (&Client{URL: server.URL, TokenFile: token, HTTP: server.Client()}).Post(t.Context(), scan())
			var status *StatusError
			if tc.wantCode == 0 && err != nil || tc.wantCode != 0 && (!errors.As(err, &status) || status.Code != tc.wantCode) {
				t.Errorf("error = %v, want status %d", err, tc.wantCode)
			}
			want := Event{
				ScanID: "job-1", UserID: "me", FinishedAt: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC),
				Reward: Reward{Name: "페티", Type: "plastic", Dialog: "안녕", MatchReason: "bottle"},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
			if header.Get("Idempotency-Key") != "uid-1" || header.Get("Authorization") != "Bearer secret" {
				t.Errorf("headers = %v", header)
			}
		})
	}
}

func TestPostWithoutReceiver(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	var status *StatusError
	if err := (&Client{URL: server.URL}).Post(t.Context(), scan()); err == nil || errors.As(err, &status) {
		t.Errorf("error = %v, want one of the connection", err)
	}
}
