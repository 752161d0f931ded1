// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/queue"
)

// TestAWrittenReasonCostsNoClaim has small scans pass a large one for as long as they may: that its reason for waiting
// is written meanwhile must not give them more time.
func TestAWrittenReasonCostsNoClaim(t *testing.T) {
	w := newWorld(t)
	w.s.PoolChanged(w.pool("p", v1alpha1.StageAnswer))
	w.s.BudgetChanged(w.budget("b", 15_000), readyKey)
	w.worker("w", "p", 1000)
	small := func(i int) string { return fmt.Sprintf("small%03d", i) }
	created := 0
	more := func() { // there are always small scans waiting
		for range 20 {
			w.create(small(created), user("small"), classified)
			created++
		}
	}
	more()
	w.settle() // the bucket is empty
	begun := func() (n int) {
		for i := range created {
			if w.workerOf(small(i)) != "" {
				n++
			}
		}
		return n
	}
	arrived := w.clk.Now()
	w.create("large", user("large"), classified, func(s *v1alpha1.ScanRequest) { s.Spec.UserInput = strings.Repeat("x", 4000) })
	passed, before := 0, begun()
	for w.workerOf("large") == "" && w.clk.Since(arrived) < time.Minute {
		more()
		w.settle()
		if n := begun(); n > before && w.workerOf("large") == "" {
			passed += n - before
			if waited := w.clk.Since(arrived); waited > queue.DefaultMaxSkip {
				t.Errorf("a small scan passed the large one %s after it came, want none after %s", waited, queue.DefaultMaxSkip)
			}
			before = n
		}
		w.clk.Step(100 * time.Millisecond)
		w.worker("w", "p", 1000)
	}
	if w.workerOf("large") == "" {
		t.Fatal("the large scan was not assigned within a minute")
	}
	if passed == 0 {
		t.Error("no small scan passed the large one: the test shows nothing")
	}
	if !slices.Contains(w.reasonsWritten, "large") {
		t.Error("the reason of the large scan was not written: the test shows nothing")
	}
}

// TestPickedWhileItsReasonIsWritten has a scan assigned while its reason for waiting is being written: it is picked
// once, and whichever write comes first, the assignment stands.
func TestPickedWhileItsReasonIsWritten(t *testing.T) {
	// write ends the two writes in some order; fail is what becomes of the reason's.
	tests := map[string]struct {
		assignFirst bool
		fail        error
	}{
		"the reason is stored first":         {},
		"the assignment is stored first":     {assignFirst: true},
		"the reason cannot be stored":        {fail: errors.New("boom")},
		"the reason cannot be stored, later": {assignFirst: true, fail: errors.New("boom")},
	}
	for title, tc := range tests {
		t.Run(title, func(t *testing.T) {
			w := newWorld(t)
			w.standard(1_000_000)
			w.create("a")
			w.settle()
			w.clk.Step(5 * time.Second)
			reasons := w.s.cycle().writes
			if len(reasons) != 1 || reasons[0].kind != writeReason {
				t.Fatalf("%d writes, want that of the reason", len(reasons))
			}
			if s, ok := w.s.QueuePosition(name("a")); !ok || s.Reason != v1alpha1.ReasonWaitingForWorker {
				t.Errorf("while its reason is written the scan stands at %+v, %t", s, ok)
			}
			w.worker("w1", "p", 2)
			picks := w.s.cycle().writes
			if len(picks) != 1 || picks[0].kind != writeAssign {
				t.Fatalf("%d writes, want that of the assignment", len(picks))
			}
			w.fail = func(wr *write) error {
				if wr.kind == writeReason {
					return tc.fail
				}
				return nil
			}
			order := []*write{reasons[0], picks[0]}
			if tc.assignFirst {
				slices.Reverse(order)
			}
			for _, wr := range order {
				w.finish(wr)
				if n := w.s.workers[name("w1")].inFlight; n != 1 {
					t.Errorf("the worker counts %d scans, want 1", n)
				}
			}
			w.settle()
			if w.writes[writeAssign] != 1 || w.workerOf("a") != "w1" || w.admitted("a") != "True Assigned" {
				t.Errorf("%d assignments, worker %q, Admitted %q; want one that stands", w.writes[writeAssign], w.workerOf("a"), w.admitted("a"))
			}
			for range 2 { // vision, then answer
				w.complete("a")
				w.settle()
			}
			w.wantIdle()
		})
	}
}

// TestAReasonThatCannotBeWrittenIsTriedAgain a little later, and costs the scan nothing.
func TestAReasonThatCannotBeWrittenIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.standard(1_000_000)
	tries := 0
	w.fail = func(*write) error {
		tries++
		return errors.New("boom")
	}
	w.create("a")
	w.settle()
	w.clk.Step(5 * time.Second)
	w.settle()
	if counts := w.s.queue.LenDomain(queue.Lane{Namespace: "ns", Stage: "vision", Model: "gpt-5.1"}); tries != 1 || counts.Ready != 1 {
		t.Fatalf("%d tries, %d scans ready; want one try, and the scan ready", tries, counts.Ready)
	}
	w.fail = nil
	w.clk.Step(5 * time.Second)
	w.settle()
	if got := w.admitted("a"); got != "False WaitingForWorker" {
		t.Errorf("Admitted = %q after the writes work again", got)
	}
}

// TestDeletedWhileItsReasonIsWritten checks that nothing is left, even if the write is the first to notice the deletion.
func TestDeletedWhileItsReasonIsWritten(t *testing.T) {
	for _, seen := range []bool{true, false} {
		w := newWorld(t)
		w.standard(1_000_000)
		w.create("a")
		w.settle()
		w.clk.Step(5 * time.Second)
		writes := w.s.cycle().writes
		delete(w.store, name("a"))
		if seen {
			w.s.ScanGone(name("a"))
		}
		for _, wr := range writes {
			w.finish(wr)
		}
		if len(writes) != 1 || len(w.s.scans) != 0 || w.s.queue.Len() != 0 {
			t.Errorf("deletion seen %t: %d writes, %d scans known and %d queued; want one, none and none", seen, len(writes), len(w.s.scans), w.s.queue.Len())
		}
	}
}
