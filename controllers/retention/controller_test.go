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
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/controllers/controllertest"
)

// later is a time at which all scans of the tests are old enough to be deleted.
var later = clocktesting.NewFakePassiveClock(controllertest.T0.Add(time.Hour))

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
			r := &Reconciler{Client: c, Clock: later, Max: tc.most}
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
	r := &Reconciler{Client: controllertest.NewClient(t, &n), Clock: later, Max: 5}
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

// One busy user's scans evicted everybody's results, some of them seconds old: a namespace of 10,000 finished scans held
// less than four minutes of them.
func TestABusyUserEvictsTheirOwnScansOnly(t *testing.T) {
	var n controllertest.Calls
	c := controllertest.NewClient(t, &n)
	clk := clocktesting.NewFakePassiveClock(controllertest.T0.Add(MinAge + 10*time.Second))
	r := &Reconciler{Client: c, Clock: clk, Max: 10}
	add := func(user string, count int, finishedAt time.Time) {
		for i := range count {
			s := controllertest.MakeScan(controllertest.FinishedAt(finishedAt.Add(time.Duration(i) * time.Second)))
			s.Name, s.Spec.UserID = user+strconv.Itoa(i), user
			s.UID = types.UID(s.Name)
			if err := c.Create(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			r.note(s)
		}
	}
	add("quiet", 5, controllertest.T0.Add(-time.Hour))
	add("busy", 20, controllertest.T0)
	left := func() (quiet, busy int) {
		var list v1alpha1.ScanRequestList
		if err := c.List(t.Context(), &list); err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			if list.Items[i].Spec.UserID == "quiet" {
				quiet++
			} else {
				busy++
			}
		}
		return quiet, busy
	}
	if _, err := r.Reconcile(t.Context(), controllertest.Request("")); err != nil {
		t.Fatal(err)
	}
	// Eleven of the busy user's are MinAge old. The other nine are not: they stay, though that is more than Max.
	if quiet, busy := left(); quiet != 5 || busy != 9 {
		t.Fatalf("%d of the quiet user's scans and %d of the busy one's are left, want 5 and 9", quiet, busy)
	}
	result, err := r.Reconcile(t.Context(), controllertest.Request(""))
	if err != nil || result.RequeueAfter != time.Second {
		t.Errorf("requeue after %s, error %v; want the second until the next one is old enough", result.RequeueAfter, err)
	}
	clk.SetTime(later.Now())
	if _, err := r.Reconcile(t.Context(), controllertest.Request("")); err != nil {
		t.Fatal(err)
	}
	if quiet, busy := left(); quiet != 5 || busy != 5 {
		t.Errorf("%d of the quiet user's scans and %d of the busy one's are left, want 5 each", quiet, busy)
	}
}
