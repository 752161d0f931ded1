// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package retention

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/controllers/controllertest"
)

func TestFinishedScansAreCapped(t *testing.T) {
	finished := func(name string, age time.Duration) *v1alpha1.ScanRequest {
		s := controllertest.MakeScan(controllertest.FinishedAt(controllertest.T0.Add(-age)))
		s.Name, s.UID = name, types.UID("uid-"+name)
		return s
	}
	running := controllertest.MakeScan()
	replaced := finished("c", 3*time.Hour) // an older one of a name that is in use again
	replaced.UID = "uid-former"
	tests := map[string]struct {
		most        int
		noted       []*v1alpha1.ScanRequest
		gone        types.UID
		want        []string
		wantDeletes int
	}{
		"fewer than allowed": {most: 3, want: []string{"a", "b", "c", "d"}},
		"too many: the oldest go": {
			most: 2, want: []string{"a", "b", "d"}, wantDeletes: 1,
		},
		"none allowed, what runs stays": {most: 0, want: []string{"a"}, wantDeletes: 3},
		"one was deleted by others":     {most: 2, gone: "uid-c", want: []string{"a", "b", "c", "d"}},
		"a name that is in use again":   {most: 3, noted: []*v1alpha1.ScanRequest{replaced}, want: []string{"a", "b", "c", "d"}, wantDeletes: 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var n controllertest.Calls
			stored := []*v1alpha1.ScanRequest{running, finished("b", time.Minute), finished("c", time.Hour), finished("d", time.Second)}
			c := controllertest.NewClient(t, &n)
			r := &Reconciler{Client: c, Max: tc.most}
			for _, s := range stored {
				s = s.DeepCopy()
				if err := c.Create(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				r.note(s)
				r.note(s) // an update
			}
			for _, s := range tc.noted {
				r.note(s)
			}
			r.forget("ns", tc.gone)
			if _, err := r.Reconcile(t.Context(), controllertest.Request("")); err != nil {
				t.Fatal(err)
			}
			var left v1alpha1.ScanRequestList
			if err := c.List(t.Context(), &left); err != nil {
				t.Fatal(err)
			}
			var got []string
			for i := range left.Items {
				got = append(got, left.Items[i].Name)
			}
			slices.Sort(got)
			if diff := cmp.Diff(tc.want, got); diff != "" || n.Deletes != tc.wantDeletes {
				t.Errorf("%d deletes, want %d; left: %s", n.Deletes, tc.wantDeletes, diff)
			}
		})
	}
}

// TestFinishedScansGoInBatches: many surplus scans do not take the API server from the scheduler.
func TestFinishedScansGoInBatches(t *testing.T) {
	var n controllertest.Calls
	r := &Reconciler{Client: controllertest.NewClient(t, &n), Max: 5}
	for i := range deleteBatch + 15 {
		s := controllertest.MakeScan(controllertest.FinishedAt(controllertest.T0.Add(time.Duration(i) * time.Second)))
		s.Name, s.UID = "s"+strconv.Itoa(i), types.UID(strconv.Itoa(i))
		if got, want := r.note(s), i >= 5; got != want {
			t.Fatalf("scan %d: too many is %t, want %t", i, got, want)
		}
	}
	for _, want := range []int{deleteBatch, deleteBatch + 10} {
		result, err := r.Reconcile(t.Context(), controllertest.Request(""))
		if err != nil || n.Deletes != want || result.RequeueAfter != deletePause {
			t.Errorf("%d deletes, requeue after %s, error %v; want %d after %s", n.Deletes, result.RequeueAfter, err, want, deletePause)
		}
	}
	if result, err := r.Reconcile(t.Context(), controllertest.Request("")); err != nil || result.RequeueAfter != 0 || n.Deletes != deleteBatch+10 {
		t.Errorf("%d deletes when there were no more, requeue after %s, error %v", n.Deletes, result.RequeueAfter, err)
	}
}
