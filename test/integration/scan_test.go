// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

const (
	// maxWritesPerScan is the contract: create, two assignments, two outcomes, delete.
	maxWritesPerScan = 6
	// maxScanSize is how large a finished scan of an ordinary size may be, in bytes of JSON.
	maxScanSize = 10_000
)

// milestones are the conditions of a scan that succeeds, in the order they become True.
var milestones = []string{
	v1alpha1.ConditionAdmitted, v1alpha1.ConditionVisionCompleted, v1alpha1.ConditionRuleCompleted,
	v1alpha1.ConditionAnswerCompleted, v1alpha1.ConditionRewardCompleted, v1alpha1.ConditionFinished,
}

func TestOneScan(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.start()
	all := w.observeScans()
	name := strings.TrimPrefix(strings.TrimSpace(kubectl(t, w.developer(), `
apiVersion: scan.growbin.app/v1alpha1
kind: ScanRequest
metadata:
  generateName: photo-
spec:
  imageURL: https://images.example.org/bottle.jpg?class=재활용폐기물/무색페트병
  userInput: 이거 어떻게 버려요?
  userID: kim
`, "create", "-n", w.namespace, "-f", "-", "-o", "name")), "scanrequest.scan.growbin.app/")

	var versions []*v1alpha1.ScanRequest
	all.until("the end of "+name, func(_ watch.EventType, scan *v1alpha1.ScanRequest) bool {
		versions = append(versions, scan)
		return finished(scan)
	})
	scan := versions[len(versions)-1]
	if scan.Status.Phase != v1alpha1.ScanSucceeded {
		t.Fatalf("the scan did not succeed:\n%s", text(scan))
	}
	if diff := cmp.Diff(milestones, becameTrue(versions)); diff != "" {
		t.Errorf("conditions in the order they became True (-want +got):\n%s", diff)
	}
	if len(versions) > maxWritesPerScan-1 {
		t.Errorf("the scan had %d versions, want at most %d", len(versions), maxWritesPerScan-1)
	}
	phases := map[v1alpha1.ScanPhase]bool{}
	for _, v := range versions {
		phases[v.Status.Phase] = true
	}
	if !phases[v1alpha1.ScanRunning] {
		t.Errorf("the scan was never seen Running, only %v", phases)
	}
	checkOutcome(t, scan)
	w.provider.checkPaid(t, 1, 1)

	stored, err := json.Marshal(scan)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the finished scan takes %d bytes", len(stored))
	if len(stored) > maxScanSize {
		t.Errorf("the finished scan takes %d bytes, want at most %d", len(stored), maxScanSize)
	}
}

// becameTrue lists the conditions in the order they became True; those of the same write, in the order they are
// stored.
func becameTrue(versions []*v1alpha1.ScanRequest) []string {
	var order []string
	for _, v := range versions {
		for _, c := range v.Status.Conditions {
			if c.Status == "True" && !slices.Contains(order, c.Type) {
				order = append(order, c.Type)
			}
		}
	}
	return order
}

