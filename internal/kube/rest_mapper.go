// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/http"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// RESTMapper maps the kinds that the programs use to their resources. All are namespaced and known beforehand: discovery,
// the default, would keep a program from starting while the API server is down.
func RESTMapper() meta.RESTMapper {
	kinds := map[schema.GroupVersion][]string{
		v1alpha1.GroupVersion:             {"ScanRequest", "TokenBudget", "WorkerPool"},
		appsv1.SchemeGroupVersion:         {"Deployment"},
		coordinationv1.SchemeGroupVersion: {"Lease"},
		corev1.SchemeGroupVersion:         {"Pod", "Secret"},
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	for version, names := range kinds {
		for _, name := range names {
			mapper.Add(version.WithKind(name), meta.RESTScopeNamespace)
			// A list that is read from a cache is looked up by its own kind.
			mapper.Add(version.WithKind(name+"List"), meta.RESTScopeNamespace)
		}
	}
	return mapper
}

// MapperProvider returns RESTMapper. It is a MapperProvider of ctrl.Options.
func MapperProvider(*rest.Config, *http.Client) (meta.RESTMapper, error) { return RESTMapper(), nil }
