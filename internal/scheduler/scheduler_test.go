// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

func TestWholeScan(t *testing.T) {
	w := newWorld(t)
	w.standard(1_000_000, "w1")
	w.create("a")
	w.settle()
	a := w.get("a").Status.Assignment
	if a == nil {
		t.Fatal("the scan was not assigned")
	}
	if a.Stage != v1alpha1.StageVision || a.Worker != "w1" || a.Budget != "b" || a.Model != "gpt-5.1" || a.Pool != "p" ||
		a.ReservedTokens < 800 || a.MaxOutputTokens != 800 || a.ImageDetail != v1alpha1.ImageDetailLow || a.MaxAttempts != 3 ||
		!a.Deadline.Time.Equal(t0.Add(time.Minute)) {
		t.Errorf("assignment = %+v", a)
	}
	w.complete("a")
	w.settle()
	if a := w.get("a").Status.Assignment; a == nil || a.Stage != v1alpha1.StageAnswer {
		t.Fatalf("after vision: assignment %+v, want stage answer", a)
	}
	w.complete("a")
	w.settle()
	if got := w.get("a").Status.Phase; got != v1alpha1.ScanSucceeded {
		t.Errorf("phase = %s", got)
	}
	if w.writes[writeAssign] != 2 || len(w.writes) != 1 {
		t.Errorf("writes = %v, want two assignments and nothing else", w.writes)
	}
	if len(w.s.scans) != 0 || w.s.queue.Len() != 0 {
		t.Errorf("%d scans and %d queued are remembered of a finished scan", len(w.s.scans), w.s.queue.Len())
	}
	w.wantIdle()
}

func TestWorkersAreFilledEvenlyAndNotBeyondCapacity(t *testing.T) {
	w := newWorld(t)
	w.standard(10_000_000, "w1", "w2")
	for i := range 5 {
		w.create(fmt.Sprint("s", i))
	}
	w.settle()
	load := map[string]int{}
	for i := range 5 {
		load[w.workerOf(fmt.Sprint("s", i))]++
	}
	if load["w1"] != 2 || load["w2"] != 2 || load[""] != 1 {
		t.Errorf("load = %v, want two each and one that waits", load)
	}
	standing, ok := w.s.QueuePosition(name("s4"))
	if !ok || standing.Reason != v1alpha1.ReasonWaitingForWorker {
		t.Errorf("standing of the one that waits: %+v", standing)
	}
	place := w.workerOf("s0")
	w.complete("s0")
	w.settle()
	if a := w.get("s0").Status.Assignment; a == nil || a.Stage != v1alpha1.StageAnswer || w.workerOf("s4") != "" {
		t.Errorf("s0 has %+v and s4 is at %q, want s0 to go on before s4 begins", a, w.workerOf("s4"))
	}
	w.complete("s0")
	w.settle()
	if got := w.workerOf("s4"); got != place {
		t.Errorf("s4 is at %q, want the free place at %s", got, place)
	}
}

func TestDrainingWorkersGetNothing(t *testing.T) {
	w := newWorld(t)
	w.standard(1_000_000, "w1")
	w.s.WorkerChanged(Worker{Name: name("w1"), Pool: "p", Capacity: 2, Draining: true, RenewedAt: t0, LeaseDuration: 15 * time.Second})
	w.create("a")
	w.settle()
	if got := w.workerOf("a"); got != "" {
		t.Errorf("assigned to draining worker %s", got)
	}
}

