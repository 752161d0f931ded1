// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/stages"
	"github.com/eco2-team/scan-operator/internal/scanstatus"
)

// The tests run in synctest bubbles: there the real clock is a fake one that moves when all goroutines wait.

const (
	namespace = "scans"
	me        = "pod-0-abcdef"
)

var errDown = errors.New("connection refused")

func TestMain(m *testing.M) {
	// client-go's error handlers pace themselves with a global that would carry one bubble's time into the next.
	utilruntime.ErrorHandlers = nil
	os.Exit(m.Run())
}

// pass advances the time and lets everything that is due happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// listingClient is a fake client whose watches do not pretend to send the initial state.
type listingClient struct{ client.WithWatch }

func (listingClient) IsWatchListSemanticsUnSupported() bool { return true }

func testScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, coordinationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return scheme
}

func newFakeClient(t *testing.T, funcs interceptor.Funcs, objects ...client.Object) client.WithWatch {
	t.Helper()
	return listingClient{fake.NewClientBuilder().
		WithScheme(testScheme(t)).
		WithStatusSubresource(&v1alpha1.ScanRequest{}).
		WithIndex(&v1alpha1.ScanRequest{}, "status.assignment.worker", func(object client.Object) []string {
			if a := object.(*v1alpha1.ScanRequest).Status.Assignment; a != nil {
				return []string{a.Worker}
			}
			return []string{""}
		}).
		WithObjects(objects...).
		WithInterceptorFuncs(funcs).
		Build()}
}

// scanNamed returns a scan that waits for its vision stage.
func scanNamed(name string) *v1alpha1.ScanRequest {
	return &v1alpha1.ScanRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, CreationTimestamp: metav1.Now(), Generation: 1},
		Spec: v1alpha1.ScanRequestSpec{
			ImageURL: "https://example.com/" + name + ".jpg", DeadlineSeconds: 300,
		},
	}
}

// foldContext is what pipeline.Fold has to know of a scan.
func foldContext(scan *v1alpha1.ScanRequest, now time.Time) pipeline.Context {
	return scanstatus.FoldContext(scan, now, rand.Float64)
}

// assign folds an assignment into a scan as the scheduler does.
func assign(t *testing.T, scan *v1alpha1.ScanRequest, id, worker string) *v1alpha1.ScanRequest {
	t.Helper()
	now := time.Now()
	_, err := pipeline.Fold(foldContext(scan, now), &scan.Status, pipeline.Assigned{
		AcceptedAt: now,
		Assignment: v1alpha1.Assignment{
			ID: id, Stage: pipeline.NextStage(&scan.Status), Worker: worker, Pool: "vision", Budget: "main", Model: "m",
			Attempt: 1, MaxAttempts: 5, ReservedTokens: 1000, Deadline: metav1.NewMicroTime(now.Add(time.Minute)),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return scan
}

// release takes a scan from its worker as the scheduler does.
func release(t *testing.T, scan *v1alpha1.ScanRequest) *v1alpha1.ScanRequest {
	t.Helper()
	_, err := pipeline.Fold(foldContext(scan, time.Now()), &scan.Status, pipeline.Released{
		AssignmentID: scan.Status.Assignment.ID, Class: v1alpha1.FailureWorkerLost, Message: "the Lease expired",
	})
	if err != nil {
		t.Fatal(err)
	}
	return scan
}

func assigned(t *testing.T, name, id string) *v1alpha1.ScanRequest {
	t.Helper()
	return assign(t, scanNamed(name), id, me)
}

// classified is a successful vision stage.
func classified() pipeline.Outcome {
	now := time.Now()
	return pipeline.Outcome{
		Stage: v1alpha1.StageVision, State: v1alpha1.StageSucceeded, StartedAt: now, FinishedAt: now,
		Usage:  v1alpha1.TokenUsage{Input: 700, Output: 40},
		Result: v1alpha1.ScanResult{Classification: &v1alpha1.Classification{MajorCategory: "재활용폐기물"}},
	}
}

// failedWith is a failed vision stage.
func failedWith(class v1alpha1.FailureClass) pipeline.Outcome {
	now := time.Now()
	return pipeline.Outcome{
		Stage: v1alpha1.StageVision, StartedAt: now, FinishedAt: now,
		Failure: &pipeline.Failure{Class: class, Message: "it failed"},
	}
}

// stubRunner runs every assignment until its answer arrives, or until its context ends.
type stubRunner struct {
	mu      sync.Mutex
	answers map[string]chan pipeline.Outcome
	started []string // assignment ids, in order
	ended   map[string]error
}

func newStubRunner() *stubRunner {
	return &stubRunner{answers: map[string]chan pipeline.Outcome{}, ended: map[string]error{}}
}

func (s *stubRunner) channel(id string) chan pipeline.Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answers[id] == nil {
		s.answers[id] = make(chan pipeline.Outcome, 1)
	}
	return s.answers[id]
}

// answer lets the run of an assignment end.
func (s *stubRunner) answer(id string, outcome pipeline.Outcome) {
	s.channel(id) <- outcome
	synctest.Wait()
}

func (s *stubRunner) Run(ctx context.Context, scan stages.Scan, _ []v1alpha1.StageName) []pipeline.Outcome {
	id := scan.Assignment.ID
	answer := s.channel(id)
	s.mu.Lock()
	s.started = append(s.started, id)
	s.mu.Unlock()
	select {
	case outcome := <-answer:
		return []pipeline.Outcome{outcome}
	case <-ctx.Done():
		cause := context.Cause(ctx)
		s.mu.Lock()
		s.ended[id] = cause
		s.mu.Unlock()
		outcome := failedWith(v1alpha1.FailureDrained)
		if failure, ok := errors.AsType[*pipeline.Failure](cause); ok {
			outcome.Failure = failure
		} else if errors.Is(cause, context.DeadlineExceeded) {
			outcome.Failure.Class = v1alpha1.FailureTimeout
		}
		return []pipeline.Outcome{outcome}
	}
}

func (s *stubRunner) startedIDs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.started...)
}

