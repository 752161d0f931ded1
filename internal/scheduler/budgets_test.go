// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

func TestImpossibleScansEnd(t *testing.T) {
	tests := map[string]struct {
		tokensPerMinute int64
		quota           *v1alpha1.TokenQuota
		opts            []scanOption
		wantReason      string
		wantMessage     string
	}{
		"a model no budget serves": {
			tokensPerMinute: 100_000, opts: []scanOption{model("gpt-0")},
			wantReason: v1alpha1.ReasonUnsupportedModel, wantMessage: `"gpt-0"; supported: gpt-5.1`,
		},
		"a call larger than the limit": {
			tokensPerMinute: 700, wantReason: v1alpha1.ReasonRequestTooLarge,
			wantMessage: `TokenBudget "b" allows no more than 700 (tokensPerMinute)`,
		},
		"a call larger than the quota": {
			tokensPerMinute: 100_000, quota: &v1alpha1.TokenQuota{Tokens: 600, Period: v1alpha1.QuotaPerDay},
			wantReason: v1alpha1.ReasonRequestTooLarge, wantMessage: `TokenBudget "b" allows no more than 600 (quota.tokens)`,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.standard(tc.tokensPerMinute) // and no worker: the verdict does not wait for one
			b := w.budget("b", tc.tokensPerMinute)
			b.Spec.Quota = tc.quota
			w.s.BudgetChanged(b, readyKey)
			w.clk.Step(specSettle) // a spec that was just changed ends nothing
			w.create("a", tc.opts...)
			w.settle()
			c := meta.FindStatusCondition(w.get("a").Status.Conditions, v1alpha1.ConditionFinished)
			if c == nil || c.Reason != tc.wantReason || !strings.Contains(c.Message, tc.wantMessage) {
				t.Errorf("finished = %+v, want %s with %q", c, tc.wantReason, tc.wantMessage)
			}
			w.wantIdle()
		})
	}
}

func TestRateLimitedCallHoldsTheBudgetAndNothingIsLost(t *testing.T) {
	w := newWorld(t)
	w.standard(1_000_000, "w1")
	w.create("a")
	w.settle()
	id := w.get("a").Status.Assignment.ID
	if err := w.fold("a", pipeline.Completed{AssignmentID: id, Outcomes: []pipeline.Outcome{{
		Stage: v1alpha1.StageVision, StartedAt: t0, FinishedAt: t0,
		Failure: &pipeline.Failure{Class: v1alpha1.FailureRateLimited, Message: "429", RetryAfter: 3 * time.Second},
	}}}); err != nil {
		t.Fatal(err)
	}
	w.settle()
	if got := w.workerOf("a"); got != "" {
		t.Fatalf("sent again at once, to %s", got)
	}
	for w.workerOf("a") == "" && w.clk.Since(t0) < time.Minute {
		w.clk.SetTime(w.next)
		w.worker("w1", "p", 2)
		w.settle()
	}
	if waited := w.clk.Since(t0); waited < 3*time.Second || waited > 20*time.Second {
		t.Errorf("sent again after %s, want at least the 3 s the provider asked for", waited)
	}
}

func TestUnknownBudgetModelIsHeldUntilTheBudgetExists(t *testing.T) {
	w := newWorld(t)
	p := w.pool("p", v1alpha1.StageVision)
	p.Spec.Budgets = append(p.Spec.Budgets, v1alpha1.BudgetReference{Name: "later", Weight: 1})
	w.s.PoolChanged(p)
	w.s.BudgetChanged(w.budget("b", 100_000), readyKey)
	w.worker("w1", "p", 2)
	w.create("a", model("gpt-new"))
	w.settle()
	if pipeline.IsFinished(&w.get("a").Status) {
		t.Fatal("the scan was rejected although a budget of the pool does not exist yet")
	}
	w.s.BudgetChanged(w.budget("later", 100_000, "gpt-new"), readyKey)
	w.settle()
	if a := w.get("a").Status.Assignment; a == nil || a.Budget != "later" {
		t.Errorf("assignment = %+v, want budget later", a)
	}
}

