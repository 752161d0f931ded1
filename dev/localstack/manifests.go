// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localstack

import (
	"fmt"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/eco2-team/scan-operator/dev/manifests"
)

// readManifests reads the objects of a directory's YAML files. Each must be complete enough to be applied.
func readManifests(dir string) ([]*unstructured.Unstructured, error) {
	objects, err := manifests.Read(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	if len(objects) == 0 {
		return nil, fmt.Errorf("%s has no manifests (*.yaml)", dir)
	}
	if err := checkManifests(objects); err != nil {
		return nil, fmt.Errorf("read %s: %w", dir, err)
	}
	return objects, nil
}

func checkManifests(objects []*unstructured.Unstructured) error {
	for i, object := range objects {
		if object.GetKind() == "" || object.GetAPIVersion() == "" || object.GetName()+object.GetGenerateName() == "" {
			return fmt.Errorf("document %d has no kind, apiVersion or name", i+1)
		}
	}
	return nil
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
