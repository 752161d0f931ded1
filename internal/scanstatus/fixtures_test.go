// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scanstatus

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// The tests run in synctest bubbles: there the real clock is a fake one that moves when all goroutines wait.

const worker = "pod-0-abcdef"

var (
	scanKey  = types.NamespacedName{Namespace: "scans", Name: "a"}
	resource = schema.GroupResource{Group: v1alpha1.GroupName, Resource: "scanrequests"}
	errDown  = errors.New("connection refused")
)

// server is an API server whose answers the test decides.
type server struct {
	t      *testing.T
	stored client.WithWatch
	// onPatch and onRead answer the nth request; do carries it out. Nil carries out every request.
	onPatch, onRead func(ctx context.Context, n int, do func() error) error
	patches, reads  int
	patchedAt       []time.Time
}

func newServer(t *testing.T, objects ...client.Object) *server {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	stored := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.ScanRequest{}).WithObjects(objects...).Build()
	return &server{t: t, stored: stored}
}

// client sends patches. It cannot read: a cached client would return old versions.
func (s *server) client() client.Client {
	return interceptor.NewClient(s.stored, interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			s.t.Error("the writer read through the caching client")
			return errDown
		},
		SubResourcePatch: func(ctx context.Context, _ client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			s.patches++
			s.patchedAt = append(s.patchedAt, time.Now())
			do := func() error { return s.stored.SubResource(sub).Patch(ctx, o, p, opts...) }
			if s.onPatch != nil {
				return s.onPatch(ctx, s.patches, do)
			}
			return do()
		},
	})
}

// reader reads past the cache.
func (s *server) reader() client.Reader {
	return interceptor.NewClient(s.stored, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			s.reads++
			do := func() error { return c.Get(ctx, key, o, opts...) }
			if s.onRead != nil {
				return s.onRead(ctx, s.reads, do)
			}
			return do()
		},
	})
}

// writer returns a writer to the server with the default delays.
func (s *server) writer(policy Policy) *Writer {
	return New(Options{Client: s.client(), APIReader: s.reader(), Clock: clock.RealClock{}, Log: logr.Discard(), Policy: policy})
}

// scan returns what is stored, and nil if that is nothing.
func (s *server) scan() *v1alpha1.ScanRequest {
	s.t.Helper()
	scan := &v1alpha1.ScanRequest{}
	if err := s.stored.Get(s.t.Context(), scanKey, scan); client.IgnoreNotFound(err) != nil {
		s.t.Fatal(err)
	} else if err != nil {
		return nil
	}
	return scan
}

// store has another writer store an event.
func (s *server) store(ev pipeline.Event) {
	s.t.Helper()
	if err := s.stored.Status().Update(s.t.Context(), fold(s.t, s.scan(), ev)); err != nil {
		s.t.Fatal(err)
	}
}

// edit changes the scan besides its status.
func (s *server) edit(change func(*v1alpha1.ScanRequest)) {
	s.t.Helper()
	scan := s.scan()
	change(scan)
	if err := s.stored.Update(s.t.Context(), scan); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) delete() {
	s.t.Helper()
	if err := s.stored.Delete(s.t.Context(), s.scan()); err != nil {
		s.t.Fatal(err)
	}
}

// pendingScan returns a scan that waits for its vision stage.
func pendingScan() *v1alpha1.ScanRequest {
	return &v1alpha1.ScanRequest{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: scanKey.Namespace, Name: scanKey.Name, UID: "uid-a", CreationTimestamp: metav1.Now(), Generation: 1,
		},
		Spec: v1alpha1.ScanRequestSpec{ImageURL: "https://example.com/a.jpg", DeadlineSeconds: 300},
	}
}

func fold(t *testing.T, scan *v1alpha1.ScanRequest, ev pipeline.Event) *v1alpha1.ScanRequest {
	t.Helper()
	if _, err := pipeline.Fold(FoldContext(scan, time.Now(), func() float64 { return 0.5 }), &scan.Status, ev); err != nil {
		t.Fatal(err)
	}
	return scan
}

// assignTo assigns a stage.
func assignTo(stage v1alpha1.StageName, id, to string) pipeline.Event {
	return pipeline.Assigned{AcceptedAt: time.Now(), Assignment: v1alpha1.Assignment{
		ID: id, Stage: stage, Worker: to, Budget: "main", Model: "m", Attempt: 1, MaxAttempts: 5, ReservedTokens: 1000,
		Deadline: metav1.NewMicroTime(time.Now().Add(time.Minute)),
	}}
}

// assigned returns a scan whose vision stage runs under assignment 1.
func assigned(t *testing.T) *v1alpha1.ScanRequest {
	t.Helper()
	return fold(t, pendingScan(), assignTo(v1alpha1.StageVision, "1", worker))
}

// classified is the result of assignment 1.
func classified() pipeline.Event {
	now := time.Now()
	return pipeline.Completed{AssignmentID: "1", Outcomes: []pipeline.Outcome{{
		Stage: v1alpha1.StageVision, State: v1alpha1.StageSucceeded, StartedAt: now, FinishedAt: now,
		Usage:  v1alpha1.TokenUsage{Input: 700, Output: 40},
		Result: v1alpha1.ScanResult{Classification: &v1alpha1.Classification{MajorCategory: "재활용폐기물"}},
	}, {Stage: v1alpha1.StageRule, State: v1alpha1.StageSucceeded, StartedAt: now, FinishedAt: now}}}
}

// released gives assignment id back.
func released(id string, class v1alpha1.FailureClass) pipeline.Event {
	return pipeline.Released{AssignmentID: id, Class: class, Message: "released"}
}
