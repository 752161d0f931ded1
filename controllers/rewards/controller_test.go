// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package rewards

import (
	"context"
	"errors"
	"testing"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/controllers/controllertest"
)

// poster counts posts and fails the first ones.
type poster struct{ posts, failures int }

func (p *poster) Post(context.Context, *v1alpha1.ScanRequest) error {
	p.posts++
	if p.posts <= p.failures {
		return errors.New("502")
	}
	return nil
}

func withReward(s *v1alpha1.ScanRequest) {
	s.Status.Result = &v1alpha1.ScanResult{Reward: &v1alpha1.Reward{Name: "페티"}}
}

func TestRewardWebhook(t *testing.T) {
	tests := map[string]struct {
		scan      *v1alpha1.ScanRequest
		failures  int
		wantPosts int // after four reconciliations
		wantErrs  int
	}{
		"a reward is posted once":         {scan: controllertest.MakeScan(controllertest.FinishedAt(controllertest.T0), withReward), wantPosts: 1},
		"until the receiver has taken it": {scan: controllertest.MakeScan(controllertest.FinishedAt(controllertest.T0), withReward), failures: 2, wantPosts: 3, wantErrs: 2},
		"no reward, no post":              {scan: controllertest.MakeScan(controllertest.FinishedAt(controllertest.T0))},
		"an unfinished scan has none yet": {scan: controllertest.MakeScan(withReward)},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var n controllertest.Calls
			p := &poster{failures: tc.failures}
			r := &Reconciler{Client: controllertest.NewClient(t, &n, tc.scan), Poster: p}
			errs := 0
			for range 4 {
				if _, err := r.Reconcile(t.Context(), controllertest.Request("a")); err != nil {
					errs++
				}
			}
			if p.posts != tc.wantPosts || errs != tc.wantErrs || n != (controllertest.Calls{}) {
				t.Errorf("%d posts, %d errors, writes %+v; want %d, %d, none", p.posts, errs, n, tc.wantPosts, tc.wantErrs)
			}
			if err := r.Client.Delete(t.Context(), tc.scan); err != nil {
				t.Fatal(err)
			}
			if _, err := r.Reconcile(t.Context(), controllertest.Request("a")); err != nil {
				t.Fatal(err)
			}
			if len(r.posted) != 0 {
				t.Error("a deleted scan is remembered")
			}
		})
	}
}
