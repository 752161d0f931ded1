// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tokenbudget

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/controllers/controllertest"
	"github.com/eco2-team/scan-operator/controllers/statusthrottle"
	"github.com/eco2-team/scan-operator/internal/budget"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

func secret(data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "provider-key"}, Data: data}
}

func TestSecretChecker(t *testing.T) {
	tests := map[string]struct {
		secret     *corev1.Secret
		wantReady  bool
		wantReason string
	}{
		"no Secret":    {wantReason: v1alpha1.ReasonSecretNotFound},
		"no key in it": {secret: secret(map[string][]byte{"other": []byte("x")}), wantReason: v1alpha1.ReasonSecretKeyNotFound},
		"an empty key": {secret: secret(map[string][]byte{"api-key": {}}), wantReason: v1alpha1.ReasonSecretKeyNotFound},
		"a key":        {secret: secret(map[string][]byte{"api-key": []byte("sk-1")}), wantReady: true, wantReason: v1alpha1.ReasonKeyFound},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var objs []client.Object
			if tc.secret != nil {
				objs = append(objs, tc.secret)
			}
			got, err := (&SecretChecker{APIReader: controllertest.NewClient(t, &controllertest.Calls{}, objs...)}).Check(t.Context(), controllertest.MakeBudget())
			if err != nil {
				t.Fatal(err)
			}
			if got.Ready != tc.wantReady || got.Reason != tc.wantReason || (got.Version != "") != tc.wantReady {
				t.Errorf("key = %+v, want ready %t, reason %s", got, tc.wantReady, tc.wantReason)
			}
		})
	}
}