// checkOutcome checks what a scan of a clear PET bottle must have found and recorded.
func checkOutcome(t *testing.T, scan *v1alpha1.ScanRequest) {
	t.Helper()
	result := scan.Status.Result
	if result == nil || result.Classification == nil || result.DisposalRules == nil || result.Answer == nil {
		t.Fatalf("the result is incomplete:\n%s", text(scan))
	}
	if c := result.Classification; c.MajorCategory != "재활용폐기물" || c.MiddleCategory != "무색페트병" {
		t.Errorf("class %s/%s, want what the photo shows", c.MajorCategory, c.MiddleCategory)
	}
	if len(result.DisposalRules.Steps) == 0 || result.Answer.UserAnswer == "" {
		t.Errorf("rules %+v and answer %+v, want both to say something", result.DisposalRules, result.Answer)
	}
	for _, name := range []v1alpha1.StageName{v1alpha1.StageVision, v1alpha1.StageAnswer} {
		s := stage(t, scan, name)
		if s.State != v1alpha1.StageSucceeded || s.Attempts != 1 || s.Budget != budgetName || s.Model != modelName {
			t.Errorf("stage %s: %+v, want one attempt that succeeded on the budget's first model", name, s)
		}
		if s.Tokens.Reserved == 0 || s.Tokens.Input == 0 || s.Tokens.Output == 0 {
			t.Errorf("stage %s: tokens %+v, want what was reserved and used", name, s.Tokens)
		}
		if s.RateLimit == nil || s.RateLimit.LimitTokens == 0 {
			t.Errorf("stage %s: rate limit %+v, want what the headers said", name, s.RateLimit)
		}
	}
	if sum := scan.Status.Summary; sum.Category == "" || sum.Tokens == 0 || sum.DurationMilliseconds == 0 || sum.Reason != v1alpha1.ReasonSucceeded {
		t.Errorf("summary %+v, want something in every column", sum)
	}
	if scan.Status.Assignment != nil || scan.Status.Retry != nil {
		t.Errorf("a finished scan has an assignment %v or a retry %v", scan.Status.Assignment, scan.Status.Retry)
	}
}

// TestWritesPerScan counts in the API server's own metrics, which have no namespaces: it must not run in parallel.
func TestWritesPerScan(t *testing.T) {
	const scans = 20
	w := newWorld(t, nil)
	w.start()
	w.awaitBudget(v1alpha1.ConditionReady, "True", v1alpha1.ReasonKeyFound)
	before := writesOf(t, "scanrequests")
	all := w.observeScans()
	for i := range scans {
		w.submit(fmt.Sprintf("scan-%d", i), func(s *v1alpha1.ScanRequestSpec) { s.TTLSecondsAfterFinished = ptr.To[int32](1) })
	}
	succeeded, deleted := map[string]bool{}, 0
	all.until("the end of all scans", func(kind watch.EventType, scan *v1alpha1.ScanRequest) bool {
		if meta.IsStatusConditionTrue(scan.Status.Conditions, v1alpha1.ConditionRewardCompleted) {
			succeeded[scan.Name] = true
		}
		if kind == watch.Deleted {
			deleted++
		}
		return deleted == scans
	})
	if len(succeeded) != scans {
		t.Fatalf("%d of %d scans succeeded", len(succeeded), scans)
	}
	w.provider.checkPaid(t, scans, scans)

	total := 0.
	for request, n := range writesOf(t, "scanrequests") {
		if n -= before[request]; n > 0 {
			t.Logf("%4.0f %s", n, request)
			total += n
		}
	}
	t.Logf("%.2f API writes per scan", total/scans)
	if total > maxWritesPerScan*scans {
		t.Errorf("%.0f API writes for %d scans, want at most %d for each", total, scans, maxWritesPerScan)
	}
}

// writesOf reads from the API server's metrics how many requests it got that write objects of a resource, by verb,
// subresource and status code.
func writesOf(t *testing.T, resource string) map[string]float64 {
	t.Helper()
	clients, err := kubernetes.NewForConfig(controlPlane.Config)
	if err != nil {
		t.Fatal(err)
	}
	exposition, err := clients.RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatalf("read the API server's metrics: %v", err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(exposition))
	if err != nil {
		t.Fatalf("read the API server's metrics: %v", err)
	}
	counts := map[string]float64{}
	for _, m := range families["apiserver_request_total"].GetMetric() {
		l := labels(m)
		if l["resource"] == resource && slices.Contains([]string{"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"}, l["verb"]) {
			counts[strings.TrimSpace(l["verb"]+" "+l["subresource"])+" "+l["code"]] += m.GetCounter().GetValue()
		}
	}
	if len(families["apiserver_request_total"].GetMetric()) == 0 {
		t.Fatal("the API server counts no requests")
	}
	return counts
}

func labels(m *dto.Metric) map[string]string {
	out := map[string]string{}
	for _, pair := range m.GetLabel() {
		out[pair.GetName()] = pair.GetValue()
	}
	return out
}