func TestTokensDecide(t *testing.T) {
	w := newWorld(t)
	w.s.PoolChanged(w.pool("p", v1alpha1.StageVision, v1alpha1.StageRule, v1alpha1.StageAnswer, v1alpha1.StageReward))
	w.s.BudgetChanged(w.budget("b", 60_000), readyKey)
	w.worker("w", "p", 1000)
	for i := range 200 {
		w.create(fmt.Sprint("s", i))
	}
	w.settle()
	assigned := w.writes[writeAssign]
	reserved := w.get("s0").Status.Assignment.ReservedTokens
	if most := int(60_000 / reserved); assigned > most || assigned < most*9/10 {
		t.Fatalf("%d scans of %d tokens were assigned from a bucket of 60000", assigned, reserved)
	}
	if w.next.IsZero() || !w.next.After(w.clk.Now()) || w.next.After(w.clk.Now().Add(10*time.Second)) {
		t.Fatalf("next look at %s, want when the bucket has refilled for one call (now %s)", w.next, w.clk.Now())
	}
	waiting := 0
	for i := range 200 {
		standing, ok := w.s.QueuePosition(name(fmt.Sprint("s", i)))
		if !ok {
			continue
		}
		waiting++
		want := `^\S+ k? ?tokens ahead, about \d+ (s|min); (1 scan goes|\d+ scans go) first, TokenBudget "b" has reached its token limit$`
		if standing.Ahead == 0 {
			want = `^next in line, about \d+ s; TokenBudget "b" has reached its token limit; this call needs 1056 tokens$`
		}
		if standing.Reason != v1alpha1.ReasonWaitingForTokens || !regexp.MustCompile(want).MatchString(standing.Message) {
			t.Errorf("scan %d stands at %+v, want the message %s", i, standing, want)
		}
	}
	if waiting != 200-assigned {
		t.Errorf("%d scans wait and %d are assigned, want 200 in all", waiting, assigned)
	}
	// It wakes when there is room for one more call: no refill is missed, and there is no polling.
	wakes := 0
	for w.clk.Since(t0) < 20*time.Second {
		w.clk.SetTime(w.next)
		w.worker("w", "p", 1000) // renews its Lease
		w.settle()
		wakes++
	}
	refilled := int(w.clk.Since(t0).Seconds() * 1000 / float64(reserved))
	if more := w.writes[writeAssign] - assigned; more < refilled-1 || more > refilled+1 {
		t.Errorf("%d calls were sent from a refill for %d", more, refilled)
	}
	if most := 2*refilled + w.writes[writeReason] + 10; wakes > most {
		t.Errorf("woke %d times for %d calls, want at most %d", wakes, refilled, most)
	}
}

func TestFailedWriteReleasesEverything(t *testing.T) {
	w := newWorld(t)
	w.standard(1_000_000, "w1")
	w.fail = func(*write) error { return errors.New("boom") }
	w.create("a")
	w.step()
	w.wantIdle()
	if w.s.queue.Len() != 1 {
		t.Fatalf("%d scans queued after a failed write, want 1", w.s.queue.Len())
	}
	w.settle() // held back for a moment: it does not spin
	w.fail = nil
	w.clk.Step(writeHoldFirst)
	w.settle()
	if got := w.workerOf("a"); got != "w1" {
		t.Errorf("assigned to %q after the writes work again, want w1", got)
	}
}

func TestScanDeletedWhileBeingAssigned(t *testing.T) {
	w := newWorld(t)
	w.standard(1_000_000, "w1")
	w.create("a")
	writes := w.s.cycle().writes
	delete(w.store, name("a"))
	w.s.ScanGone(name("a"))
	for _, wr := range writes {
		w.finish(wr)
	}
	w.settle()
	w.wantIdle()
}

func TestWorkerThatIsFasterThanTheWatch(t *testing.T) {
	w := newWorld(t)
	w.standard(1_000_000, "w1")
	w.create("a")
	writes := w.s.cycle().writes
	wr := writes[0]
	stored := w.get("a").DeepCopy()
	if _, err := pipeline.Fold(w.context(stored), &stored.Status, wr.event); err != nil {
		t.Fatal(err)
	}
	w.put(stored) // the watch shows the assignment, then the outcome, before the write has returned
	w.complete("a")
	w.s.written(wr, stored, nil)
	w.settle()
	if a := w.get("a").Status.Assignment; a == nil || a.Stage != v1alpha1.StageAnswer {
		t.Errorf("assignment = %+v, want stage answer", a)
	}
	if n := w.s.workers[name("w1")].inFlight; n != 1 {
		t.Errorf("worker has %d scans, want 1", n)
	}
}

func TestOldVersionsAreIgnored(t *testing.T) {
	w := newWorld(t)
	w.standard(1_000_000, "w1")
	w.create("a")
	old := w.get("a")
	w.settle()
	w.s.ScanChanged(old)
	w.settle()
	if w.writes[writeAssign] != 1 {
		t.Errorf("%d assignments, want 1", w.writes[writeAssign])
	}
}

