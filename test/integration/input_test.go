// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/dev/openaisim"
)

// checkFailed checks how a scan failed, and that its message has the parts that say what to do.
func checkFailed(t *testing.T, scan *v1alpha1.ScanRequest, reason string, parts ...string) {
	t.Helper()
	c := finishedCondition(t, scan)
	if scan.Status.Phase != v1alpha1.ScanFailed || c.Reason != reason {
		t.Errorf("phase %s, reason %s, want Failed, %s: %s", scan.Status.Phase, c.Reason, reason, c.Message)
	}
	checkMessage(t, c, parts...)
	if scan.Status.Assignment != nil {
		t.Errorf("a failed scan has an assignment: %+v", scan.Status.Assignment)
	}
}

func checkMessage(t *testing.T, c *metav1.Condition, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(c.Message, part) {
			t.Errorf("message of %s: %q\nwant a part: %q", c.Type, c.Message, part)
		}
	}
}

func TestUnknownModel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.start()
	w.submit("scan", func(s *v1alpha1.ScanRequestSpec) { s.Model = "gpt-9" })
	checkFailed(t, w.awaitFinished("scan"), v1alpha1.ReasonUnsupportedModel, `"gpt-9"`, "gpt-5-mini, gpt-5.1")
	w.provider.checkPaid(t, 0, 0)

	w.submit("other", func(s *v1alpha1.ScanRequestSpec) { s.Model = "gpt-5-mini" })
	if s := stage(t, w.awaitSucceeded("other"), v1alpha1.StageAnswer); s.Model != "gpt-5-mini" {
		t.Errorf("the answer came from model %q, want the scan's own", s.Model)
	}
}

func TestMissingSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(s *settings) { s.noSecret = true })
	w.start()
	w.submit("scan", nil)
	checkMessage(t, w.awaitBudget(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotFound), `"`+secretName+`"`, `"`+secretKey+`"`)
	checkMessage(t, w.awaitWaiting("scan", v1alpha1.ReasonWaitingForBudget), `"`+budgetName+`"`, `"`+secretName+`"`)
	w.setKey(firstKey)
	w.awaitSucceeded("scan")
	w.awaitBudget(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonKeyFound)
	w.provider.checkPaid(t, 1, 1)
}

func TestSecretWithoutTheKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(s *settings) { s.budget.SecretRef.Key = "other-key" })
	w.start()
	checkMessage(t, w.awaitBudget(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretKeyNotFound), `"`+secretName+`"`, `"other-key"`)
}

// TestRejectedKey makes the provider refuse the key: the scans are held, not failed, and continue with another key
// without a restart.
func TestRejectedKey(t *testing.T) {
	t.Parallel()
	const scans = 5
	w := newWorld(t, nil)
	w.provider.revoke(t, firstKey, true)
	w.start()
	for i := range scans {
		w.submit(fmt.Sprintf("scan-%d", i), nil)
	}
	checkMessage(t, w.awaitBudget(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonKeyRejected), "Secret")
	for i := range scans {
		w.awaitWaiting(fmt.Sprintf("scan-%d", i), v1alpha1.ReasonWaitingForBudget)
	}
	w.setKey("sk-second")
	for i := range scans {
		scan := w.awaitSucceeded(fmt.Sprintf("scan-%d", i))
		if s := stage(t, scan, v1alpha1.StageVision); s.Attempts != 1 {
			t.Errorf("%s: %d attempts of vision, want 1: a refused key is not the scan's fault", scan.Name, s.Attempts)
		}
	}
	w.awaitBudget(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonKeyFound)
	w.provider.checkPaid(t, scans, scans)
	if refused := w.provider.refusals(); refused < 1 || refused > 2*scans {
		t.Errorf("%d calls were refused for their key, want at least one and only a few", refused)
	}
}

