// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// Each kind of the API group has its resource, and so has its list.
func TestRESTMapperHasTheKindsOfTheGroup(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		object       runtime.Object
		wantResource string
	}{
		{&v1alpha1.ScanRequest{}, "scanrequests"},
		{&v1alpha1.TokenBudget{}, "tokenbudgets"},
		{&v1alpha1.WorkerPool{}, "workerpools"},
		{&v1alpha1.ScanRequestList{}, "scanrequestlists"},
		{&v1alpha1.TokenBudgetList{}, "tokenbudgetlists"},
		{&v1alpha1.WorkerPoolList{}, "workerpoollists"},
	} {
		gvk, err := apiutil.GVKForObject(tt.object, scheme)
		if err != nil {
			t.Fatal(err)
		}
		mapping, err := RESTMapper().RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil {
			t.Errorf("%s: %v", gvk.Kind, err)
			continue
		}
		if mapping.Resource.Resource != tt.wantResource || mapping.Scope.Name() != meta.RESTScopeNameNamespace {
			t.Errorf("%s is %s of scope %s, want %s of a namespace", gvk.Kind, mapping.Resource.Resource, mapping.Scope.Name(), tt.wantResource)
		}
	}
}
