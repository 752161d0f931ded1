// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/pkg/client"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
	"github.com/eco2-team/scan-operator/test/testenv"
)

// TestSmoke starts everything as `make run` does, uses it as users do, also with mistakes, and stops it.
func TestSmoke(t *testing.T) {
	l := startLocal(t, filepath.Join("testdata", "smoke"))
	user, err := client.New(l.apiURL, client.WithUser("smoke"))
	if err != nil {
		t.Fatal(err)
	}

	t.Run("a scan by HTTP", func(t *testing.T) {
		ctx := within(t, time.Minute)
		job, err := user.Submit(ctx, scanapi.SubmitRequest{ImageURL: "https://images.example.org/bottle.jpg", UserInput: "이거 어떻게 버려요?"})
		if err != nil {
			t.Fatal(err)
		}
		var stages []string
		for event, err := range user.Events(ctx, job.JobID) {
			if err != nil {
				t.Fatal(err)
			}
			if len(stages) == 0 || stages[len(stages)-1] != event.Stage {
				stages = append(stages, event.Stage)
			}
		}
		if got, want := strings.Join(stages, " "), "queued vision rule answer reward done"; got != want {
			t.Errorf("events of %q, want %q", got, want)
		}
		result, err := user.Wait(ctx, job.JobID)
		if err != nil {
			t.Fatal(err)
		}
		if result.Status != "completed" || result.PipelineResult == nil || result.PipelineResult.FinalAnswer == nil ||
			result.PipelineResult.FinalAnswer.UserAnswer == "" {
			t.Errorf("result %+v, want a completed one with an answer", result)
		}
	})

	t.Run("a scan by kubectl", func(t *testing.T) {
		scan := l.scan(t, "by-kubectl", `{imageURL: "https://images.example.org/can.jpg"}`)
		if scan.Status.Phase != v1alpha1.ScanSucceeded || scan.Status.Result == nil || scan.Status.Result.Answer == nil {
			t.Errorf("status %+v, want success and an answer", scan.Status)
		}
		row := l.must(t, "", "get", "scanrequest", "by-kubectl")
		for _, want := range []string{"PHASE", "Succeeded", scan.Status.Summary.Category} {
			if !strings.Contains(row, want) {
				t.Errorf("kubectl get shows\n%s\nwant %q in it", row, want)
			}
		}
	})

	t.Run("bad requests by HTTP", func(t *testing.T) {
		for name, tc := range map[string]struct {
			request  scanapi.SubmitRequest
			wantCode string
		}{
			"unknown model":     {scanapi.SubmitRequest{ImageURL: "https://images.example.org/a.jpg", Model: "gpt-9"}, scanapi.CodeUnsupportedModel},
			"URL that is none":  {scanapi.SubmitRequest{ImageURL: "not a URL"}, scanapi.CodeImageURLInvalid},
			"no URL":            {scanapi.SubmitRequest{}, scanapi.CodeImageURLRequired},
			"URL of a file":     {scanapi.SubmitRequest{ImageURL: "file:///etc/passwd"}, scanapi.CodeImageURLInvalid},
			"too long question": {scanapi.SubmitRequest{ImageURL: "https://images.example.org/a.jpg", UserInput: strings.Repeat("x", 4001)}, scanapi.CodeUserInputInvalid},
		} {
			t.Run(name, func(t *testing.T) {
				_, err := user.Submit(within(t, 10*time.Second), tc.request)
				var problem *scanapi.Problem
				if !errors.As(err, &problem) || problem.Code != tc.wantCode || problem.Detail == "" {
					t.Errorf("error %v, want a problem with the code %s that says what to do", err, tc.wantCode)
				}
			})
		}
	})

	t.Run("bad scans by kubectl", func(t *testing.T) {
		for name, tc := range map[string]struct {
			spec       string
			wantReason string
			wantWords  []string
		}{
			"unknown-model": {
				`{imageURL: "https://images.example.org/a.jpg", model: gpt-9}`,
				v1alpha1.ReasonUnsupportedModel,
				[]string{`"gpt-9"`, "gpt-5.1"},
			},
			"budget-smaller-than-one-call": {
				`{imageURL: "https://images.example.org/a.jpg", model: gpt-5-mini}`,
				v1alpha1.ReasonRequestTooLarge,
				[]string{`"small"`, "tokensPerMinute"},
			},
		} {
			t.Run(name, func(t *testing.T) {
				scan := l.scan(t, name, tc.spec)
				finished := meta.FindStatusCondition(scan.Status.Conditions, v1alpha1.ConditionFinished)
				if scan.Status.Phase != v1alpha1.ScanFailed || finished.Reason != tc.wantReason {
					t.Errorf("phase %s, reason %s, want Failed, %s", scan.Status.Phase, finished.Reason, tc.wantReason)
				}
				for _, want := range tc.wantWords {
					if !strings.Contains(finished.Message, want) {
						t.Errorf("message %q, want %s in it", finished.Message, want)
					}
				}
			})
		}
		t.Run("URL that is none", func(t *testing.T) {
			_, err := l.run(t.Context(), `{apiVersion: scan.growbin.app/v1alpha1, kind: ScanRequest, metadata: {name: no-url}, spec: {imageURL: "not a URL"}}`,
				"create", "-f", "-")
			if err == nil || !strings.Contains(err.Error(), "spec.imageURL") || !strings.Contains(err.Error(), "http") {
				t.Errorf("error %v, want one that names the field and what it must be", err)
			}
		})
	})

	t.Run("a missing Secret", func(t *testing.T) {
		l.must(t, `{apiVersion: scan.growbin.app/v1alpha1, kind: TokenBudget, metadata: {name: keyless}, spec: {
			secretRef: {name: nowhere, key: api-key}, models: [gpt-5.1], tokensPerMinute: 1000000, requestsPerMinute: 1000}}`, "create", "-f", "-")
		l.must(t, "", "wait", "--for=condition=Ready=false", "--timeout=30s", "tokenbudget/keyless")
		const path = `jsonpath={.status.conditions[?(@.type=="Ready")].reason}: {.status.conditions[?(@.type=="Ready")].message}`
		got := l.must(t, "", "get", "tokenbudget", "keyless", "-o", path)
		for _, want := range []string{v1alpha1.ReasonSecretNotFound, `"nowhere"`} {
			if !strings.Contains(got, want) {
				t.Errorf("condition Ready says %q, want %s in it", got, want)
			}
		}
	})

	t.Run("SIGTERM leaves no process", func(t *testing.T) {
		const parts = 7 // etcd, kube-apiserver, kube-controllers, openai-sim, manager, api, worker
		children := l.children(t)
		if len(children) < parts {
			t.Fatalf("%d processes run, want at least %d", len(children), parts)
		}
		if err := l.process.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-l.ended:
			if err != nil {
				t.Errorf("it ended with %v, want exit code 0", err)
			}
		case <-within(t, time.Minute).Done():
			t.Fatal("it does not end")
		}
		for _, pid := range children {
			if syscall.Kill(pid, 0) == nil {
				t.Errorf("process %d still runs", pid)
			}
		}
	})
}

