// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/queue"
)

// twoModels sets up a budget for a model with cheap photos and one with expensive photos, and empties its bucket.
func (w *world) twoModels() (cheap, expensive string) {
	cheap, expensive = "gpt-5.1", "gpt-4o-mini"
	w.s.PoolChanged(w.pool("p", v1alpha1.StageVision))
	w.s.BudgetChanged(w.budget("b", 60_000, cheap, expensive), readyKey)
	w.worker("w", "p", 100_000)
	for i := range 100 {
		w.create(fmt.Sprint("first", i), user("first"))
	}
	w.settle()
	return cheap, expensive
}

// tick lets 100 ms pass, in which the worker lives on.
func (w *world) tick() {
	w.clk.Step(100 * time.Millisecond)
	w.worker("w", "p", 100_000)
	w.settle()
}

// TestExpensiveModelsAreNotStarved: a continuous load of cheap calls must not starve an expensive call of another model that is
// paid from the same budget.
func TestExpensiveModelsAreNotStarved(t *testing.T) {
	w := newWorld(t)
	_, expensive := w.twoModels()
	w.create("expensive", user("expensive"), model(expensive))
	arrived, n := w.clk.Now(), 0
	for w.clk.Since(arrived) < time.Minute && w.workerOf("expensive") == "" {
		for w.s.queue.Len() < 50 {
			w.create(fmt.Sprint("cheap", n), user("cheap"))
			n++
		}
		w.tick()
	}
	need := w.get("expensive").Status.Assignment
	if need == nil {
		t.Fatal("the expensive call waited for a minute, in which cheap ones were sent")
	}
	// It is passed for DefaultMaxSkip at most, then the bucket fills for it at 1000 tokens a second.
	most := queue.DefaultMaxSkip + time.Duration(need.ReservedTokens)*time.Millisecond + time.Second
	if waited := w.clk.Since(arrived); waited > most {
		t.Errorf("the expensive call of %d tokens waited %s, want at most %s", need.ReservedTokens, waited, most)
	}
}

// TestUsersAreServedAlikeAcrossModels has two users with endless work, each with a model of its own.
func TestUsersAreServedAlikeAcrossModels(t *testing.T) {
	w := newWorld(t)
	cheap, expensive := w.twoModels()
	begin, n := w.clk.Now(), 0
	for w.clk.Since(begin) < 4*time.Minute {
		for w.s.queue.Len() < 120 {
			w.create(fmt.Sprint("cheap", n), user("cheap"), model(cheap))
			w.create(fmt.Sprint("expensive", n), user("expensive"), model(expensive))
			n++
		}
		w.tick()
	}
	served := map[string]int64{}
	var largest int64
	for _, obj := range w.store {
		if a := obj.Status.Assignment; a != nil {
			served[obj.Spec.UserID] += a.ReservedTokens
			largest = max(largest, a.ReservedTokens)
		}
	}
	diff := served["cheap"] - served["expensive"]
	// The bound that the queue derives: one call, and what may pass a large one; calls are counted a sixteenth larger.
	bound := largest + queue.DefaultMaxPass
	if min(served["cheap"], served["expensive"]) < 80_000 || max(diff, -diff) > bound+(served["cheap"]+served["expensive"])/16 {
		t.Errorf("tokens served %v, want them alike within %d", served, bound)
	}
}

