// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/test/testenv"
)

const imageURL = "https://images.example.org/bottle.jpg"

func create[T client.Object](t *testing.T, c client.Client, object T) T {
	t.Helper()
	if err := c.Create(t.Context(), object); err != nil {
		t.Fatalf("create %T %s: %v", object, object.GetName(), err)
	}
	return object
}

// writeStatus changes a status as it is stored.
func writeStatus[T client.Object](t *testing.T, c client.Client, object T, change func(T)) T {
	t.Helper()
	change(object)
	if err := c.Status().Update(t.Context(), object); err != nil {
		t.Fatalf("update the status of %T %s: %v", object, object.GetName(), err)
	}
	return object
}

func named(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, namespace := adminClient(t), controlPlane.NewNamespace(t)
	tests := map[string]struct {
		give string
		want map[string]any // the whole object but its metadata
	}{
		"a scan": {
			give: `{"kind": "ScanRequest", "spec": {"imageURL": "https://images.example.org/a.jpg"}}`,
			want: map[string]any{
				"spec": map[string]any{
					"imageURL": "https://images.example.org/a.jpg", "priority": int64(0),
					"deadlineSeconds": int64(300), "ttlSecondsAfterFinished": int64(3600),
				},
				"status": map[string]any{"phase": "Queued"},
			},
		},
		"a budget": {
			give: `{"kind": "TokenBudget", "spec": {"secretRef": {"name": "a", "key": "b"}, "models": ["m"], "tokensPerMinute": 1, "requestsPerMinute": 2}}`,
			want: map[string]any{"spec": map[string]any{
				"secretRef": map[string]any{"name": "a", "key": "b"}, "models": []any{"m"},
				"tokensPerMinute": int64(1), "requestsPerMinute": int64(2),
				"targetUtilizationPercent": int64(95), "rateLimitHeaders": "Follow",
			}},
		},
		"a pool": {
			give: `{"kind": "WorkerPool", "spec": {"stages": ["vision"], "budgets": [{"name": "b"}], "maxReplicas": 3}}`,
			want: map[string]any{"spec": map[string]any{
				"stages": []any{"vision"}, "budgets": []any{map[string]any{"name": "b", "weight": int64(1)}},
				"concurrencyPerWorker": int64(100), "minReplicas": int64(1), "maxReplicas": int64(3),
				"stageDefaults": map[string]any{
					"timeoutSeconds": int64(60), "maxAttempts": int64(5), "maxOutputTokens": int64(800), "imageDetail": "low",
				},
			}},
		},
		"a pool without budgets": {
			give: `{"kind": "WorkerPool", "spec": {"stages": ["rule"], "maxReplicas": 1, "stageDefaults": {"timeoutSeconds": 5}}}`,
			want: map[string]any{"spec": map[string]any{
				"stages": []any{"rule"}, "budgets": []any{},
				"concurrencyPerWorker": int64(100), "minReplicas": int64(1), "maxReplicas": int64(1),
				"stageDefaults": map[string]any{
					"timeoutSeconds": int64(5), "maxAttempts": int64(5), "maxOutputTokens": int64(800), "imageDetail": "low",
				},
			}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			object := &unstructured.Unstructured{}
			if err := json.Unmarshal([]byte(tc.give), &object.Object); err != nil {
				t.Fatal(err)
			}
			object.SetAPIVersion(v1alpha1.GroupVersion.String())
			object.SetNamespace(namespace)
			object.SetGenerateName("default-")
			create(t, c, object)
			got := object.DeepCopy().Object
			for _, key := range []string{"apiVersion", "kind", "metadata"} {
				delete(got, key)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("stored object (-want +got):\n%s", diff)
			}
		})
	}
}

// scanAt creates a scan and gives it a status.
func scanAt(t *testing.T, c client.Client, namespace, name, user string, change func(*v1alpha1.ScanRequestStatus)) *v1alpha1.ScanRequest {
	t.Helper()
	scan := create(t, c, &v1alpha1.ScanRequest{
		ObjectMeta: named(namespace, name), Spec: v1alpha1.ScanRequestSpec{ImageURL: imageURL, UserID: user},
	})
	if change == nil {
		return scan
	}
	return writeStatus(t, c, scan, func(s *v1alpha1.ScanRequest) { change(&s.Status) })
}

func assignedTo(worker string) func(*v1alpha1.ScanRequestStatus) {
	return func(s *v1alpha1.ScanRequestStatus) {
		s.Phase = v1alpha1.ScanRunning
		s.Assignment = &v1alpha1.Assignment{
			ID: "a-1", Stage: v1alpha1.StageVision, Worker: worker, Attempt: 1, Deadline: metav1.NewMicroTime(time.Now()),
		}
	}
}

