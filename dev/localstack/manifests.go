// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localstack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// clusterScoped are the kinds in config/ that have no namespace.
var clusterScoped = []string{"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace"}

// readManifests reads all objects of a directory's YAML files, in the order of
// the file names. Kustomizations are left out: they are not objects.
func readManifests(dir string) ([]*unstructured.Unstructured, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", dir, err)
	}
	slices.Sort(files)
	var out []*unstructured.Unstructured
	for _, file := range files {
		if filepath.Base(file) == "kustomization.yaml" {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the manifests: %w", err)
		}
		objects, err := decodeManifests(data)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		out = append(out, objects...)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s has no manifests (*.yaml)", dir)
	}
	return out, nil
}

func decodeManifests(data []byte) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		object := map[string]any{}
		err := decoder.Decode(&object)
		switch {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, err
		case len(object) == 0: // between two separators, or comments only
			continue
		}
		u := &unstructured.Unstructured{Object: object}
		if u.GetKind() == "" || u.GetAPIVersion() == "" || u.GetName()+u.GetGenerateName() == "" {
			return nil, fmt.Errorf("document %d has no kind, apiVersion or name", len(out)+1)
		}
		out = append(out, u)
	}
}

// moveTo puts the object, and the service accounts that a binding is for, into
// the namespace.
func moveTo(object *unstructured.Unstructured, namespace string) error {
	if !slices.Contains(clusterScoped, object.GetKind()) {
		object.SetNamespace(namespace)
	}
	if !strings.HasSuffix(object.GetKind(), "RoleBinding") {
		return nil
	}
	subjects, found, err := unstructured.NestedSlice(object.Object, "subjects")
	if err != nil || !found {
		return err
	}
	for i := range subjects {
		subject, ok := subjects[i].(map[string]any)
		if ok && subject["kind"] == "ServiceAccount" {
			subject["namespace"] = namespace
		}
	}
	return unstructured.SetNestedSlice(object.Object, subjects, "subjects")
}

// secretKey names one key of a Secret.
type secretKey struct{ name, key string }

// providerKeys are the Secrets' keys that the TokenBudgets among the objects
// take the provider's key from.
func providerKeys(objects []*unstructured.Unstructured) []secretKey {
	var out []secretKey
	for _, object := range objects {
		if object.GetKind() != "TokenBudget" {
			continue
		}
		name, _, _ := unstructured.NestedString(object.Object, "spec", "secretRef", "name")
		key, _, _ := unstructured.NestedString(object.Object, "spec", "secretRef", "key")
		if ref := (secretKey{name, key}); name != "" && key != "" && !slices.Contains(out, ref) {
			out = append(out, ref)
		}
	}
	return out
}