func TestExpiredWorkerLosesItsScans(t *testing.T) {
	w := newWorld(t)
	w.standard(1_000_000, "w1")
	w.create("a")
	w.settle()
	if w.next.After(t0.Add(13 * time.Second)) {
		t.Errorf("next look at %s, want before the end of the Lease", w.next)
	}
	w.clk.Step(13 * time.Second)
	w.settle()
	w.clk.Step(time.Second)
	w.worker("w2", "p", 2)
	w.settle()
	if got := w.workerOf("a"); got != "w1" {
		t.Fatalf("the scan was taken from a live worker: it is at %q", got)
	}
	w.clk.Step(time.Second)
	w.settle()
	if got := w.workerOf("a"); got != "w2" {
		t.Errorf("after the Lease's end the scan is at %q, want w2", got)
	}
	if _, found := w.leases[name("w1")]; found {
		t.Error("the expired Lease was not removed")
	}
	st := pipeline.Stage(&w.get("a").Status, v1alpha1.StageVision)
	if st.Attempts != 0 {
		t.Errorf("%d attempts were counted for a lost worker", st.Attempts)
	}
	if w.writes[writeRelease] != 1 || w.writes[writeAssign] != 2 {
		t.Errorf("writes = %v", w.writes)
	}
}

func TestAnUnreachableAPIServerCostsNoWorker(t *testing.T) {
	w := newWorld(t)
	w.standard(1_000_000, "w1")
	w.create("a")
	w.settle()
	w.down = true
	for range 40 { // neither renewals nor Lease checks succeed
		w.clk.Step(time.Second)
		w.settle()
	}
	w.down = false
	w.clk.Step(500 * time.Millisecond)
	w.settle()
	w.leases[name("w1")] = Worker{Name: name("w1"), Pool: "p", Capacity: 2, RenewedAt: w.clk.Now(), LeaseDuration: 15 * time.Second}
	for range 14 { // the watch is late, the Lease is renewed
		w.clk.Step(time.Second)
		w.settle()
	}
	if got := w.workerOf("a"); got != "w1" || w.writes[writeRelease] != 0 {
		t.Errorf("the scan is at %q after %d releases, want it left where it is", got, w.writes[writeRelease])
	}
}

func TestWorkerLostWhileTheAssignmentIsBeingStored(t *testing.T) {
	w := newWorld(t)
	w.standard(1_000_000, "w1")
	w.create("a")
	writes := w.s.cycle().writes
	w.s.WorkerGone(name("w1"))
	w.worker("w2", "p", 2)
	for _, wr := range writes {
		w.finish(wr)
	}
	w.settle()
	if got := w.workerOf("a"); got != "w2" {
		t.Errorf("the scan is at %q, want w2", got)
	}
}

func TestMissingPartsHoldScans(t *testing.T) {
	tests := map[string]struct {
		setup       func(*world)
		wantReason  string
		wantMessage string
	}{
		"no pool": {
			setup:      func(w *world) { w.s.BudgetChanged(w.budget("b", 100_000), readyKey) },
			wantReason: v1alpha1.ReasonWaitingForWorker, wantMessage: "no WorkerPool in this namespace runs stage vision",
		},
		"no budget": {
			setup: func(w *world) {
				w.s.PoolChanged(w.pool("p", v1alpha1.StageVision))
				w.worker("w1", "p", 2)
			},
			wantReason: v1alpha1.ReasonWaitingForBudget, wantMessage: `TokenBudget "b" of WorkerPool "p" does not exist`,
		},
		"no key": {
			setup: func(w *world) {
				w.standard(100_000, "w1")
				w.s.BudgetChanged(w.budget("b", 100_000), KeyState{Reason: v1alpha1.ReasonSecretNotFound, Message: `Secret "s" does not exist`})
			},
			wantReason: v1alpha1.ReasonWaitingForBudget, wantMessage: `Secret "s" does not exist`,
		},
		"no worker": {
			setup:      func(w *world) { w.standard(100_000) },
			wantReason: v1alpha1.ReasonWaitingForWorker, wantMessage: `WorkerPool "p" has no live worker`,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tc.setup(w)
			w.create("a")
			w.settle()
			if got := w.admitted("a"); got != "" {
				t.Errorf("the reason was written at once: %s", got)
			}
			w.clk.Step(5 * time.Second)
			w.settle()
			if got := w.admitted("a"); got != "False "+tc.wantReason {
				t.Errorf("Admitted = %q, want False %s", got, tc.wantReason)
			}
			c := meta.FindStatusCondition(w.get("a").Status.Conditions, v1alpha1.ConditionAdmitted)
			if c != nil && !strings.Contains(c.Message, tc.wantMessage) {
				t.Errorf("message %q, want one with %q", c.Message, tc.wantMessage)
			}
			writes := w.writes[writeReason]
			w.clk.Step(9 * time.Second)
			w.settle()
			if w.writes[writeReason] != writes {
				t.Errorf("the same reason was written again")
			}
		})
	}
}