func TestFieldSelectors(t *testing.T) {
	t.Parallel()
	c, namespace := adminClient(t), controlPlane.NewNamespace(t)
	scanAt(t, c, namespace, "new", "kim", nil)
	scanAt(t, c, namespace, "running", "lee", assignedTo("worker-0-abcde"))
	scanAt(t, c, namespace, "elsewhere", "kim", assignedTo("worker-1-fghij"))
	scanAt(t, c, namespace, "done", "kim", func(s *v1alpha1.ScanRequestStatus) {
		s.Phase, s.FinishedAt = v1alpha1.ScanSucceeded, metav1.NewMicroTime(time.Now())
	})
	tests := map[string][]string{
		"status.phase=Queued":                                      {"new"},
		"status.phase=Running":                                     {"elsewhere", "running"},
		"status.phase=Succeeded":                                   {"done"},
		"status.phase!=Running":                                    {"done", "new"},
		"status.assignment.worker=worker-0-abcde":                  {"running"},
		"status.assignment.worker=":                                {"done", "new"},
		"spec.userID=kim":                                          {"done", "elsewhere", "new"},
		"spec.userID=kim,status.phase=Running":                     {"elsewhere"},
		"spec.userID=nobody":                                       {},
		"metadata.name=running,status.phase=Running":               {"running"},
		"status.assignment.worker=worker-0-abcde,spec.userID!=lee": {},
	}
	for selector, want := range tests {
		t.Run(selector, func(t *testing.T) {
			out := kubectl(t, controlPlane.Config, "", "get", "scanrequests", "-n", namespace, "--field-selector", selector, "-o", "name")
			got := []string{}
			for line := range strings.Lines(out) {
				got = append(got, strings.TrimPrefix(strings.TrimSpace(line), "scanrequest.scan.growbin.app/"))
			}
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("scans (-want +got):\n%s", diff)
			}
		})
	}
}

func TestColumns(t *testing.T) {
	t.Parallel()
	resume := metav1.NewMicroTime(time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC))
	c, namespace := adminClient(t), controlPlane.NewNamespace(t)
	scanAt(t, c, namespace, "scan", "kim", func(s *v1alpha1.ScanRequestStatus) {
		assignedTo("worker-0-abcde")(s)
		s.Summary = v1alpha1.Summary{
			Stage: "answer", Category: "재활용폐기물/무색페트병", Tokens: 1234, DurationMilliseconds: 11200, Reason: v1alpha1.ReasonBackingOff,
		}
		s.WaitedMilliseconds = 35
		s.Retry = &v1alpha1.RetryStatus{Stage: v1alpha1.StageAnswer, Count: 1, After: resume}
	})
	budget := create(t, c, &v1alpha1.TokenBudget{ObjectMeta: named(namespace, "budget"), Spec: v1alpha1.TokenBudgetSpec{
		SecretRef: v1alpha1.SecretKeyReference{Name: "a", Key: "b"}, Models: []string{"m"}, TokensPerMinute: 1, RequestsPerMinute: 1,
	}})
	writeStatus(t, c, budget, func(b *v1alpha1.TokenBudget) {
		b.Status = v1alpha1.TokenBudgetStatus{
			Conditions: []metav1.Condition{
				{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonSecretNotFound, LastTransitionTime: metav1.Now()},
				{Type: v1alpha1.ConditionThrottled, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonRateLimited, LastTransitionTime: metav1.Now()},
			},
			Limits: v1alpha1.BudgetLimits{TokensPerMinute: 2000000},
			Usage: v1alpha1.BudgetUsage{
				TokensLastMinute: 1900000, UtilizationPercent: 95, ReservedTokens: 4567, InFlight: 12,
			},
			ResumeAt: &resume,
		}
	})
	pool := create(t, c, &v1alpha1.WorkerPool{ObjectMeta: named(namespace, "pool"), Spec: v1alpha1.WorkerPoolSpec{
		Stages:  []v1alpha1.StageName{v1alpha1.StageVision, v1alpha1.StageRule},
		Budgets: []v1alpha1.BudgetReference{{Name: "budget"}}, MaxReplicas: 4,
	}})
	writeStatus(t, c, pool, func(p *v1alpha1.WorkerPool) {
		p.Status = v1alpha1.WorkerPoolStatus{
			Conditions: []metav1.Condition{
				{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonWorkersReady, LastTransitionTime: metav1.Now()},
			},
			ReadyReplicas: ptr.To[int32](2), DesiredReplicas: ptr.To[int32](3), TokensLastMinute: 1_900_000, TokensPerMinute: 2_000_000, CanaryReplicas: 1, Queued: ptr.To[int32](40), InFlight: ptr.To[int32](200),
			LimitedBy: v1alpha1.LimitedByTokenBudget,
		}
	})
	tests := map[string]struct {
		want     map[string]any // by column, without Age
		wantWide []string       // the columns that -o wide alone shows
	}{
		"scanrequests": {
			want: map[string]any{
				"Name": "scan", "Phase": "Running", "Stage": "answer", "Category": "재활용폐기물/무색페트병", "Tokens": 1234.,
				"Wait-ms": 35., "Duration-ms": 11200., "Worker": "worker-0-abcde", "User": "kim", "Reason": "BackingOff",
				"Retry-After": "2026-05-04T10:00:00.000000Z",
			},
			wantWide: []string{"Retry-After", "User", "Worker"},
		},
		"tokenbudgets": {
			want: map[string]any{
				"Name": "budget", "Ready": "False", "TPM": 2000000., "Used": 1900000., "Used%": 95., "Reserved": 4567.,
				"In-Flight": 12., "Throttled": "True", "Resume-At": "2026-05-04T10:00:00.000000Z", "Reason": "SecretNotFound",
			},
			wantWide: []string{"Reason"},
		},
		"workerpools": {
			want: map[string]any{
				"Name": "pool", "Stages": `["vision","rule"]`, "Ready": 2., "Desired": 3., "Queued": 40., "In-Flight": 200.,
				"Limited-By": "TokenBudget", "Used": 1900000., "TPM": 2000000., "Canary": 1., "Reason": "WorkersReady",
			},
			wantWide: []string{"Canary", "Reason"},
		},
	}
	for resource, tc := range tests {
		t.Run(resource, func(t *testing.T) {
			got, wide := columns(t, "/apis/"+v1alpha1.GroupVersion.String()+"/namespaces/"+namespace+"/"+resource)
			if age, err := time.ParseDuration(fmt.Sprint(got["Age"])); err != nil || age < 0 {
				t.Errorf("column Age is %q, want a duration", got["Age"])
			}
			delete(got, "Age")
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("columns (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.wantWide, wide); diff != "" {
				t.Errorf("wide columns (-want +got):\n%s", diff)
			}
		})
	}
}

