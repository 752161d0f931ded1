package controllers

import (
	"encoding/json"
	"maps"

	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// overrideWorker puts a pool's template on top of the defaults: maps and lists with keys are merged, the rest is
// replaced.
func overrideWorker(template *corev1ac.PodTemplateSpecApplyConfiguration, pod *corev1ac.PodSpecApplyConfiguration, container *corev1ac.ContainerApplyConfiguration, pool *v1alpha1.WorkerPool) {
	t := pool.Spec.Template
	if t == nil {
		return
	}
	labels := maps.Clone(t.Labels)
	for k := range poolLabels(pool) {
		delete(labels, k) // the selector's labels are not for changing
	}
	template.WithLabels(labels).WithAnnotations(t.Annotations)

	if t.Image != "" {
		container.WithImage(t.Image)
	}
	if t.ImagePullPolicy != "" {
		container.WithImagePullPolicy(t.ImagePullPolicy)
	}
	for _, ref := range t.ImagePullSecrets {
		pod.WithImagePullSecrets(corev1ac.LocalObjectReference().WithName(ref.Name))
	}
	if t.Resources != nil {
		container.WithResources(asApply[corev1ac.ResourceRequirementsApplyConfiguration](t.Resources))
	}
	for i := range t.Env {
		container.WithEnv(asApply[corev1ac.EnvVarApplyConfiguration](&t.Env[i]))
	}
	pod.WithNodeSelector(t.NodeSelector)
	for i := range t.Tolerations {
		pod.WithTolerations(asApply[corev1ac.TolerationApplyConfiguration](&t.Tolerations[i]))
	}
	if t.Affinity != nil {
		pod.WithAffinity(asApply[corev1ac.AffinityApplyConfiguration](t.Affinity))
	}
	if t.PriorityClassName != "" {
		pod.WithPriorityClassName(t.PriorityClassName)
	}
	if t.ServiceAccountName != "" {
		pod.WithServiceAccountName(t.ServiceAccountName)
	}
}

// asApply turns an API type into its apply configuration. Both have the same JSON, and all fields that could
// become explicit zeros are omitted from the types used here when empty.
func asApply[A any](v any) *A {
	out := new(A)
	raw, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(raw, out)
	}
	if err != nil { // unreachable: these types marshal, and their JSON is that of the apply configuration
		panic(err)
	}
	return out
}