// TestAnUnchangedBudgetRequeuesNothing: every write of a budget's status is an event. It must not requeue all scans;
// changes of limits, models and key must.
func TestAnUnchangedBudgetRequeuesNothing(t *testing.T) {
	changes := map[string]struct {
		change func(*v1alpha1.TokenBudget, *KeyState)
		want   bool
	}{
		"the status alone": {change: func(b *v1alpha1.TokenBudget, _ *KeyState) { b.ResourceVersion, b.Status.Totals.Calls = "2", 7 }},
		"the limit":        {change: func(b *v1alpha1.TokenBudget, _ *KeyState) { b.Spec.TokensPerMinute = 1000 }, want: true},
		"the models":       {change: func(b *v1alpha1.TokenBudget, _ *KeyState) { b.Spec.Models[0] = "gpt-4o" }, want: true},
		"the key":          {change: func(_ *v1alpha1.TokenBudget, k *KeyState) { k.Version = "2" }, want: true},
	}
	for title, tc := range changes {
		t.Run(title, func(t *testing.T) {
			w := newWorld(t)
			w.s.BudgetChanged(w.budget("b", 100_000), readyKey)
			<-w.s.wakeup
			b, key := w.budget("b", 100_000), readyKey
			tc.change(b, &key)
			w.s.BudgetChanged(b, key)
			if got := len(w.s.wakeup) > 0; got != tc.want {
				t.Errorf("the scheduler was woken: %t, want %t", got, tc.want)
			}
		})
	}
}

// TestARecoveredBudgetCatchesUpNothing: the share that a budget missed while it was unavailable, or before it existed, is
// not added to its share later.
func TestARecoveredBudgetCatchesUpNothing(t *testing.T) {
	w := newWorld(t)
	p := w.pool("p", v1alpha1.StageVision)
	refs := []v1alpha1.BudgetReference{{Name: "one", Weight: 1}, {Name: "three", Weight: 3}, {Name: "new", Weight: 4}}
	p.Spec.Budgets = refs[:2]
	w.s.PoolChanged(p)
	for _, ref := range refs {
		w.s.BudgetChanged(w.budget(ref.Name, 10_000_000), readyKey)
	}
	w.worker("w1", "p", 10_000)
	created := 0
	count := func(scans int) map[string]int {
		n := map[string]int{}
		first := created
		for ; created < first+scans; created++ {
			w.create(fmt.Sprint("s", created))
		}
		w.settle()
		for i := first; i < created; i++ {
			n[w.get(fmt.Sprint("s", i)).Status.Assignment.Budget]++
		}
		return n
	}
	want := func(when string, scans int, want map[string]int) {
		t.Helper()
		if diff := cmp.Diff(want, count(scans)); diff != "" {
			t.Errorf("%s, by budget (-want +got):\n%s", when, diff)
		}
	}
	want("from the start", 100, map[string]int{"one": 25, "three": 75})
	w.s.BudgetChanged(w.budget("three", 10_000_000), KeyState{Reason: v1alpha1.ReasonSecretNotFound})
	want("while one is away", 200, map[string]int{"one": 200})
	w.s.BudgetChanged(w.budget("three", 10_000_000), readyKey)
	want("when it is back", 100, map[string]int{"one": 25, "three": 75})
	p.Spec.Budgets = refs
	w.s.PoolChanged(p)
	want("with a new one", 200, map[string]int{"one": 25, "three": 75, "new": 100})
}

func TestBudgetsShareByWeightAndFailOver(t *testing.T) {
	w := newWorld(t)
	p := w.pool("p", v1alpha1.StageVision)
	p.Spec.Budgets = []v1alpha1.BudgetReference{{Name: "one", Weight: 1}, {Name: "three", Weight: 3}}
	w.s.PoolChanged(p)
	w.s.BudgetChanged(w.budget("one", 10_000_000), readyKey)
	w.s.BudgetChanged(w.budget("three", 10_000_000), readyKey)
	w.worker("w1", "p", 1000)
	count := func(from, to int) map[string]int {
		n := map[string]int{}
		for i := from; i < to; i++ {
			w.create(fmt.Sprint("s", i))
		}
		w.settle()
		for i := from; i < to; i++ {
			n[w.get(fmt.Sprint("s", i)).Status.Assignment.Budget]++
		}
		return n
	}
	if got := count(0, 100); got["one"] != 25 || got["three"] != 75 {
		t.Errorf("100 calls were shared %v, want 25 and 75", got)
	}
	w.s.BudgetChanged(w.budget("three", 10_000_000), KeyState{Reason: v1alpha1.ReasonSecretNotFound})
	if got := count(100, 150); got["one"] != 50 {
		t.Errorf("with budget three gone 50 calls were shared %v", got)
	}
}
