// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"cmp"
	"fmt"
	"net/http"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// However far the watch is behind, a scan is visible at once where it was created, and the API server is asked once
// for one that was created elsewhere.
func TestAScanIsVisibleBeforeTheWatchDeliversIt(t *testing.T) {
	for name, elsewhere := range map[string]bool{"created here": false, "created elsewhere": true} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, nil)
			h.cluster.watching = false
			job, wantReads := "job", int64(1)
			if elsewhere {
				h.cluster.stored[job] = newLife(t, job).scan
			} else {
				w := h.call(t, http.MethodPost, scanapi.SubmitPath, goodBody)
				job, wantReads = decode[scanapi.SubmitResponse](t, w).JobID, 0
			}
			steps := []struct {
				name       string
				do         func()
				method     string
				user       string
				wantStatus int
				wantReads  int64
			}{
				{name: "first poll", wantStatus: 202, wantReads: wantReads},
				{name: "second poll", wantStatus: 202, wantReads: wantReads},
				{name: "another user's poll", user: "lee", wantStatus: 404, wantReads: wantReads},
				{name: "a poll when it was long ago", do: func() { h.clock.Step(createdTTL + time.Second) }, wantStatus: 202, wantReads: wantReads + 1},
				{name: "canceled", method: http.MethodDelete, wantStatus: 204, wantReads: wantReads + 1},
				{name: "a poll after that", wantStatus: 404, wantReads: wantReads + 2},
			}
			for _, s := range steps {
				if s.do != nil {
					s.do()
				}
				method, path := cmp.Or(s.method, http.MethodGet), scanapi.ResultPath(job)
				if method == http.MethodDelete {
					path = scanapi.ScanPath(job)
				}
				w := h.call(t, method, path, "", scanapi.UserIDHeader, cmp.Or(s.user, "kim"))
				if w.Code != s.wantStatus {
					t.Errorf("%s: status %d, want %d: %s", s.name, w.Code, s.wantStatus, w.Body)
				}
				if n := h.cluster.liveReads.Load(); n != s.wantReads {
					t.Errorf("%s: %d reads of the API server, want %d", s.name, n, s.wantReads)
				}
			}
			if len(h.created.scans) != 0 {
				t.Errorf("%d scans are still remembered", len(h.created.scans))
			}
		})
	}
}

func TestAScanIsForgottenWhenTheWatchDeliversIt(t *testing.T) {
	for name, watching := range map[string]bool{"before it is remembered": true, "after it is remembered": false} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, nil)
			h.cluster.watching = watching
			job := decode[scanapi.SubmitResponse](t, h.call(t, http.MethodPost, scanapi.SubmitPath, goodBody)).JobID
			h.cluster.deliver(job)
			if known := h.created.get(job); known != nil {
				t.Error("the scan is still remembered")
			}
		})
	}
}

func TestCreatedCacheIsBounded(t *testing.T) {
	c := clocktesting.NewFakePassiveClock(testStart)
	r := newCreatedCache(c)
	scan := newLife(t, "job").scan
	for i := range maxCreated + 1 {
		named := scan.DeepCopy()
		named.Name = fmt.Sprint("job-", i)
		r.put(named)
	}
	if len(r.scans) != maxCreated || r.get(fmt.Sprint("job-", maxCreated)) != nil {
		t.Errorf("%d scans are kept, want %d", len(r.scans), maxCreated)
	}
	c.SetTime(testStart.Add(createdTTL + time.Second))
	r.put(scan)
	if len(r.scans) != 1 || r.get("job") == nil {
		t.Errorf("%d scans are kept after the others have expired, want 1", len(r.scans))
	}
}