// columns asks for a list of one object as kubectl does, and returns its cells by column and which of the columns are
// for -o wide.
func columns(t *testing.T, path string) (cells map[string]any, wide []string) {
	t.Helper()
	clients, err := kubernetes.NewForConfig(controlPlane.Config)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := clients.RESTClient().Get().AbsPath(path).
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var table metav1.Table
	if err := json.Unmarshal(answer, &table); err != nil {
		t.Fatal(err)
	}
	if len(table.Rows) != 1 {
		t.Fatalf("%d rows, want 1", len(table.Rows))
	}
	cells = map[string]any{}
	for i, column := range table.ColumnDefinitions {
		cells[column.Name] = table.Rows[0].Cells[i]
		if column.Priority > 0 {
			wide = append(wide, column.Name)
		}
	}
	slices.Sort(wide)
	return cells, wide
}

func TestScaleSubresource(t *testing.T) {
	t.Parallel()
	c, namespace := adminClient(t), controlPlane.NewNamespace(t)
	pool := create(t, c, &v1alpha1.WorkerPool{ObjectMeta: named(namespace, "pool"), Spec: v1alpha1.WorkerPoolSpec{
		Stages: []v1alpha1.StageName{v1alpha1.StageRule}, MinReplicas: ptr.To[int32](4), MaxReplicas: 4,
	}})
	writeStatus(t, c, pool, func(p *v1alpha1.WorkerPool) {
		p.Status.Replicas, p.Status.Selector = ptr.To[int32](4), "scan.growbin.app/pool=pool"
	})
	kubectl(t, controlPlane.Config, "", "scale", "workerpool/pool", "-n", namespace, "--replicas=2")
	var scale autoscalingv1.Scale
	if err := c.SubResource("scale").Get(t.Context(), pool, &scale); err != nil {
		t.Fatalf("get the scale: %v", err)
	}
	if scale.Spec.Replicas != 2 || scale.Status.Replicas != 4 || scale.Status.Selector != "scan.growbin.app/pool=pool" {
		t.Errorf("scale %+v %+v, want 2 of 4 with the selector", scale.Spec, scale.Status)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(pool), pool); err != nil {
		t.Fatal(err)
	}
	if ptr.Deref(pool.Spec.Replicas, -1) != 2 {
		t.Errorf("spec.replicas %v, want 2", pool.Spec.Replicas)
	}
}

func TestSamplesAreAccepted(t *testing.T) {
	t.Parallel()
	namespace := controlPlane.NewNamespace(t)
	objects, err := testenv.Manifests("config", "samples", "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := client.NewDryRunClient(adminClient(t))
	kinds := map[string]bool{}
	for _, object := range objects {
		kinds[object.GetKind()] = true
		object.SetNamespace(namespace)
		create(t, c, object)
	}
	if want := map[string]bool{"ScanRequest": true, "TokenBudget": true, "WorkerPool": true}; !cmp.Equal(kinds, want) {
		t.Errorf("samples of %v, want one of each kind", kinds)
	}
}
