// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/eco2-team/scan-operator/test/testenv"
)

// foreign are the fields whose types are Kubernetes' own: their rules are tested where they come from. Only the bounds
// that this API puts on the fields themselves count here.
var foreign = []string{
	"WorkerPool spec.behavior", "WorkerPool spec.template.affinity", "WorkerPool spec.template.env[]",
	"WorkerPool spec.template.resources", "WorkerPool spec.template.tolerations[]", "WorkerPool spec.template.imagePullSecrets[]",
}

// repeated are the fields of a type whose rules are tested at another field of the same type.
var repeated = map[string]string{"WorkerPool spec.canary.template": "WorkerPool spec.template"}

// declaredRules names every rule that the generated types put on what people write, and every CEL rule, in the
// words of rulesOf.
func declaredRules(t *testing.T) []string {
	t.Helper()
	var rules []string
	for _, crd := range generatedTypes(t) {
		schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
		kind := crd.Spec.Names.Kind
		for name, properties := range schema.Properties {
			switch name {
			case "spec":
				rules = append(rules, fieldRules(kind+" spec", properties)...)
			case "status":
				rules = append(rules, celRules(kind+" status", properties)...)
			}
		}
		for _, name := range schema.Required {
			rules = append(rules, kind+" "+name+": required")
		}
	}
	slices.Sort(rules)
	return slices.Compact(rules)
}

func generatedTypes(t *testing.T) []*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	objects, err := testenv.Manifests("config", "crd", "bases", "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	crds := make([]*apiextensionsv1.CustomResourceDefinition, len(objects))
	for i, object := range objects {
		crds[i] = &apiextensionsv1.CustomResourceDefinition{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, crds[i]); err != nil {
			t.Fatalf("read type %s: %v", object.GetName(), err)
		}
	}
	return crds
}

// fieldRules are the rules of a field and of everything below it.
func fieldRules(path string, s apiextensionsv1.JSONSchemaProps) []string {
	var rules []string
	add := func(format string, args ...any) { rules = append(rules, path+": "+fmt.Sprintf(format, args...)) }
	for _, bound := range []struct {
		name  string
		value *int64
	}{
		{"maxLength", s.MaxLength},
		{"minLength", s.MinLength},
		{"maxItems", s.MaxItems},
		{"minItems", s.MinItems},
		{"maxItems", s.MaxProperties}, // the API server's message does not distinguish the two
	} {
		if bound.value != nil && *bound.value > 0 { // a minimum of 0 says that empty is allowed
			add("%s %d", bound.name, *bound.value)
		}
	}
	if s.Minimum != nil {
		add("minimum %.0f", *s.Minimum)
	}
	if s.Maximum != nil {
		add("maximum %.0f", *s.Maximum)
	}
	if s.Pattern != "" {
		add("pattern %s", s.Pattern)
	}
	if len(s.Enum) > 0 {
		add("enum")
	}
	rules = append(rules, celRulesHere(path, s)...)
	if _, elsewhere := repeated[path]; elsewhere || slices.Contains(foreign, path) {
		return rules
	}
	for _, name := range s.Required {
		rules = append(rules, path+"."+name+": required")
	}
	for name, property := range s.Properties {
		rules = append(rules, fieldRules(path+"."+name, property)...)
	}
	if s.Items != nil {
		rules = append(rules, fieldRules(path+"[]", *s.Items.Schema)...)
		if kind := s.XListType; kind != nil && (*kind == "set" || *kind == "map") {
			rules = append(rules, path+"[]: unique")
		}
	}
	return rules
}

// celRules are the CEL rules of a field and of everything below it.
func celRules(path string, s apiextensionsv1.JSONSchemaProps) []string {
	rules := celRulesHere(path, s)
	for name, property := range s.Properties {
		rules = append(rules, celRules(path+"."+name, property)...)
	}
	if s.Items != nil {
		rules = append(rules, celRules(path+"[]", *s.Items.Schema)...)
	}
	return rules
}

func celRulesHere(path string, s apiextensionsv1.JSONSchemaProps) []string {
	rules := make([]string, 0, len(s.XValidations))
	for _, rule := range s.XValidations {
		rules = append(rules, path+": "+strings.TrimSpace(rule.Message))
	}
	return rules
}

// TestRepeatedFieldsAreAlike makes sure that the rules of repeated fields are really those that are tested elsewhere.
func TestRepeatedFieldsAreAlike(t *testing.T) {
	fields := map[string]apiextensionsv1.JSONSchemaProps{}
	for _, crd := range generatedTypes(t) {
		collectFields(fields, crd.Spec.Names.Kind+" spec", crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"])
	}
	for path, original := range repeated {
		if _, ok := fields[path]; !ok {
			t.Errorf("%s is no field", path)
		}
		if diff := cmp.Diff(fields[original], fields[path], cmpopts.IgnoreFields(apiextensionsv1.JSONSchemaProps{}, "Description")); diff != "" {
			t.Errorf("%s differs from %s (-want +got):\n%s", path, original, diff)
		}
	}
}

func collectFields(fields map[string]apiextensionsv1.JSONSchemaProps, path string, s apiextensionsv1.JSONSchemaProps) {
	fields[path] = s
	for name, property := range s.Properties {
		collectFields(fields, path+"."+name, property)
	}
}
