package controllers

import (
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/budget"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

func secret(data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "provider-key"}, Data: data}
}

func TestKeyReader(t *testing.T) {
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
			got, err := (&KeyReader{Live: newClient(t, &calls{}, objs...)}).Read(t.Context(), makeBudget())
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
	var n calls
	clk := clocktesting.NewFakeClock(t0)
	c := newClient(t, &n, makeBudget(), secret(map[string][]byte{"api-key": []byte("sk-1")}))
	recorder := events.NewFakeRecorder(100)
	r := &TokenBudgetReconciler{
		Client: c, Clock: clk, Keys: &KeyReader{Live: c}, Recorder: recorder, pace: newPace(clk),
		Scheduler:       scheduler.New(scheduler.Options{Clock: clk, Pack: knowledge.Default(), Log: logr.Discard(), Incarnation: "t"}),
		DefaultEndpoint: "https://api.example.org/v1",
	}
	for range 10 {
		if _, err := r.Reconcile(t.Context(), request("b")); err != nil {
			t.Fatal(err)
		}
		clk.Step(statusInterval)
	}
	if n.patches != 1 {
		t.Errorf("%d status patches of an idle budget, want 1", n.patches)
	}
	b := &v1alpha1.TokenBudget{}
	if err := c.Get(t.Context(), request("b").NamespacedName, b); err != nil {
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
	if _, err := r.Reconcile(t.Context(), request("b")); err != nil {
		t.Fatal(err)
	}
	if len(recorder.Events) != 1 {
		t.Errorf("%d events for a lost Secret, want 1", len(recorder.Events))
	}
}

func TestBudgetConditions(t *testing.T) {
	ready := scheduler.Key{Ready: true, Reason: v1alpha1.ReasonKeyFound, Message: "found"}
	quota := func(b *v1alpha1.TokenBudget) {
		b.Spec.Quota = &v1alpha1.TokenQuota{Tokens: 1000, Period: v1alpha1.QuotaPerDay}
	}
	tests := map[string]struct {
		key   scheduler.Key
		stats budget.Stats
		spec  func(*v1alpha1.TokenBudget)
		want  map[string]string
	}{
		"well": {
			key:  ready,
			want: map[string]string{"Ready": "True KeyFound", "Throttled": "False WithinLimits", "QuotaExhausted": "False QuotaAvailable"},
		},
		"no Secret": {
			key:  scheduler.Key{Reason: v1alpha1.ReasonSecretNotFound, Message: "create it"},
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
			want: map[string]string{"Ready": "True KeyFound", "Throttled": "False WithinLimits", "QuotaExhausted": "True OwnQuotaExhausted"},
		},
		"within the own quota": {
			key: ready, spec: quota, stats: budget.Stats{QuotaUsed: 999},
			want: map[string]string{"Ready": "True KeyFound", "Throttled": "False WithinLimits", "QuotaExhausted": "False QuotaAvailable"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b := makeBudget()
			if tc.spec != nil {
				tc.spec(b)
			}
			computeBudgetStatus(b, budgetInput{key: tc.key, stats: tc.stats, now: t0.Add(time.Minute)})
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
