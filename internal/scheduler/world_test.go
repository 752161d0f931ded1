// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
)

var t0 = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

// world is a scheduler with an API server and workers made of maps. Nothing happens in it except what a test does.
type world struct {
	t     testing.TB
	s     *Scheduler
	clk   *clocktesting.FakeClock
	store map[types.NamespacedName]*v1alpha1.ScanRequest
	rv    int
	// next is when the next cycle is due.
	next time.Time
	// leases are the workers' Leases at the API server; down makes it unreachable.
	leases map[types.NamespacedName]Worker
	down   bool
	// fail makes a write fail.
	fail func(*write) error
	// writes counts the stored writes by kind.
	writes map[writeKind]int
	// reasonsWritten are the scans whose reason for waiting was stored.
	reasonsWritten []string
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	clk := clocktesting.NewFakeClock(t0)
	w := &world{t: tb, clk: clk, store: map[types.NamespacedName]*v1alpha1.ScanRequest{}, leases: map[types.NamespacedName]Worker{}, writes: map[writeKind]int{}}
	w.restart()
	return w
}

// restart replaces the scheduler by an empty one, as in a new leader.
func (w *world) restart() {
	w.s = New(Options{Clock: w.clk, Pack: knowledge.Default(), Log: logr.Discard(), LeaderTerm: "t" + strconv.Itoa(w.rv)})
}

func name(n string) types.NamespacedName { return types.NamespacedName{Namespace: "ns", Name: n} }

type scanOption func(*v1alpha1.ScanRequest)

func user(u string) scanOption { return func(s *v1alpha1.ScanRequest) { s.Spec.UserID = u } }

func model(m string) scanOption { return func(s *v1alpha1.ScanRequest) { s.Spec.Model = m } }

func priority(p int32) scanOption       { return func(s *v1alpha1.ScanRequest) { s.Spec.Priority = &p } }
func suspended(s *v1alpha1.ScanRequest) { s.Spec.Suspend = true }

// classified makes the answer the scan's next stage.
func classified(s *v1alpha1.ScanRequest) {
	s.Status.Stages = []v1alpha1.StageStatus{
		{Name: v1alpha1.StageVision, State: v1alpha1.StageSucceeded}, {Name: v1alpha1.StageRule, State: v1alpha1.StageSucceeded},
	}
	s.Status.Result = &v1alpha1.ScanResult{
		Classification: &v1alpha1.Classification{MajorCategory: "재활용폐기물", MiddleCategory: "종이"},
		DisposalRules:  &v1alpha1.DisposalRules{ID: "paper"},
	}
}

// create stores a scan and shows it to the scheduler.
func (w *world) create(n string, opts ...scanOption) {
	obj := &v1alpha1.ScanRequest{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: n, UID: types.UID("uid-" + n), CreationTimestamp: metav1.NewTime(w.clk.Now()), Generation: 1,
		},
		Spec: v1alpha1.ScanRequestSpec{ImageURL: "https://images.example.org/" + n, UserID: "u", DeadlineSeconds: 600},
	}
	for _, o := range opts {
		o(obj)
	}
	w.put(obj)
}

// put stores a version of a scan and shows it to the scheduler.
func (w *world) put(obj *v1alpha1.ScanRequest) {
	w.rv++
	obj.ResourceVersion = strconv.Itoa(w.rv)
	w.store[types.NamespacedName{Namespace: obj.Namespace, Name: obj.Name}] = obj
	w.s.ScanChanged(obj)
}

func (w *world) get(n string) *v1alpha1.ScanRequest {
	w.t.Helper()
	obj := w.store[name(n)]
	if obj == nil {
		w.t.Fatalf("no scan %s", n)
	}
	return obj
}

// fold folds an event into a stored scan.
func (w *world) fold(n string, ev pipeline.Event) error {
	obj := w.get(n).DeepCopy()
	if _, err := pipeline.Fold(w.context(obj), &obj.Status, ev); err != nil {
		return err
	}
	w.put(obj)
	return nil
}

func (w *world) context(obj *v1alpha1.ScanRequest) pipeline.Context {
	return pipeline.Context{Spec: obj.Spec, CreatedAt: obj.CreationTimestamp.Time, Now: w.clk.Now(), Jitter: func() float64 { return 1 }}
}

func (w *world) pool(n string, stages ...v1alpha1.StageName) *v1alpha1.WorkerPool {
	return &v1alpha1.WorkerPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: n},
		Spec: v1alpha1.WorkerPoolSpec{
			Stages: stages, Budgets: []v1alpha1.BudgetReference{{Name: "b", Weight: 1}},
			StageDefaults: v1alpha1.StageDefaults{TimeoutSeconds: 60, MaxAttempts: 3, MaxOutputTokens: 800, ImageDetail: v1alpha1.ImageDetailLow},
		},
	}
}

func (w *world) budget(n string, tokensPerMinute int64, models ...string) *v1alpha1.TokenBudget {
	if len(models) == 0 {
		models = []string{"gpt-5.1"}
	}
	return &v1alpha1.TokenBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: n},
		Spec: v1alpha1.TokenBudgetSpec{
			SecretRef: v1alpha1.SecretKeyReference{Name: "s", Key: "k"}, Models: models,
			TokensPerMinute: tokensPerMinute, RequestsPerMinute: 100_000, TargetUtilizationPercent: 100,
		},
	}
}

var readyKey = KeyState{Ready: true, Reason: v1alpha1.ReasonKeyFound, Version: "1"}