// TestBudgetSmallerThanOneCall ends with the numbers that do not fit.
func TestBudgetSmallerThanOneCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(s *settings) { s.budget.TokensPerMinute = 500 })
	w.start()
	w.submit("scan", nil)
	scan := w.awaitFinished("scan")
	checkFailed(t, scan, v1alpha1.ReasonRequestTooLarge, "tokensPerMinute", "maxOutputTokens", budgetName)
	if numbers := regexp.MustCompile(`needs \d+ tokens .* allows no more than \d+`); !numbers.MatchString(finishedCondition(t, scan).Message) {
		t.Errorf("message %q, want both numbers", finishedCondition(t, scan).Message)
	}
	w.provider.checkPaid(t, 0, 0)
}

// TestMissingPool leaves out the pool of the second half: the scan waits there, and its status says for what.
func TestMissingPool(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(s *settings) { delete(s.pools, answerPool) })
	w.startManager(managerOptions{})
	w.startWorker(visionPool, v1alpha1.StageVision, v1alpha1.StageRule)
	w.submit("scan", nil)
	checkMessage(t, w.awaitWaiting("scan", v1alpha1.ReasonWaitingForWorker), "answer", "WorkerPool")
	create(t, w.admin, &v1alpha1.WorkerPool{ObjectMeta: named(w.namespace, answerPool), Spec: v1alpha1.WorkerPoolSpec{
		Stages:  []v1alpha1.StageName{v1alpha1.StageAnswer, v1alpha1.StageReward},
		Budgets: []v1alpha1.BudgetReference{{Name: budgetName}}, MaxReplicas: 1,
	}})
	w.startWorker(answerPool, v1alpha1.StageAnswer, v1alpha1.StageReward)
	w.awaitSucceeded("scan")
	w.provider.checkPaid(t, 1, 1)
}

// TestProviderRefusals are answers of the provider that no further attempt changes.
func TestProviderRefusals(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fault      openaisim.Fault
		wantReason string
		wantAnswer int64 // calls of the answer stage that were paid for
	}{
		"an image the provider cannot fetch": {
			fault:      openaisim.Fault{Kind: openaisim.FaultInvalidImage},
			wantReason: v1alpha1.ReasonInvalidRequest,
		},
		"a photo the model declines to look at": {
			fault:      openaisim.Fault{Kind: openaisim.FaultRefusal, Stage: openaisim.StageVision},
			wantReason: v1alpha1.ReasonContentRefused,
		},
		"a question the model declines to answer": {
			fault:      openaisim.Fault{Kind: openaisim.FaultRefusal, Stage: openaisim.StageAnswer},
			wantReason: v1alpha1.ReasonContentRefused, wantAnswer: 1,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(s *settings) { s.provider.Faults = []openaisim.Fault{tc.fault} })
			w.start()
			w.submit("scan", nil)
			scan := w.awaitFinished("scan")
			checkFailed(t, scan, tc.wantReason)
			for _, s := range scan.Status.Stages {
				if s.Attempts > 1 {
					t.Errorf("%d attempts of stage %s, want one", s.Attempts, s.Name)
				}
			}
			if got := w.provider.Stats().ByStage["answer"]; got != tc.wantAnswer {
				t.Errorf("%d answers were paid for, want %d", got, tc.wantAnswer)
			}
		})
	}
}