func TestDomains(t *testing.T) {
	lane := func(stage v1alpha1.StageName, model string) queue.Lane {
		return queue.Lane{Namespace: "ns", Stage: string(stage), Model: model}
	}
	vision, answer := lane(v1alpha1.StageVision, "m1"), lane(v1alpha1.StageAnswer, "m2")
	tests := map[string]struct {
		budgets map[string][]string             // models
		pools   map[v1alpha1.StageName][]string // budgets
		want    map[queue.Lane]string
	}{
		"one budget for two models": {
			budgets: map[string][]string{"b": {"m1", "m2"}},
			pools:   map[v1alpha1.StageName][]string{"vision": {"b"}, "answer": {"b"}},
			want:    map[queue.Lane]string{vision: "ns/budget/b", answer: "ns/budget/b"},
		},
		"a budget for each": {
			budgets: map[string][]string{"b1": {"m1"}, "b2": {"m2"}},
			pools:   map[v1alpha1.StageName][]string{"vision": {"b1"}, "answer": {"b2"}},
			want:    map[queue.Lane]string{vision: "ns/budget/b1", answer: "ns/budget/b2"},
		},
		"several budgets for the same": {
			budgets: map[string][]string{"b1": {"m1"}, "b2": {"m1", "m2"}, "b3": {"m2"}},
			pools:   map[v1alpha1.StageName][]string{"vision": {"b2", "b1"}, "answer": {"b3", "b2"}},
			want:    map[queue.Lane]string{vision: "ns/budget/b1", answer: "ns/budget/b1"},
		},
		"a pool's budgets for different models are no group": {
			budgets: map[string][]string{"b1": {"m1"}, "b2": {"m2"}},
			pools:   map[v1alpha1.StageName][]string{"vision": {"b1", "b2"}, "answer": {"b1", "b2"}},
			want:    map[queue.Lane]string{vision: "ns/budget/b1", answer: "ns/budget/b2"},
		},
		"no budget": {
			pools: map[v1alpha1.StageName][]string{"vision": {"b"}},
			want:  map[queue.Lane]string{vision: "ns/model/m1", answer: "ns/model/m2"},
		},
		"no tokens": {
			budgets: map[string][]string{"b": {"m1"}},
			pools:   map[v1alpha1.StageName][]string{"rule": {"b"}},
			want:    map[queue.Lane]string{lane(v1alpha1.StageRule, "m1"): "ns/stage/rule"},
		},
	}
	for title, tc := range tests {
		t.Run(title, func(t *testing.T) {
			w := newWorld(t)
			for stage, budgets := range tc.pools {
				p := w.pool(string(stage), stage)
				p.Spec.Budgets = nil
				for _, b := range budgets {
					p.Spec.Budgets = append(p.Spec.Budgets, v1alpha1.BudgetReference{Name: b, Weight: 1})
				}
				w.s.PoolChanged(p)
			}
			for b, models := range tc.budgets {
				w.s.BudgetChanged(w.budget(b, 60_000, models...), readyKey)
			}
			for l, want := range tc.want {
				if got := w.s.domain(l); got != want {
					t.Errorf("domain of %v: %s, want %s", l, got, want)
				}
			}
		})
	}
}

// TestBudgetsThatComeTogether: a budget that joins two others makes the scans that wait for them compete.
func TestBudgetsThatComeTogether(t *testing.T) {
	w := newWorld(t)
	p := w.pool("p", v1alpha1.StageVision)
	p.Spec.Budgets = []v1alpha1.BudgetReference{{Name: "b1", Weight: 1}, {Name: "b2", Weight: 1}, {Name: "both", Weight: 1}}
	w.s.PoolChanged(p)
	w.s.BudgetChanged(w.budget("b1", 60_000, "m1"), readyKey)
	w.s.BudgetChanged(w.budget("b2", 60_000, "m2"), readyKey)
	w.create("one", model("m1"))
	w.create("two", model("m2"))
	ahead := func() (n int) {
		for _, scan := range []string{"one", "two"} {
			s, ok := w.s.QueuePosition(name(scan))
			if !ok {
				t.Fatalf("scan %s does not wait", scan)
			}
			n += s.Ahead
		}
		return n
	}
	if got := ahead(); got != 0 {
		t.Errorf("%d scans are ahead of scans that compete with none", got)
	}
	w.s.BudgetChanged(w.budget("both", 60_000, "m1", "m2"), readyKey)
	if got := ahead(); got != 1 {
		t.Errorf("%d scans are ahead of two that compete, want 1", got)
	}
	w.s.BudgetGone(types.NamespacedName{Namespace: "ns", Name: "both"})
	if got := ahead(); got != 0 {
		t.Errorf("%d scans are ahead after the budget has gone, want none", got)
	}
	w.worker("w", "p", 2)
	w.settle()
	if w.workerOf("one") == "" || w.workerOf("two") == "" {
		t.Error("the scans were lost on the way")
	}
}
