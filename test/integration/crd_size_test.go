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

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// largestScan is the most that a stored scan may take, in bytes of JSON: far below etcd's limit of 1.5 MiB per
// request. It bounds the schema, not what scans are like: those are measured in TestOneScan.
const largestScan = 200_000

// TestLargestScanFits fills every field to its bound, with characters of three bytes where the schema allows them.
func TestLargestScanFits(t *testing.T) {
	t.Parallel()
	c, namespace := adminClient(t), controlPlane.NewNamespace(t)
	var schema *apiextensionsv1.JSONSchemaProps
	for _, crd := range generatedTypes(t) {
		if crd.Spec.Names.Kind == "ScanRequest" {
			schema = crd.Spec.Versions[0].Schema.OpenAPIV3Schema
		}
	}
	if schema == nil {
		t.Fatal("there is no ScanRequest among the generated types")
	}
	scan := &unstructured.Unstructured{Object: map[string]any{}}
	scan.SetAPIVersion(v1alpha1.GroupVersion.String())
	scan.SetKind("ScanRequest")
	scan.SetNamespace(namespace)
	scan.SetName("largest")
	scan.Object["spec"] = largest("spec", schema.Properties["spec"], 0)
	create(t, c, scan)
	status, ok := largest("status", schema.Properties["status"], 0).(map[string]any)
	if !ok {
		t.Fatal("status is no object")
	}
	delete(status, "assignment") // a finished scan has none
	scan.Object["status"] = status
	if err := c.Status().Update(t.Context(), scan); err != nil {
		t.Fatalf("store the largest status: %v", err)
	}
	stored, err := json.Marshal(scan)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the largest scan takes %d bytes", len(stored))
	if len(stored) > largestScan {
		t.Errorf("the largest scan takes %d bytes, want at most %d", len(stored), largestScan)
	}
}

// largestBudget is the most that a stored budget may take with as many models as there may be, in bytes of JSON.
const largestBudget = 10_000

// TestBudgetStaysSmall stores a budget of many models with everything in its status that the manager writes.
func TestBudgetStaysSmall(t *testing.T) {
	t.Parallel()
	c, namespace := adminClient(t), controlPlane.NewNamespace(t)
	b := &v1alpha1.TokenBudget{}
	b.Namespace, b.Name = namespace, "many-models"
	b.Spec = v1alpha1.TokenBudgetSpec{
		SecretRef: v1alpha1.SecretKeyReference{Name: "provider-key", Key: "api-key"}, TokensPerMinute: 40_000_000, RequestsPerMinute: 15_000,
		Quota: &v1alpha1.TokenQuota{Tokens: 1_000_000_000, Period: v1alpha1.QuotaPerMonth},
	}
	for i := range 32 {
		b.Spec.Models = append(b.Spec.Models, fmt.Sprintf("gpt-5.1-mini-2026-04-%02d", i))
	}
	create(t, c, b)
	at := metav1.NewMicroTime(time.Date(2026, 5, 4, 10, 0, 0, 123_456_000, time.UTC))
	before := b.DeepCopy()
	b.Status = v1alpha1.TokenBudgetStatus{
		ObservedGeneration: 1, Endpoint: "https://api.openai.com/v1",
		Limits: v1alpha1.BudgetLimits{TokensPerMinute: 40_000_000, RequestsPerMinute: 15_000, RequestsPerDay: 10_000_000, RatePercent: 95},
		Usage:  v1alpha1.BudgetUsage{TokensLastMinute: 38_123_456, RequestsLastMinute: 12_345, ReservedTokens: 3_123_456, InFlight: 3123, UtilizationPercent: 95},
		Totals: v1alpha1.BudgetTotals{Calls: 123_456_789, InputTokens: 123_456_789_012, CachedInputTokens: 23_456_789_012, OutputTokens: 12_345_678_901},
		Bucket: &v1alpha1.BucketSnapshot{At: at, Tokens: 1_234_567, Requests: 1234, RequestWindowSeconds: 86_400},
		Quota:  &v1alpha1.QuotaStatus{PeriodStart: at, UsedTokens: 123_456_789}, ResumeAt: &at,
	}
	for _, kind := range []v1alpha1.FailureClass{v1alpha1.FailureRateLimited, v1alpha1.FailureQuotaExhausted, v1alpha1.FailureSlowDown} {
		b.Status.Throttles = append(b.Status.Throttles, v1alpha1.ThrottleCount{Kind: kind, Count: 1234})
	}
	for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionThrottled, v1alpha1.ConditionQuotaExhausted} {
		b.Status.Conditions = append(b.Status.Conditions, metav1.Condition{
			Type: kind, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonProviderQuotaExhausted, ObservedGeneration: 1,
			Message: strings.Repeat("why ", 50), LastTransitionTime: metav1.NewTime(at.Time),
		})
	}
	for _, stage := range []v1alpha1.StageName{v1alpha1.StageAnswer, v1alpha1.StageVision} {
		for _, model := range b.Spec.Models[:4] {
			b.Status.Estimates = append(b.Status.Estimates, v1alpha1.CallEstimate{
				Stage: stage, Model: model, ChargeTokens: 1058, DurationMilliseconds: 6234, InputTokens: 311, OutputTokens: 120,
				ReservedPercent: 102, ChargeSamples: 16, Calls: 61_728_394, LastCallAt: at,
			})
		}
	}
	if err := c.Status().Patch(t.Context(), b, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	stored, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the budget takes %d bytes", len(stored))
	if len(stored) > largestBudget || len(b.ManagedFields) == 0 || len(b.Status.Estimates) != 8 {
		t.Errorf("a budget of %d models and %d estimates takes %d bytes, want at most %d",
			len(b.Spec.Models), len(b.Status.Estimates), len(stored), largestBudget)
	}
}

