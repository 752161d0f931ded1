// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kube "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/pkg/client"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

var photo = scanapi.SubmitRequest{ImageURL: "https://img.example.com/a.jpg", UserInput: "어떻게 버려요?"}

// operate writes one event into a scan's status, as the operator's parts do.
func operate(t *testing.T, admin kube.Client, namespace, name string, event func(*v1alpha1.ScanRequestStatus) pipeline.Event) {
	t.Helper()
	scan := &v1alpha1.ScanRequest{}
	if err := admin.Get(t.Context(), kube.ObjectKey{Namespace: namespace, Name: name}, scan); err != nil {
		t.Fatal(err)
	}
	c := pipeline.Context{Spec: scan.Spec, CreatedAt: scan.CreationTimestamp.Time, Generation: scan.Generation, Now: time.Now()}
	if _, err := pipeline.Fold(c, &scan.Status, event(&scan.Status)); err != nil {
		t.Fatal(err)
	}
	if err := admin.Status().Update(t.Context(), scan); err != nil {
		t.Fatal(err)
	}
}

func assign(stage v1alpha1.StageName) func(*v1alpha1.ScanRequestStatus) pipeline.Event {
	return func(*v1alpha1.ScanRequestStatus) pipeline.Event {
		return pipeline.Assigned{Assignment: v1alpha1.Assignment{
			ID: "assignment-" + string(stage), Stage: stage, Worker: "worker", Attempt: 1, MaxAttempts: 3,
			Deadline: metav1.NowMicro(),
		}}
	}
}

func complete(outcomes ...pipeline.Outcome) func(*v1alpha1.ScanRequestStatus) pipeline.Event {
	return func(s *v1alpha1.ScanRequestStatus) pipeline.Event {
		now := time.Now()
		for i := range outcomes {
			outcomes[i].State, outcomes[i].StartedAt, outcomes[i].FinishedAt = v1alpha1.StageSucceeded, now, now
		}
		return pipeline.Completed{AssignmentID: s.Assignment.ID, Outcomes: outcomes}
	}
}

var (
	visionOutcome = pipeline.Outcome{Stage: v1alpha1.StageVision, Result: v1alpha1.ScanResult{
		Classification: &v1alpha1.Classification{MajorCategory: "재활용폐기물", MiddleCategory: "종이", MinorCategory: "상자"},
	}}
	ruleOutcome   = pipeline.Outcome{Stage: v1alpha1.StageRule, Result: v1alpha1.ScanResult{DisposalRules: &v1alpha1.DisposalRules{ID: "paper"}}}
	answerOutcome = pipeline.Outcome{Stage: v1alpha1.StageAnswer, Result: v1alpha1.ScanResult{Answer: &v1alpha1.Answer{UserAnswer: "펴서 묶으세요."}}}
	rewardOutcome = pipeline.Outcome{Stage: v1alpha1.StageReward, Result: v1alpha1.ScanResult{Reward: &v1alpha1.Reward{Name: "페이피"}}}
)

// A scan is followed to its end although the replica that serves its stream stops half-way, and is known on both
// replicas from the moment it was accepted.
func TestAScanAcrossTwoReplicas(t *testing.T) {
	admin, namespace := newAdmin(t), controlPlane.NewNamespace(t)
	first, second := startReplica(t, namespace), startReplica(t, namespace)
	var current atomic.Pointer[replica]
	current.Store(first)
	anyReplica := clientOf(t, current.Load)

	job, err := anyReplica.Submit(t.Context(), photo)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range []*replica{first, second} {
		if poll, err := clientOf(t, only(r)).Result(t.Context(), job.JobID); err != nil || poll.Processing == nil {
			t.Errorf("replica %d right after the submit: %+v, %v", i, poll, err)
		}
	}
	var seqs []int
	for event, err := range anyReplica.Events(t.Context(), job.JobID) {
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, event.Seq)
		switch event.Seq {
		case 0:
			operate(t, admin, namespace, job.JobID, assign(v1alpha1.StageVision))
		case 1:
			operate(t, admin, namespace, job.JobID, complete(visionOutcome, ruleOutcome))
		case 4:
			current.Store(second)
			first.stop()
			operate(t, admin, namespace, job.JobID, assign(v1alpha1.StageAnswer))
		case 5:
			operate(t, admin, namespace, job.JobID, complete(answerOutcome, rewardOutcome))
		}
	}
	if diff := cmp.Diff([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, seqs); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	result, err := anyReplica.Wait(t.Context(), job.JobID)
	if err != nil {
		t.Fatal(err)
	}
	if result.Status != scanapi.StatusCompleted || result.PipelineResult.FinalAnswer.UserAnswer != "펴서 묶으세요." || result.Reward.Name != "페이피" {
		t.Errorf("result %+v", result)
	}
}

func TestPollsAskNothingOfTheAPIServer(t *testing.T) {
	namespace := controlPlane.NewNamespace(t)
	r := startReplica(t, namespace)
	c := clientOf(t, only(r))
	job, err := c.Submit(t.Context(), photo)
	if err != nil {
		t.Fatal(err)
	}
	before := int64(-1)
	eventually(t, "a poll is answered from the watch", func() bool {
		before = r.requests.Load()
		if _, err := c.Result(t.Context(), job.JobID); err != nil {
			t.Fatal(err)
		}
		return r.requests.Load() == before
	})
	for range 100 {
		if _, err := c.Result(t.Context(), job.JobID); err != nil {
			t.Fatal(err)
		}
	}
	if asked := r.requests.Load() - before; asked != 0 {
		t.Errorf("100 polls asked the API server %d times, want 0", asked)
	}
}