// TestKnowledgePackWithATypo starts manager and worker with a pack that has a misspelled field.
func TestKnowledgePackWithATypo(t *testing.T) {
	_, binDir := programs(t)
	pack := t.TempDir()
	if err := os.CopyFS(pack, os.DirFS(testenv.Path("internal", "pipeline", "knowledge", "default"))); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(pack, "taxonomy.yaml")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const field = "recyclable:"
	before, after, found := bytes.Cut(content, []byte(field))
	if !found {
		t.Fatalf("the default pack has no %q to misspell", field)
	}
	line := bytes.Count(before, []byte("\n")) + 1
	if err := os.WriteFile(path, slices.Concat(before, []byte("recycleable:"), after), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"manager": {"--knowledge-dir", pack},
		"worker":  {"--knowledge-dir", pack, "--pool", "scans", "--stages", "vision,rule"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := exec.CommandContext(within(t, 20*time.Second), filepath.Join(binDir, name), args...).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 2 {
				t.Errorf("it ended with %v, want exit code 2", err)
			}
			for _, want := range []string{"taxonomy.yaml:" + strconv.Itoa(line) + ": ", "recycleable"} {
				if !strings.Contains(string(out), want) {
					t.Errorf("it says\n%s\nwant %q in it", out, want)
				}
			}
		})
	}
}