// TestTransientFailures are answers of the provider after which the same stage is tried again, and only that one.
func TestTransientFailures(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		kind         openaisim.FaultKind
		stage        openaisim.Stage
		wantAttempts int32 // of the stage that suffered it
	}{
		"a 500 in vision":           {openaisim.FaultServerError, openaisim.StageVision, 2},
		"a lost connection":         {openaisim.FaultReset, openaisim.StageAnswer, 2},
		"malformed output":          {openaisim.FaultMalformed, openaisim.StageAnswer, 2},
		"truncated output":          {openaisim.FaultTruncated, openaisim.StageVision, 2},
		"a rate limit by surprise":  {openaisim.FaultRateLimitRequests, openaisim.StageAnswer, 1},
		"an answer that has failed": {openaisim.FaultFailed, openaisim.StageVision, 2},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(s *settings) {
				s.provider.Faults = []openaisim.Fault{{Kind: tc.kind, Stage: tc.stage, Count: 1}}
			})
			w.start()
			w.submit("scan", nil)
			scan := w.awaitSucceeded("scan")
			for _, name := range []v1alpha1.StageName{v1alpha1.StageVision, v1alpha1.StageAnswer} {
				want := int32(1)
				if string(name) == string(tc.stage) {
					want = tc.wantAttempts
				}
				if s := stage(t, scan, name); s.Attempts != want {
					t.Errorf("%d attempts of stage %s, want %d", s.Attempts, name, want)
				}
			}
		})
	}
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	t.Run("of a scan that no pool takes", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil)
		w.startManager(managerOptions{})
		w.submit("scan", func(s *v1alpha1.ScanRequestSpec) { s.DeadlineSeconds = 2 })
		checkFailed(t, w.awaitFinished("scan"), v1alpha1.ReasonDeadlineExceeded, "2 seconds", "vision")
	})
	t.Run("of a scan whose call does not end", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil)
		gate := w.provider.hold(openaisim.StageAnswer)
		w.start()
		w.submit("scan", func(s *v1alpha1.ScanRequestSpec) { s.DeadlineSeconds = 3 })
		call := gate.next(t)
		scan := w.awaitFinished("scan")
		checkFailed(t, scan, v1alpha1.ReasonDeadlineExceeded, "3 seconds")
		if !meta.IsStatusConditionTrue(scan.Status.Conditions, v1alpha1.ConditionVisionCompleted) || scan.Status.Result.Classification == nil {
			t.Errorf("what was found before the deadline is lost:\n%s", text(scan))
		}
		awaitClosed(t, call.left, "the call to be aborted")
		w.provider.checkPaid(t, 1, 1)
	})
}

func TestDeletionAbortsTheCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	gate := w.provider.hold(openaisim.StageVision)
	w.start()
	scan := w.submit("scan", nil)
	call := gate.next(t)
	if err := w.admin.Delete(t.Context(), scan); err != nil {
		t.Fatal(err)
	}
	awaitClosed(t, call.left, "the call to be aborted")
	if err := w.admin.Get(t.Context(), client.ObjectKeyFromObject(scan), scan); !apierrors.IsNotFound(err) {
		t.Errorf("the scan is still there: %v", err)
	}
	gate.lift()
	w.submit("next", nil) // what the deleted scan had is free again
	w.awaitSucceeded("next")
	w.checkNothingReserved()
}

func TestSuspend(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	gate := w.provider.hold(openaisim.StageVision)
	w.start()
	held := w.submit("held", func(s *v1alpha1.ScanRequestSpec) { s.Suspend = true })
	running := w.submit("running", nil)
	call := gate.next(t)
	w.suspend(running, true) // its stage is finished, and then it waits
	call.answer()
	gate.lift()
	checkMessage(t, w.awaitWaiting("held", v1alpha1.ReasonSuspended), "spec.suspend")
	checkMessage(t, w.awaitWaiting("running", v1alpha1.ReasonSuspended), "spec.suspend")
	w.provider.checkPaid(t, 1, 0)

	w.suspend(held, false)
	w.suspend(running, false)
	w.awaitSucceeded("held")
	w.awaitSucceeded("running")
	w.provider.checkPaid(t, 2, 2)
}

// suspend sets whether a scan is suspended.
func (w *world) suspend(scan *v1alpha1.ScanRequest, suspend bool) {
	w.t.Helper()
	patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec": {"suspend": %t}}`, suspend))
	if err := w.admin.Patch(w.t.Context(), scan, patch); err != nil {
		w.t.Fatal(err)
	}
}
