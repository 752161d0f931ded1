// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package testenv

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/eco2-team/scan-operator/dev/manifests"
)

// Manifests reads all objects of the YAML files that the pattern names; the pattern is one of path/filepath, given by
// its elements from the repository's root. Kustomizations are left out. No file at all is an error.
func Manifests(pattern ...string) ([]*unstructured.Unstructured, error) {
	return manifests.Read(Path(pattern...))
}