// largest is the largest value that a schema allows. index makes the elements of a list distinct.
func largest(name string, s apiextensionsv1.JSONSchemaProps, index int) any {
	switch {
	case len(s.Enum) > 0:
		options := make([]string, len(s.Enum))
		for i, option := range s.Enum {
			if err := json.Unmarshal(option.Raw, &options[i]); err != nil {
				panic(fmt.Errorf("enum of %s: %w", name, err))
			}
		}
		return options[index%len(options)]
	case s.Type == "object":
		object := map[string]any{}
		for name, property := range s.Properties {
			object[name] = largest(name, property, index)
		}
		return object
	case s.Type == "array":
		list := make([]any, *s.MaxItems)
		for i := range list {
			list[i] = largest(name, *s.Items.Schema, i)
		}
		return list
	case s.Type == "boolean":
		return true
	case s.Type == "integer" && s.Maximum != nil:
		return int64(*s.Maximum)
	case s.Type == "integer" && s.Format == "int32":
		return int64(1<<31 - 1)
	case s.Type == "integer":
		return int64(1<<53 - 1)
	case s.Format == "date-time" && name == "lastTransitionTime":
		return "2026-05-04T10:00:00Z"
	case s.Format == "date-time":
		return "2026-05-04T10:00:00.123456Z"
	default:
		return longest(name, s, index)
	}
}

// longest is the longest string that a schema allows.
func longest(name string, s apiextensionsv1.JSONSchemaProps, index int) string {
	n := int(*s.MaxLength)
	if name == "message" && n > statusMessage {
		n = statusMessage // what the product writes; the bound of metav1.Condition is 32 KiB
	}
	switch {
	case name == "imageURL":
		return imageURL + strings.Repeat("a", n-len(imageURL))
	case s.Pattern != "":
		return strings.Repeat("a", n-1) + string(rune('a'+index))
	default:
		return strings.Repeat("버", n)
	}
}

// statusMessage is the longest message that the product writes, in bytes.
const statusMessage = 512

// TestEveryStringIsBounded keeps the sum above finite.
func TestEveryStringIsBounded(t *testing.T) {
	for _, crd := range generatedTypes(t) {
		schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
		for _, part := range []string{"spec", "status"} {
			for _, path := range unbounded(crd.Spec.Names.Kind+" "+part, schema.Properties[part]) {
				t.Errorf("%s has no bound", path)
			}
		}
	}
}

// unbounded lists the strings, lists and maps of this API without a bound.
func unbounded(path string, s apiextensionsv1.JSONSchemaProps) []string {
	var found []string
	bounded := true
	switch s.Type {
	case "string":
		bounded = s.MaxLength != nil || len(s.Enum) > 0 || s.Format == "date-time"
	case "array":
		bounded = s.MaxItems != nil
	case "object":
		bounded = s.AdditionalProperties == nil || s.MaxProperties != nil
	}
	if !bounded {
		found = append(found, path)
	}
	if _, elsewhere := repeated[path]; elsewhere || slices.Contains(foreign, path) {
		return nil
	}
	for name, property := range s.Properties {
		found = append(found, unbounded(path+"."+name, property)...)
	}
	if s.Items != nil {
		found = append(found, unbounded(path+"[]", *s.Items.Schema)...)
	}
	return found
}
