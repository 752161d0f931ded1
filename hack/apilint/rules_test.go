// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rulesOf checks a package with these declarations and returns the names of
// the rules it breaks.
func rulesOf(t *testing.T, source string) []string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "types.go"), []byte("package v1\n"+source), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range p.check() {
		out = append(out, f.rule)
		if !strings.Contains(f.String(), "types.go:") {
			t.Errorf("finding %q does not say where", f)
		}
	}
	return out
}

func TestFieldRules(t *testing.T) {
	for name, tc := range map[string]struct {
		fields string
		want   []string
	}{
		"clean": {fields: "// a is short.\n// +kubebuilder:validation:MaxLength=5\n// +optional\nA string `json:\"a,omitempty\"`"},
		"no comment": {
			fields: "// +optional\nA int32 `json:\"a\"`", want: []string{"commentstart"},
		},
		"comment with the Go name": {
			fields: "// A is it.\n// +optional\nA int32 `json:\"a\"`", want: []string{"commentstart"},
		},
		"marker twice": {
			fields: "// a is it.\n// +optional\n// +kubebuilder:validation:Minimum=1\n// +kubebuilder:validation:Minimum=2\nA int32 `json:\"a\"`",
			want:   []string{"duplicatemarkers"},
		},
		"two CEL rules": {
			fields: "// a is it.\n// +optional\n// +kubebuilder:validation:XValidation:rule=\"x\"\n// +kubebuilder:validation:XValidation:rule=\"y\"\nA int32 `json:\"a\"`",
		},
		"two map keys": {
			fields: "// a is it.\n// +optional\n// +kubebuilder:validation:MaxItems=3\n// +listType=map\n// +listMapKey=x\n// +listMapKey=y\nA []T `json:\"a\"`",
		},
		"map key twice": {
			fields: "// a is it.\n// +optional\n// +kubebuilder:validation:MaxItems=3\n// +listType=map\n// +listMapKey=x\n// +listMapKey=x\nA []T `json:\"a\"`",
			want:   []string{"duplicatemarkers"},
		},
		"int": {
			fields: "// a is it.\n// +optional\nA int `json:\"a\"`", want: []string{"integers"},
		},
		"seconds in 64 bits": {
			fields: "// aSeconds is it.\n// +optional\nA *int64 `json:\"aSeconds\"`", want: []string{"integers"},
		},
		"no json tag": {
			fields: "// +optional\nA int32", want: []string{"jsontags"},
		},
		"snake case": {
			fields: "// a_b is it.\n// +optional\nA int32 `json:\"a_b\"`", want: []string{"jsontags"},
		},
		"unbounded string": {
			fields: "// a is it.\n// +optional\nA *string `json:\"a\"`", want: []string{"maxlength"},
		},
		"named string with bounds": {
			fields: "// a is it.\n// +optional\nA Bounded `json:\"a\"`",
		},
		"unbounded list": {
			fields: "// a is it.\n// +optional\n// +listType=atomic\nA []int32 `json:\"a\"`", want: []string{"maxlength"},
		},
		"list of unbounded strings": {
			fields: "// a is it.\n// +optional\n// +listType=set\n// +kubebuilder:validation:MaxItems=3\nA []string `json:\"a\"`", want: []string{"maxlength"},
		},
		"list without type": {
			fields: "// a is it.\n// +optional\n// +kubebuilder:validation:MaxItems=3\nA []int32 `json:\"a\"`", want: []string{"ssatags"},
		},
		"map list without key": {
			fields: "// a is it.\n// +optional\n// +listType=map\n// +kubebuilder:validation:MaxItems=3\nA []Item `json:\"a\"`", want: []string{"ssatags"},
		},
		"float": {
			fields: "// a is it.\n// +optional\nA *float64 `json:\"a\"`", want: []string{"nofloats"},
		},
		"map of structs": {
			fields: "// a is it.\n// +optional\nA map[string]Item `json:\"a\"`", want: []string{"nomaps"},
		},
		"labels": {
			fields: "// a is it.\n// +optional\nA map[string]string `json:\"a\"`",
		},
		"timestamp": {
			fields: "// startTimestamp is it.\n// +optional\nA int32 `json:\"startTimestamp\"`", want: []string{"notimestamp"},
		},
		"neither optional nor required": {
			fields: "// a is it.\nA int32 `json:\"a\"`", want: []string{"optionalorrequired"},
		},
		"both optional and required": {
			fields: "// a is it.\n// +optional\n// +required\nA int32 `json:\"a\"`", want: []string{"optionalorrequired"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := rulesOf(t, "// Bounded is short.\n// +kubebuilder:validation:Enum=a;b\ntype Bounded string\ntype Item struct{}\ntype Spec struct {\n"+tc.fields+"\n}\n")
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("broken rules (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStatusRules(t *testing.T) {
	const clean = "// conditions are it.\n// +optional\n// +listType=map\n// +listMapKey=type\n// +kubebuilder:validation:MaxItems=3\n"
	for name, tc := range map[string]struct {
		source string
		want   []string
	}{
		"clean": {source: "type ThingStatus struct {\n" + clean + "Conditions []metav1.Condition `json:\"conditions,omitempty\"`\n}"},
		"conditions not first": {
			source: "type ThingStatus struct {\n// a is it.\n// +optional\nA int32 `json:\"a\"`\n" + clean + "Conditions []metav1.Condition `json:\"conditions,omitempty\"`\n}",
			want:   []string{"conditions"},
		},
		"conditions always written": {
			source: "type ThingStatus struct {\n" + clean + "Conditions []metav1.Condition `json:\"conditions\"`\n}",
			want:   []string{"conditions"},
		},
		"required field": {
			source: "type ThingStatus struct {\n" + clean + "Conditions []metav1.Condition `json:\"conditions,omitempty\"`\n// a is it.\n// +required\nA int32 `json:\"a\"`\n}",
			want:   []string{"statusoptional"},
		},
		"no subresource": {
			source: "type Thing struct {\nmetav1.TypeMeta `json:\",inline\"`\nStatus int32 `json:\"status\"`\n}",
			want:   []string{"statussubresource"},
		},
		"subresource, in a comment of its own": {
			source: "// +kubebuilder:subresource:status\n\n// Thing is one.\ntype Thing struct {\nmetav1.TypeMeta `json:\",inline\"`\nStatus int32 `json:\"status\"`\n}",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, rulesOf(t, tc.source)); diff != "" {
				t.Errorf("broken rules (-want +got):\n%s", diff)
			}
		})
	}
}