func TestReasonsAreWrittenAtABoundedRateOldestFirst(t *testing.T) {
	w := newWorld(t)
	w.standard(100_000) // no worker
	for i := range 100 {
		w.create(fmt.Sprintf("s%02d", i))
	}
	w.settle()
	w.clk.Step(5 * time.Second)
	w.settle()
	if got := w.writes[writeReason]; got != 20 {
		t.Fatalf("%d reasons were written at once, want 20", got)
	}
	for i := range 100 {
		want := ""
		if i < 20 {
			want = "False WaitingForWorker"
		}
		if got := w.admitted(fmt.Sprintf("s%02d", i)); got != want {
			t.Errorf("scan %d: Admitted = %q, want %q", i, got, want)
		}
	}
	w.clk.Step(time.Second)
	w.settle()
	if got := w.writes[writeReason]; got != 40 {
		t.Errorf("%d reasons were written after another second, want 40", got)
	}
}

func TestSuspendAndResume(t *testing.T) {
	w := newWorld(t)
	w.standard(1_000_000, "w1")
	w.create("a", suspended)
	w.settle()
	if got := w.workerOf("a"); got != "" {
		t.Fatalf("a suspended scan was assigned to %s", got)
	}
	resumed := w.get("a").DeepCopy()
	resumed.Spec.Suspend = false
	w.put(resumed)
	w.settle()
	if got := w.workerOf("a"); got != "w1" {
		t.Errorf("after it was resumed the scan is at %q", got)
	}
}

func TestBackoffIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	w.standard(1_000_000, "w1")
	w.create("a")
	w.settle()
	id := w.get("a").Status.Assignment.ID
	if err := w.fold("a", pipeline.Completed{AssignmentID: id, Outcomes: []pipeline.Outcome{{
		Stage: v1alpha1.StageVision, StartedAt: t0, FinishedAt: t0,
		Failure: &pipeline.Failure{Class: v1alpha1.FailureUnavailable, Message: "502"},
	}}}); err != nil {
		t.Fatal(err)
	}
	w.settle()
	if got := w.workerOf("a"); got != "" {
		t.Fatalf("assigned to %s before the backoff has ended", got)
	}
	if want := t0.Add(time.Second); !w.next.Equal(want) {
		t.Errorf("next look at %s, want %s", w.next, want)
	}
	w.clk.SetTime(w.next)
	w.settle()
	if a := w.get("a").Status.Assignment; a == nil || a.Attempt != 2 {
		t.Errorf("assignment after the backoff: %+v, want attempt 2", a)
	}
}

// TestAnUnservedScanKeepsItsPlace: its user's charge is refunded, otherwise later scans would go first.
func TestAnUnservedScanKeepsItsPlace(t *testing.T) {
	back := map[string]func(*world, *v1alpha1.Assignment) error{
		"rate limited": func(w *world, a *v1alpha1.Assignment) error {
			return w.fold("a1", pipeline.Completed{AssignmentID: a.ID, Outcomes: []pipeline.Outcome{{
				Stage: v1alpha1.StageVision, StartedAt: w.clk.Now(), FinishedAt: w.clk.Now(),
				Failure: &pipeline.Failure{Class: v1alpha1.FailureRateLimited, Message: "429", RetryAfter: time.Second},
			}}})
		},
		"drained": func(w *world, a *v1alpha1.Assignment) error {
			return w.fold("a1", pipeline.Released{AssignmentID: a.ID, Class: v1alpha1.FailureDrained, Message: "draining"})
		},
	}
	for title, comeBack := range back {
		t.Run(title, func(t *testing.T) {
			w := newWorld(t)
			w.standard(1_000_000)
			for i := range 4 {
				for _, u := range []string{"a", "b"} {
					w.create(fmt.Sprint(u, i+1), user(u))
					w.clk.Step(time.Millisecond)
				}
			}
			w.worker("w1", "p", 3)
			w.settle()
			for _, n := range []string{"a1", "b1", "a2"} {
				if w.workerOf(n) == "" {
					t.Fatalf("scan %s is not among the first three", n)
				}
			}
			if err := comeBack(w, w.get("a1").Status.Assignment); err != nil {
				t.Fatal(err)
			}
			for range 50 {
				w.settle()
				w.clk.Step(100 * time.Millisecond)
				w.worker("w1", "p", 3)
			}
			if w.workerOf("a1") == "" {
				t.Error("another scan took its place")
			}
		})
	}
}

