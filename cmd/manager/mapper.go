package main

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

// managedKinds are all the kinds that the manager reads or writes. All of them are namespaced.
var managedKinds = []schema.GroupVersionKind{
	v1alpha1.GroupVersion.WithKind("ScanRequest"),
	v1alpha1.GroupVersion.WithKind("TokenBudget"),
	v1alpha1.GroupVersion.WithKind("WorkerPool"),
	appsv1.SchemeGroupVersion.WithKind("Deployment"),
	coordinationv1.SchemeGroupVersion.WithKind("Lease"),
	corev1.SchemeGroupVersion.WithKind("Pod"),
	corev1.SchemeGroupVersion.WithKind("Secret"),
}

// newMapper maps the kinds to their resources without asking the API server, which may be away while the manager
// starts: it then waits for it, as its caches do, instead of ending and being restarted ever later.
func newMapper(*rest.Config, *http.Client) (meta.RESTMapper, error) {
	var versions []schema.GroupVersion
	for _, kind := range managedKinds {
		versions = append(versions, kind.GroupVersion())
	}
	mapper := meta.NewDefaultRESTMapper(versions)
	for _, kind := range managedKinds {
		// The caches look up the kinds of lists, too. The kind itself comes last: it is what its resource maps back to.
		plural, singular := meta.UnsafeGuessKindToResource(kind)
		mapper.AddSpecific(kind.GroupVersion().WithKind(kind.Kind+"List"), plural, singular, meta.RESTScopeNamespace)
		mapper.AddSpecific(kind, plural, singular, meta.RESTScopeNamespace)
	}
	return mapper, nil
}
