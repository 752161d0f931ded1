// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package manifests reads Kubernetes objects from YAML and moves them to a namespace, for the local stack and the tests.
package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// clusterScoped are the kinds in config/ that have no namespace.
var clusterScoped = []string{"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace"}

// Decode reads the documents of a YAML stream. It leaves out those that hold comments alone.
func Decode(stream []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(stream), len(stream)+1)
	for {
		content := map[string]any{}
		switch err := decoder.Decode(&content); {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, fmt.Errorf("read document %d: %w", len(objects)+1, err)
		case len(content) > 0:
			objects = append(objects, &unstructured.Unstructured{Object: content})
		}
	}
}

// Read reads all objects of the files that a pattern of path/filepath matches, in the order of the file names. It leaves
// out kustomizations, which are not objects. A pattern without any file is an error.
func Read(pattern string) ([]*unstructured.Unstructured, error) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("find manifests: %w", err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("find manifests: no file matches %s", pattern)
	}
	slices.Sort(files)
	var all []*unstructured.Unstructured
	for _, file := range files {
		if filepath.Base(file) == "kustomization.yaml" {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read a manifest: %w", err)
		}
		objects, err := Decode(content)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		all = append(all, objects...)
	}
	return all, nil
}

// MoveTo puts an object into a namespace unless its kind has none, and the service accounts of a binding too.
func MoveTo(object *unstructured.Unstructured, namespace string) error {
	if !slices.Contains(clusterScoped, object.GetKind()) {
		object.SetNamespace(namespace)
	}
	subjects, found, err := unstructured.NestedSlice(object.Object, "subjects")
	if err != nil {
		return fmt.Errorf("read the subjects of %s: %w", object.GetName(), err)
	}
	if !found {
		return nil
	}
	for i := range subjects {
		if subject, ok := subjects[i].(map[string]any); ok && subject["kind"] == "ServiceAccount" {
			subject["namespace"] = namespace
		}
	}
	return unstructured.SetNestedSlice(object.Object, subjects, "subjects")
}
