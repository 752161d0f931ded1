// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localkubelet

import (
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// sources finds the objects that a pod refers to. Both return nil without an
// error when there is no such object.
type sources interface {
	secret(name string) *corev1.Secret
	configMap(name string) *corev1.ConfigMap
}

// missingError says that a pod cannot start before something else exists.
type missingError struct {
	kind, name, key string
}

func (e *missingError) Error() string {
	if e.key == "" {
		return fmt.Sprintf("%s %q not found", e.kind, e.name)
	}
	return fmt.Sprintf("%s %q has no key %q", e.kind, e.name, e.key)
}

// environment is the container's env and envFrom, resolved, as a map. The pod's
// addresses must be in its status.
func environment(pod *corev1.Pod, c *corev1.Container, from sources) (map[string]string, error) {
	vars := map[string]string{}
	for i := range c.EnvFrom {
		values, err := envFrom(&c.EnvFrom[i], from)
		if err != nil {
			return nil, err
		}
		for k, v := range values {
			vars[c.EnvFrom[i].Prefix+k] = v
		}
	}
	for i := range c.Env {
		env := &c.Env[i]
		if env.ValueFrom == nil {
			vars[env.Name] = expand(env.Value, vars)
			continue
		}
		value, ok, err := valueFrom(pod, c, env.ValueFrom, from)
		if err != nil {
			return nil, fmt.Errorf("environment variable %s: %w", env.Name, err)
		}
		if ok {
			vars[env.Name] = value
		}
	}
	return vars, nil
}

func envFrom(source *corev1.EnvFromSource, from sources) (map[string]string, error) {
	values := map[string]string{}
	switch {
	case source.SecretRef != nil:
		secret := from.secret(source.SecretRef.Name)
		if secret == nil && !isTrue(source.SecretRef.Optional) {
			return nil, &missingError{kind: "Secret", name: source.SecretRef.Name}
		}
		if secret != nil {
			for k, v := range secret.Data {
				values[k] = string(v)
			}
		}
	case source.ConfigMapRef != nil:
		cm := from.configMap(source.ConfigMapRef.Name)
		if cm == nil && !isTrue(source.ConfigMapRef.Optional) {
			return nil, &missingError{kind: "ConfigMap", name: source.ConfigMapRef.Name}
		}
		if cm != nil {
			maps.Copy(values, cm.Data)
		}
	}
	return values, nil
}

// valueFrom resolves one reference; ok is false for an optional one to nothing.
func valueFrom(pod *corev1.Pod, c *corev1.Container, source *corev1.EnvVarSource, from sources) (value string, ok bool, err error) {
	switch {
	case source.FieldRef != nil:
		value, err = podField(pod, source.FieldRef.FieldPath)
		return value, err == nil, err
	case source.ResourceFieldRef != nil:
		value, err = containerResource(c, source.ResourceFieldRef)
		return value, err == nil, err
	case source.SecretKeyRef != nil:
		ref := source.SecretKeyRef
		if secret := from.secret(ref.Name); secret != nil {
			if data, found := secret.Data[ref.Key]; found {
				return string(data), true, nil
			}
		}
		return "", false, unlessOptional(ref.Optional, "Secret", ref.Name, ref.Key)
	case source.ConfigMapKeyRef != nil:
		ref := source.ConfigMapKeyRef
		if cm := from.configMap(ref.Name); cm != nil {
			if data, found := cm.Data[ref.Key]; found {
				return data, true, nil
			}
		}
		return "", false, unlessOptional(ref.Optional, "ConfigMap", ref.Name, ref.Key)
	default:
		return "", false, fmt.Errorf("the local node does not support this kind of valueFrom: %s", source.String())
	}
}

func unlessOptional(optional *bool, kind, name, key string) error {
	if isTrue(optional) {
		return nil
	}
	return &missingError{kind: kind, name: name, key: key}
}

func isTrue(b *bool) bool { return b != nil && *b }

// podField is the value of a downward API field path.
func podField(pod *corev1.Pod, path string) (string, error) {
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return formatMap(pod.Labels), nil
	case "metadata.annotations":
		return formatMap(pod.Annotations), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.podIP", "status.podIPs":
		return pod.Status.PodIP, nil
	case "status.hostIP", "status.hostIPs":
		return pod.Status.HostIP, nil
	}
	if key, ok := subscript(path, "metadata.labels"); ok {
		return pod.Labels[key], nil
	}
	if key, ok := subscript(path, "metadata.annotations"); ok {
		return pod.Annotations[key], nil
	}
	return "", fmt.Errorf("the local node does not support the field path %q", path)
}

// subscript is the key of a path such as metadata.labels['key'].
func subscript(path, field string) (string, bool) {
	rest, ok := strings.CutPrefix(path, field+"['")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, "']")
}

// formatMap writes a map as the downward API does: one key="value" a line,
// sorted by key.
func formatMap(m map[string]string) string {
	var lines []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		lines = append(lines, k+"="+strconv.Quote(m[k]))
	}
	return strings.Join(lines, "\n")
}

// hostMemory stands for the limit of a container that has none: more than a
// program will use, and still a number it can be set to (GOMEMLIMIT).
const hostMemory = 1 << 40

// containerResource is a container's request or limit in units of the divisor,
// rounded up. A limit that is not set is what the host has, a request 0.
func containerResource(c *corev1.Container, ref *corev1.ResourceFieldSelector) (string, error) {
	where, name, ok := strings.Cut(ref.Resource, ".")
	var list corev1.ResourceList
	switch where {
	case "limits":
		list = c.Resources.Limits
	case "requests":
		list = c.Resources.Requests
	default:
		ok = false
	}
	if !ok {
		return "", fmt.Errorf("the local node does not support the resource %q", ref.Resource)
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	quantity, set := list[corev1.ResourceName(name)]
	if !set && where == "limits" {
		switch corev1.ResourceName(name) {
		case corev1.ResourceCPU:
			quantity = *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI)
		case corev1.ResourceMemory:
			quantity = *resource.NewQuantity(hostMemory, resource.BinarySI)
		}
	}
	value := quantity.AsApproximateFloat64() / divisor.AsApproximateFloat64()
	return strconv.FormatInt(int64(math.Ceil(value)), 10), nil
}
