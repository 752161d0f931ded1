// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

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

// RESTMapper knows where the API server serves the kinds that the controllers use. All are namespaced and known
// beforehand: asking the API server for them, as managers do by default, would make it a condition of starting. Its
// arguments are those of ctrl.Options.MapperProvider, which it is for.
func RESTMapper(*rest.Config, *http.Client) (meta.RESTMapper, error) {
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
			// A list read from a cache is asked for by its own kind.
			mapper.Add(version.WithKind(name+"List"), meta.RESTScopeNamespace)
		}
	}
	return mapper, nil
}