func TestTokenBudgetComesToRest(t *testing.T) {
	var n controllertest.Calls
	clk := clocktesting.NewFakeClock(controllertest.T0)
	c := controllertest.NewClient(t, &n, controllertest.MakeBudget(), secret(map[string][]byte{"api-key": []byte("sk-1")}))
	recorder := events.NewFakeRecorder(100)
	r := &Reconciler{
		Client: c, Clock: clk, Keys: &SecretChecker{APIReader: c}, Recorder: recorder, throttle: statusthrottle.New(clk),
		Scheduler:       scheduler.New(scheduler.Options{Clock: clk, Pack: knowledge.Default(), Log: logr.Discard(), LeaderTerm: "t"}),
		DefaultEndpoint: "https://api.example.org/v1",
	}
	r.Scheduler.Restore(scheduler.State{})
	for range 10 {
		if _, err := r.Reconcile(t.Context(), controllertest.Request("b")); err != nil {
			t.Fatal(err)
		}
		clk.Step(statusthrottle.Interval)
	}
	if n.Patches != 1 {
		t.Errorf("%d status patches of an idle budget, want 1", n.Patches)
	}
	b := &v1alpha1.TokenBudget{}
	if err := c.Get(t.Context(), controllertest.Request("b").NamespacedName, b); err != nil {
		t.Fatal(err)
	}
	if b.Status.Endpoint != "https://api.example.org/v1" || b.Status.Limits.TokensPerMinute != 60_000 || b.Status.Bucket == nil {
		t.Errorf("status = %+v", b.Status)
	}
	if len(recorder.Events) != 0 {
		t.Errorf("%d events for a budget that is well", len(recorder.Events))
	}

	if err := c.Delete(t.Context(), secret(nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Reconcile(t.Context(), controllertest.Request("b")); err != nil {
		t.Fatal(err)
	}
	if len(recorder.Events) != 1 {
		t.Errorf("%d events for a lost Secret, want 1", len(recorder.Events))
	}
}

// TestAStatusIsNotWrittenBeforeItIsRead: a leader whose scheduler is not loaded yet must leave alone what it is to be
// loaded from.
func TestAStatusIsNotWrittenBeforeItIsRead(t *testing.T) {
	var n controllertest.Calls
	clk := clocktesting.NewFakeClock(controllertest.T0)
	c := controllertest.NewClient(t, &n, controllertest.MakeBudget(), secret(map[string][]byte{"api-key": []byte("sk-1")}))
	sched := scheduler.New(scheduler.Options{Clock: clk, Pack: knowledge.Default(), Log: logr.Discard(), LeaderTerm: "t"})
	r := &Reconciler{
		Client: c, Clock: clk, Keys: &SecretChecker{APIReader: c}, Recorder: events.NewFakeRecorder(10), throttle: statusthrottle.New(clk), Scheduler: sched,
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if _, err := r.Reconcile(stopped, controllertest.Request("b")); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v before the scheduler is loaded, want that of the context", err)
	}
	if _, known := sched.BudgetStats(controllertest.Request("b").NamespacedName); known || n.Patches != 0 {
		t.Errorf("before it is loaded the scheduler knows the budget: %t; %d status patches, want none", known, n.Patches)
	}
	done := make(chan error)
	go func() {
		_, err := r.Reconcile(t.Context(), controllertest.Request("b"))
		done <- err
	}()
	sched.Restore(scheduler.State{})
	if err := <-done; err != nil || n.Patches != 1 {
		t.Errorf("error %v and %d status patches after the scheduler is loaded, want one patch", err, n.Patches)
	}
}

// TestBudgetEventsTellOfTransitions, and of nothing else.
func TestBudgetEventsTellOfTransitions(t *testing.T) {
	condition := func(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
		return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
	}
	ready := condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonKeyFound, "found")
	missing := condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotFound, "create it")
	rejected := condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonKeyRejected, "wrong key")
	calm := condition(v1alpha1.ConditionThrottled, metav1.ConditionFalse, v1alpha1.ReasonWithinLimits, "calm")
	limited := condition(v1alpha1.ConditionThrottled, metav1.ConditionTrue, v1alpha1.ReasonRateLimited, "limited")
	reworded := limited
	reworded.Message = "still limited"
	tests := map[string]struct {
		before, after []metav1.Condition
		want          []string
	}{
		"a budget that begins well":  {after: []metav1.Condition{ready, calm}},
		"a budget that begins badly": {after: []metav1.Condition{missing, calm}, want: []string{"Warning SecretNotFound create it"}},
		"nothing changed":            {before: []metav1.Condition{missing, limited}, after: []metav1.Condition{missing, limited}},
		"the words changed":          {before: []metav1.Condition{limited}, after: []metav1.Condition{reworded}},
		"the reason changed":         {before: []metav1.Condition{missing}, after: []metav1.Condition{rejected}, want: []string{"Warning KeyRejected wrong key"}},
		"it is well again":           {before: []metav1.Condition{rejected}, after: []metav1.Condition{ready}, want: []string{"Normal KeyFound found"}},
		"throttled":                  {before: []metav1.Condition{ready, calm}, after: []metav1.Condition{ready, limited}, want: []string{"Warning RateLimited limited"}},
		"throttled no more":          {before: []metav1.Condition{ready, limited}, after: []metav1.Condition{ready, calm}, want: []string{"Normal WithinLimits calm"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			recorder := events.NewFakeRecorder(10)
			before, after := controllertest.MakeBudget(), controllertest.MakeBudget()
			before.Status.Conditions, after.Status.Conditions = tc.before, tc.after
			(&Reconciler{Recorder: recorder}).announce(t.Context(), before, after)
			close(recorder.Events)
			var got []string
			for e := range recorder.Events {
				got = append(got, e)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTheProvidersWordsAreShown: who reads the condition need not look for the provider's answer elsewhere.
func TestTheProvidersWordsAreShown(t *testing.T) {
	const word = "Incorrect API key provided: sk-***."
	for _, hold := range []budget.HoldReason{budget.HoldUnauthorized, budget.HoldQuotaExhausted} {
		b := controllertest.MakeBudget()
		computeBudgetStatus(b, budgetInput{
			key: scheduler.KeyState{Ready: true, Reason: v1alpha1.ReasonKeyFound}, stats: budget.Stats{Hold: hold}, providerError: word, now: controllertest.T0,
		})
		var messages []string
		for _, c := range b.Status.Conditions {
			messages = append(messages, c.Message)
		}
		if all := strings.Join(messages, "\n"); !strings.Contains(all, word) {
			t.Errorf("held as %s the conditions say %q, want the provider's words", hold, all)
		}
	}
}

func TestBudgetConditions(t *testing.T) {
	ready := scheduler.KeyState{Ready: true, Reason: v1alpha1.ReasonKeyFound, Message: "found"}
	quota := func(b *v1alpha1.TokenBudget) {
		b.Spec.Quota = &v1alpha1.TokenQuota{Tokens: 1000, Period: v1alpha1.QuotaPerDay}
	}
	tests := map[string]struct {
		key   scheduler.KeyState
		stats budget.Stats
		spec  func(*v1alpha1.TokenBudget)
		want  map[string]string
	}{
		"well": {
			key:  ready,
			want: map[string]string{"Ready": "True KeyFound", "Throttled": "False WithinLimits", "QuotaExhausted": "False QuotaAvailable"},
		},
		"no Secret": {
			key:  scheduler.KeyState{Reason: v1alpha1.ReasonSecretNotFound, Message: "create it"},
			want: map[string]string{"Ready": "False SecretNotFound", "Throttled": "False WithinLimits", "QuotaExhausted": "False QuotaAvailable"},
		},
		"a rejected key": {
			key: ready, stats: budget.Stats{Hold: budget.HoldUnauthorized},
			want: map[string]string{"Ready": "False KeyRejected", "Throttled": "False WithinLimits", "QuotaExhausted": "False QuotaAvailable"},
		},
		"throttled": {
			key: ready, stats: budget.Stats{Throttled: true, RatePercent: 100},
			want: map[string]string{"Ready": "True KeyFound", "Throttled": "True RateLimited", "QuotaExhausted": "False QuotaAvailable"},
		},
		"slowed down": {
			key: ready, stats: budget.Stats{Throttled: true, RatePercent: 50},
			want: map[string]string{"Ready": "True KeyFound", "Throttled": "True SlowDown", "QuotaExhausted": "False QuotaAvailable"},
		},
		"the provider's quota": {
			key: ready, stats: budget.Stats{Hold: budget.HoldQuotaExhausted},
			want: map[string]string{"Ready": "True KeyFound", "Throttled": "False WithinLimits", "QuotaExhausted": "True ProviderQuotaExhausted"},
		},
		"the own quota": {
			key: ready, spec: quota, stats: budget.Stats{QuotaUsed: 900, QuotaExhausted: true},
			want: map[string]string{"Ready": "True KeyFound", "Throttled": "False WithinLimits", "QuotaExhausted": "True SpecQuotaExhausted"},
		},
		"within the own quota": {
			key: ready, spec: quota, stats: budget.Stats{QuotaUsed: 999},
			want: map[string]string{"Ready": "True KeyFound", "Throttled": "False WithinLimits", "QuotaExhausted": "False QuotaAvailable"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b := controllertest.MakeBudget()
			if tc.spec != nil {
				tc.spec(b)
			}
			computeBudgetStatus(b, budgetInput{key: tc.key, stats: tc.stats, now: controllertest.T0.Add(time.Minute)})
			for _, c := range b.Status.Conditions {
				if got := string(c.Status) + " " + c.Reason; got != tc.want[c.Type] {
					t.Errorf("%s = %s, want %s", c.Type, got, tc.want[c.Type])
				}
				if c.Message == "" {
					t.Errorf("%s has no message", c.Type)
				}
			}
			if len(b.Status.Conditions) != len(tc.want) {
				t.Errorf("%d conditions, want %d", len(b.Status.Conditions), len(tc.want))
			}
		})
	}
}
