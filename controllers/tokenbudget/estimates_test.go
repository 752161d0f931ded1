// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tokenbudget

import (
	"strconv"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/controllers/controllertest"
	"github.com/eco2-team/scan-operator/controllers/statusthrottle"
	"github.com/eco2-team/scan-operator/internal/budget"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

func TestCallEstimates(t *testing.T) {
	known := []budget.Estimate{
		{
			Stage: "vision", Model: "gpt-5.1", Ratio: 912, Proofs: 16, At: controllertest.T0.Add(time.Minute + 1234*time.Nanosecond),
			Usual: budget.Expectation{Charge: 1057.5, Input: 311.4, Output: 96.6, Seconds: 5.3217, Samples: 90},
		},
		{Stage: "answer", Model: "gpt-5.1", Ratio: 1000, At: controllertest.T0},
	}
	want := []v1alpha1.CallEstimate{
		{Stage: "answer", Model: "gpt-5.1", ReservedPercent: 100, LastCallAt: metav1.NewMicroTime(controllertest.T0)},
		{
			Stage: "vision", Model: "gpt-5.1", ReservedPercent: 92, ChargeSamples: 16, Calls: 90,
			ChargeTokens: 1058, InputTokens: 311, OutputTokens: 97, DurationMilliseconds: 5322,
			LastCallAt: metav1.NewMicroTime(controllertest.T0.Add(time.Minute + time.Microsecond)),
		},
	}
	if diff := cmp.Diff(want, callEstimates(known)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	known = nil
	for i := range 2 * maxEstimates {
		known = append(known, budget.Estimate{Stage: "vision", Model: "m" + strconv.Itoa(100-i), At: controllertest.T0.Add(-time.Duration(i) * time.Second)})
	}
	list := callEstimates(known)
	if len(list) != maxEstimates || list[0].Model != "m100" || list[1].Model != "m93" || list[maxEstimates-1].Model != "m99" {
		t.Errorf("%d estimates, want the latest %d in the order of their models: %+v", len(list), maxEstimates, list)
	}
}

func TestWorthWriting(t *testing.T) {
	status := func(calls int64, ends ...time.Duration) *v1alpha1.TokenBudgetStatus {
		s := &v1alpha1.TokenBudgetStatus{Totals: v1alpha1.BudgetTotals{Calls: calls}}
		for i, end := range ends {
			s.Estimates = append(s.Estimates, v1alpha1.CallEstimate{
				Stage: "vision", Model: "m" + strconv.Itoa(i), LastCallAt: metav1.NewMicroTime(controllertest.T0.Add(end)),
			})
		}
		return s
	}
	tests := map[string]struct {
		before, after *v1alpha1.TokenBudgetStatus
		want          bool
	}{
		"nothing new":                        {status(1, 0), status(1, 0), false},
		"a call":                             {status(1, 0), status(2, time.Second), true},
		"the first estimate":                 {status(1), status(1, 0), true},
		"estimates of another budget's call": {status(1, 0, time.Second), status(1, 0, time.Minute), false},
		"estimates a minute later":           {status(1, 0, time.Second), status(1, 0, time.Minute+time.Second), true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := worthWriting(tc.before, tc.after); got != tc.want {
				t.Errorf("worth writing: %t, want %t", got, tc.want)
			}
		})
	}
}

// TestEstimatesGoFromLeaderToLeader has a leader find what another one wrote and write the same.
func TestEstimatesGoFromLeaderToLeader(t *testing.T) {
	var n controllertest.Calls
	clk := clocktesting.NewFakeClock(controllertest.T0)
	written := controllertest.MakeBudget()
	written.Status.Estimates = []v1alpha1.CallEstimate{
		{
			Stage: "answer", Model: written.Spec.Models[0], ReservedPercent: 100, Calls: 7,
			ChargeTokens: 1100, InputTokens: 350, OutputTokens: 120, DurationMilliseconds: 6300, LastCallAt: metav1.NewMicroTime(controllertest.T0.Add(-time.Minute)),
		},
		{
			Stage: "vision", Model: written.Spec.Models[0], ReservedPercent: 87, ChargeSamples: 12, Calls: 9,
			ChargeTokens: 900, InputTokens: 250, OutputTokens: 60, DurationMilliseconds: 4800, LastCallAt: metav1.NewMicroTime(controllertest.T0.Add(-time.Hour)),
		},
	}
	c := controllertest.NewClient(t, &n, written, secret(map[string][]byte{"api-key": []byte("sk-1")}))
	keys := &SecretChecker{APIReader: c}
	key, err := keys.Check(t.Context(), written)
	if err != nil {
		t.Fatal(err)
	}
	sched := scheduler.New(scheduler.Options{Clock: clk, Pack: knowledge.Default(), Log: logr.Discard(), LeaderTerm: "t"})
	sched.Restore(scheduler.State{Budgets: []*v1alpha1.TokenBudget{written}, Keys: []scheduler.KeyState{key}})
	r := &Reconciler{
		Client: c, Clock: clk, Keys: keys, Recorder: events.NewFakeRecorder(100), throttle: statusthrottle.New(clk), Scheduler: sched,
	}
	if _, err := r.Reconcile(t.Context(), controllertest.Request("b")); err != nil {
		t.Fatal(err)
	}
	b := controllertest.MakeBudget()
	if err := c.Get(t.Context(), controllertest.Request("b").NamespacedName, b); err != nil {
		t.Fatal(err)
	}
	if n.Patches != 1 || len(b.Status.Conditions) == 0 {
		t.Fatalf("%d status patches, want 1 with the conditions of the new leader", n.Patches)
	}
	equal := cmp.Comparer(func(a, b metav1.MicroTime) bool { return a.Equal(&b) })
	if diff := cmp.Diff(written.Status.Estimates, b.Status.Estimates, equal); diff != "" {
		t.Errorf("what the new leader knows (-want +got):\n%s", diff)
	}
}