func TestOneKeyMakesOneScan(t *testing.T) {
	admin, namespace := newAdmin(t), controlPlane.NewNamespace(t)
	clients := []*client.Client{
		clientOf(t, only(startReplica(t, namespace))), clientOf(t, only(startReplica(t, namespace))),
	}
	const n = 100
	ids := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			job, err := clients[i%len(clients)].Submit(t.Context(), photo, client.IdempotencyKey("key"))
			if err != nil {
				t.Errorf("submit %d: %v", i, err)
				return
			}
			ids[i] = job.JobID
		})
	}
	wg.Wait()
	for i, id := range ids {
		if id != ids[0] || id == "" {
			t.Fatalf("submit %d is scan %q, submit 0 is scan %q", i, id, ids[0])
		}
	}
	var scans v1alpha1.ScanRequestList
	if err := admin.List(t.Context(), &scans, kube.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	if len(scans.Items) != 1 {
		t.Errorf("%d scans, want 1", len(scans.Items))
	}
	other := photo
	other.UserInput = "다른 질문"
	_, err := clients[0].Submit(t.Context(), other, client.IdempotencyKey("key"))
	if p, ok := errors.AsType[*scanapi.Problem](err); !ok || p.Code != scanapi.CodeIdempotencyReused || p.Status != http.StatusConflict {
		t.Errorf("another body with the same key: %v", err)
	}
}

// What the API lets through, the API server takes: otherwise a user would meet a message about a field that the API
// does not have.
func TestTheAPIServerTakesWhatTheAPITakes(t *testing.T) {
	namespace := controlPlane.NewNamespace(t)
	c := clientOf(t, only(startReplica(t, namespace)))
	for name, request := range map[string]scanapi.SubmitRequest{
		"longest URL":       {ImageURL: "https://a/" + strings.Repeat("b", 2038)},
		"longest in Hangul": {ImageURL: "https://a/" + strings.Repeat("가", 2038)},
		"longest question":  {ImageURL: photo.ImageURL, UserInput: strings.Repeat("가", 4000)},
		"line breaks":       {ImageURL: photo.ImageURL, UserInput: "a\r\n\tb"},
		"unicode host":      {ImageURL: "https://이미지.example.com/사진.jpg"},
		"IPv6":              {ImageURL: "http://[2001:db8::1]:8080/a.jpg"},
		"capital scheme":    {ImageURL: "HTTPS://A/b"},
		"signed":            {ImageURL: "https://a/b?X-Amz-Signature=0a%2Fb&x=y%20z#f"},
	} {
		if _, err := c.Submit(t.Context(), request); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestModelsComeFromBudgets(t *testing.T) {
	admin, namespace := newAdmin(t), controlPlane.NewNamespace(t)
	c := clientOf(t, only(startReplica(t, namespace)))
	request := photo
	request.Model = "gpt-a"
	_, err := c.Submit(t.Context(), request)
	if p, ok := errors.AsType[*scanapi.Problem](err); !ok || p.Code != scanapi.CodeUnsupportedModel {
		t.Fatalf("submit without a budget: %v", err)
	}
	budget := &v1alpha1.TokenBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "budget"},
		Spec: v1alpha1.TokenBudgetSpec{
			SecretRef: v1alpha1.SecretKeyReference{Name: "key", Key: "key"}, Models: []string{"gpt-b", "gpt-a"},
			TokensPerMinute: 1000, RequestsPerMinute: 10,
		},
	}
	if err := admin.Create(t.Context(), budget); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the budget's model is supported", func() bool {
		_, err := c.Submit(t.Context(), request)
		return err == nil
	})
}

func TestCanceledScanIsGone(t *testing.T) {
	admin, namespace := newAdmin(t), controlPlane.NewNamespace(t)
	c := clientOf(t, only(startReplica(t, namespace)))
	job, err := c.Submit(t.Context(), photo)
	if err != nil {
		t.Fatal(err)
	}
	var last *scanapi.Event
	for event, err := range c.Events(t.Context(), job.JobID) {
		if err != nil {
			t.Fatal(err)
		}
		if last = event; event.Seq == 0 {
			if err := c.Cancel(t.Context(), job.JobID); err != nil {
				t.Fatal(err)
			}
		}
	}
	if last.Stage != scanapi.EventError || last.Seq != 1 {
		t.Errorf("the stream ended with %+v, want an error", last)
	}
	err = admin.Get(t.Context(), kube.ObjectKey{Namespace: namespace, Name: job.JobID}, &v1alpha1.ScanRequest{})
	if kube.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("the scan after its cancellation: %v, want not found", err)
	}
	eventually(t, "the canceled scan has no result", func() bool {
		_, err := c.Result(t.Context(), job.JobID)
		p, ok := errors.AsType[*scanapi.Problem](err)
		return ok && p.Code == scanapi.CodeResultNotFound
	})
}