func TestPriorityGoesFirst(t *testing.T) {
	w := newWorld(t)
	w.standard(1_000_000)
	w.create("low1")
	w.create("low2")
	w.create("high", priority(10))
	w.worker("w1", "p", 1)
	w.settle()
	if w.workerOf("high") != "w1" {
		t.Error("the scan of the higher priority did not go first")
	}
}

func TestScansOfOneUserGoInTheOrderTheyCame(t *testing.T) {
	w := newWorld(t)
	w.s.PoolChanged(w.pool("p", v1alpha1.StageVision, v1alpha1.StageRule, v1alpha1.StageAnswer, v1alpha1.StageReward))
	w.s.BudgetChanged(w.budget("b", 60_000), readyKey)
	w.worker("w", "p", 1000)
	for i := range 150 { // shorter and shorter texts: later scans are a little smaller, and would fit earlier
		w.create(fmt.Sprintf("s%03d", i), func(s *v1alpha1.ScanRequest) { s.Spec.UserInput = strings.Repeat("x", 150-i) })
		w.clk.Step(time.Millisecond)
	}
	begun := map[string]bool{}
	for w.clk.Since(t0) < 50*time.Second {
		w.worker("w", "p", 1000)
		w.settle()
		for i := range 150 {
			n := fmt.Sprintf("s%03d", i)
			if len(w.get(n).Status.Stages) > 0 {
				begun[n] = true
			} else if len(begun) > i {
				t.Fatalf("%d scans were assigned but not scan %d: a later one passed it", len(begun), i)
			}
		}
		w.clk.SetTime(w.next)
	}
	if len(begun) < 60 {
		t.Errorf("%d scans were assigned in 50 s, want at least 60", len(begun))
	}
}

func TestRoundUpTokens(t *testing.T) {
	for _, tokens := range []int64{0, 1, 15, 16, 17, 566, 1058, 5_033_165} {
		got := roundUpTokens(tokens)
		if got < tokens || got > tokens+tokens/16 {
			t.Errorf("roughly(%d) = %d, want no less and at most a sixteenth more", tokens, got)
		}
	}
	if roundUpTokens(560) != roundUpTokens(566) {
		t.Errorf("roughly(560) = %d and roughly(566) = %d, want the same", roundUpTokens(560), roundUpTokens(566))
	}
}

// TestLaterStagesGoFirst has answers need more tokens than photos: the tokens that trickle in must not go to the
// photos, which fit earlier, while answers wait.
func TestLaterStagesGoFirst(t *testing.T) {
	w := newWorld(t)
	photos := w.pool("photos", v1alpha1.StageVision, v1alpha1.StageRule)
	photos.Spec.StageDefaults.MaxOutputTokens = 100
	w.s.PoolChanged(photos)
	w.s.PoolChanged(w.pool("answers", v1alpha1.StageAnswer, v1alpha1.StageReward))
	w.s.BudgetChanged(w.budget("b", 60_000), readyKey)
	names := make([]string, 600)
	for i := range names {
		names[i] = fmt.Sprintf("s%03d", i)
		w.create(names[i])
	}
	begun := func() (n int) {
		for _, name := range names {
			if len(w.get(name).Status.Stages) > 0 {
				n++
			}
		}
		return n
	}
	answered := 0
	for w.clk.Since(t0) < time.Minute {
		w.worker("w1", "photos", 1000)
		w.worker("w2", "answers", 1000)
		before, waiting := begun(), w.s.queue.Ready("ns", "answer")
		w.settle()
		if after := begun(); waiting > 0 && w.s.queue.Ready("ns", "answer") > 0 && after > before {
			t.Fatalf("after %s: %d photos were begun while %d scans waited for their answers", w.clk.Since(t0), after-before, waiting)
		}
		for _, name := range names {
			if w.workerOf(name) != "" {
				w.complete(name)
			}
			if pipeline.IsFinished(&w.get(name).Status) {
				answered++
			}
		}
		w.clk.SetTime(w.next)
	}
	if answered == 0 {
		t.Error("no scan got its answer")
	}
}
