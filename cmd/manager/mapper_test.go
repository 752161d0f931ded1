package main

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestMapper(t *testing.T) {
	mapper, err := newMapper(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ group, kind, wantResource string }{
		{"scan.growbin.app", "ScanRequest", "scanrequests"},
		{"scan.growbin.app", "TokenBudget", "tokenbudgets"},
		{"scan.growbin.app", "WorkerPool", "workerpools"},
		{"apps", "Deployment", "deployments"},
		{"coordination.k8s.io", "Lease", "leases"},
		{"", "Pod", "pods"},
		{"", "Secret", "secrets"},
	} {
		for _, kind := range []string{tc.kind, tc.kind + "List"} {
			mapping, err := mapper.RESTMapping(schema.GroupKind{Group: tc.group, Kind: kind})
			if err != nil {
				t.Errorf("%s: %v", kind, err)
				continue
			}
			if got := mapping.Resource.Resource; got != tc.wantResource || mapping.Scope.Name() != meta.RESTScopeNameNamespace {
				t.Errorf("%s = %s, %s, want %s, namespaced", kind, got, mapping.Scope.Name(), tc.wantResource)
			}
		}
		if got, err := mapper.KindFor(schema.GroupVersionResource{Group: tc.group, Resource: tc.wantResource}); err != nil || got.Kind != tc.kind {
			t.Errorf("kind of %s = %s, %v, want %s", tc.wantResource, got.Kind, err, tc.kind)
		}
	}
}