// standard sets up one pool for all stages, a budget, and workers of capacity 2.
func (w *world) standard(tokensPerMinute int64, workers ...string) {
	w.s.PoolChanged(w.pool("p", v1alpha1.StageVision, v1alpha1.StageRule, v1alpha1.StageAnswer, v1alpha1.StageReward))
	w.s.BudgetChanged(w.budget("b", tokensPerMinute), readyKey)
	for _, n := range workers {
		w.worker(n, "p", 2)
	}
}

func (w *world) worker(n, pool string, capacity int) {
	w.leases[name(n)] = Worker{
		Name: name(n), Pool: pool, Capacity: capacity, RenewedAt: w.clk.Now(), LeaseDuration: 15 * time.Second,
	}
	w.s.WorkerChanged(w.leases[name(n)])
}

// checkLease answers the scheduler's question after a worker.
func (w *world) checkLease(n types.NamespacedName) {
	if w.down {
		w.s.leaseChecked(n, Worker{}, false, errors.New("connection refused"))
		return
	}
	info, found := w.leases[n]
	w.s.leaseChecked(n, info, found, nil)
}

// step runs one cycle and does its writes.
func (w *world) step() {
	w.work()
}

// work runs one cycle, does what it decided, and reports whether that was anything.
func (w *world) work() bool {
	todo := w.s.cycle()
	w.next = todo.next
	for _, wr := range todo.writes {
		w.finish(wr)
	}
	for _, n := range todo.leaseChecks {
		w.checkLease(n)
	}
	for _, info := range todo.expired {
		if w.leases[info.Name].RenewedAt.Equal(info.RenewedAt) {
			delete(w.leases, info.Name)
			w.s.WorkerGone(info.Name)
		}
	}
	return len(todo.writes)+len(todo.leaseChecks) > 0
}

// settle runs cycles until nothing more is to be done now.
func (w *world) settle() {
	for range 1000 {
		if !w.work() {
			return
		}
	}
	w.t.Fatal("the scheduler still has work after 1000 cycles")
}

// finish does a write as a StatusWriter does.
func (w *world) finish(wr *write) {
	if w.fail != nil {
		if err := w.fail(wr); err != nil {
			w.s.written(wr, wr.obj, err)
			return
		}
	}
	live := w.store[wr.scan.name]
	if live == nil {
		w.s.written(wr, nil, pipeline.ErrGone)
		return
	}
	next := live.DeepCopy()
	changed, err := pipeline.Fold(w.context(next), &next.Status, wr.event)
	if err != nil || !changed {
		w.s.written(wr, live, err)
		return
	}
	w.rv++
	next.ResourceVersion = strconv.Itoa(w.rv)
	w.store[wr.scan.name] = next
	w.writes[wr.kind]++
	if wr.kind == writeReason {
		w.reasonsWritten = append(w.reasonsWritten, next.Name)
	}
	w.s.written(wr, next, nil)
	w.s.ScanChanged(next) // the watch event comes after the answer
}

// run is what a worker does with an assignment: it succeeds after a while.
func (w *world) complete(n string) {
	w.t.Helper()
	a := w.get(n).Status.Assignment
	if a == nil {
		w.t.Fatalf("scan %s has no assignment", n)
	}
	now := w.clk.Now()
	ok := func(stage v1alpha1.StageName) pipeline.Outcome {
		return pipeline.Outcome{Stage: stage, State: v1alpha1.StageSucceeded, StartedAt: a.AssignedAt.Time, FinishedAt: now}
	}
	outcomes := []pipeline.Outcome{ok(v1alpha1.StageAnswer), ok(v1alpha1.StageReward)}
	if a.Stage == v1alpha1.StageVision {
		outcomes = []pipeline.Outcome{ok(v1alpha1.StageVision), ok(v1alpha1.StageRule)}
		outcomes[0].Result.Classification = &v1alpha1.Classification{MajorCategory: "재활용폐기물", MiddleCategory: "종이"}
		outcomes[1].Result.DisposalRules = &v1alpha1.DisposalRules{ID: "paper"}
	}
	outcomes[0].Usage = v1alpha1.TokenUsage{Input: 300, Output: 100}
	if err := w.fold(n, pipeline.Completed{AssignmentID: a.ID, Outcomes: outcomes}); err != nil {
		w.t.Fatalf("complete %s: %v", n, err)
	}
}

// workerOf is the worker a scan is assigned to, or empty.
func (w *world) workerOf(n string) string {
	w.t.Helper()
	if a := w.get(n).Status.Assignment; a != nil {
		return a.Worker
	}
	return ""
}

// admitted is the status and reason of a scan's Admitted condition.
func (w *world) admitted(n string) string {
	for _, c := range w.get(n).Status.Conditions {
		if c.Type == v1alpha1.ConditionAdmitted {
			return fmt.Sprintf("%s %s", c.Status, c.Reason)
		}
	}
	return ""
}

// wantIdle fails unless nothing is reserved and no worker has anything.
func (w *world) wantIdle() {
	w.t.Helper()
	for n, tb := range w.s.budgets {
		if stats := tb.ledger.Stats(w.clk.Now()); stats.ReservedTokens != 0 || stats.InFlight != 0 {
			w.t.Errorf("budget %s: %d tokens reserved, %d calls in flight; want none", n, stats.ReservedTokens, stats.InFlight)
		}
	}
	for n, worker := range w.s.workers {
		if worker.inFlight != 0 {
			w.t.Errorf("worker %s has %d scans, want none", n, worker.inFlight)
		}
	}
}