func (s *stubRunner) causeOf(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended[id]
}

// stubReporter collects what is reported.
type stubReporter struct {
	mu      sync.Mutex
	events  []pipeline.Event
	current *v1alpha1.ScanRequest // what read returns
	readErr error
	reads   int
}

func (s *stubReporter) report(_ context.Context, _ *v1alpha1.ScanRequest, event pipeline.Event) scanstatus.Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, event)
	return scanstatus.Written
}

func (s *stubReporter) read(context.Context, types.NamespacedName) (*v1alpha1.ScanRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	return s.current, s.readErr
}

// reported names the events in short.
func (s *stubReporter) reported() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := []string{}
	for _, event := range s.events {
		switch e := event.(type) {
		case pipeline.Completed:
			names = append(names, e.AssignmentID+" "+outcomeLabel(e.Outcomes[len(e.Outcomes)-1]))
		case pipeline.Released:
			names = append(names, e.AssignmentID+" released "+string(e.Class))
		}
	}
	return names
}

// stubMembership is a Lease whose validity the test decides.
type stubMembership struct {
	mu      sync.Mutex
	isValid bool
	renewed chan struct{}
}

func newStubMembership(valid bool) *stubMembership {
	return &stubMembership{isValid: valid, renewed: make(chan struct{})}
}

func (s *stubMembership) valid() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isValid
}

func (s *stubMembership) awaitValid(ctx context.Context) error {
	select {
	case <-s.renewed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *stubMembership) renew() {
	s.mu.Lock()
	s.isValid = true
	s.mu.Unlock()
	close(s.renewed)
	synctest.Wait()
}

func testMetrics() *metrics { return newMetrics(prometheus.NewRegistry(), "vision") }

func testAssignments(runner Runner, capacity int, rep reporter, mem membership) *assignments {
	leaderClock := NewLeaderClock(clock.RealClock{})
	leaderClock.observe(time.Now()) // an earlier assignment has shown that the clocks agree
	a := newAssignments(assignmentsOptions{
		runner: runner, stages: []v1alpha1.StageName{v1alpha1.StageVision, v1alpha1.StageRule}, capacity: capacity,
		reporter: rep, membership: mem, clock: leaderClock, leaderClock: leaderClock, log: logr.Discard(), metrics: testMetrics(),
	})
	a.setIdentity(me)
	return a
}
