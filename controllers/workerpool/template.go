// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package workerpool

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// podParts are the parts of a worker's pod template that a pool may override.
type podParts struct {
	template  *corev1ac.PodTemplateSpecApplyConfiguration
	pod       *corev1ac.PodSpecApplyConfiguration
	container *corev1ac.ContainerApplyConfiguration
	// selector has the labels that a pool cannot change.
	selector map[string]string
}

// override applies a pool's template over the defaults: it merges maps and keyed lists, and replaces the rest.
func (p podParts) override(t *v1alpha1.WorkerTemplate) {
	if t == nil {
		return
	}
	template, pod, container := p.template, p.pod, p.container
	labels := maps.Clone(t.Labels)
	for k := range p.selector {
		delete(labels, k)
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
		container.Env = slices.DeleteFunc(container.Env, func(e corev1ac.EnvVarApplyConfiguration) bool { return *e.Name == t.Env[i].Name })
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

// asApply converts an API type to its apply configuration. Both have the same JSON, and the types used here omit empty
// fields, so that none becomes an explicit zero.
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

// mergeTemplates overrides one template by another, as podParts.override does with the defaults.
func mergeTemplates(base, over *v1alpha1.WorkerTemplate) *v1alpha1.WorkerTemplate {
	if base == nil || over == nil {
		return cmp.Or(over, base)
	}
	t := base.DeepCopy()
	t.Labels = mergeMaps(t.Labels, over.Labels)
	t.Annotations = mergeMaps(t.Annotations, over.Annotations)
	t.NodeSelector = mergeMaps(t.NodeSelector, over.NodeSelector)
	t.Image = cmp.Or(over.Image, t.Image)
	t.ImagePullPolicy = cmp.Or(over.ImagePullPolicy, t.ImagePullPolicy)
	t.ImagePullSecrets = mergeLists(t.ImagePullSecrets, over.ImagePullSecrets, func(r corev1.LocalObjectReference) string { return r.Name })
	t.Resources = cmp.Or(over.Resources, t.Resources)
	t.Env = mergeLists(t.Env, over.Env, func(e corev1.EnvVar) string { return e.Name })
	if len(over.Tolerations) > 0 {
		t.Tolerations = over.Tolerations
	}
	t.Affinity = cmp.Or(over.Affinity, t.Affinity)
	t.PriorityClassName = cmp.Or(over.PriorityClassName, t.PriorityClassName)
	t.ServiceAccountName = cmp.Or(over.ServiceAccountName, t.ServiceAccountName)
	t.TerminationGracePeriodSeconds = cmp.Or(over.TerminationGracePeriodSeconds, t.TerminationGracePeriodSeconds)
	return t
}

func mergeMaps(base, over map[string]string) map[string]string {
	if len(base) == 0 {
		return over
	}
	maps.Copy(base, over)
	return base
}

// mergeLists replaces the elements with the same key and appends the others.
func mergeLists[E any](base, over []E, key func(E) string) []E {
	base = slices.DeleteFunc(base, func(b E) bool {
		return slices.ContainsFunc(over, func(o E) bool { return key(o) == key(b) })
	})
	return append(base, over...)
}
