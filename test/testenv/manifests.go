// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Objects reads the documents of a YAML stream. Documents that hold comments alone are left out.
func Objects(stream []byte) ([]*unstructured.Unstructured, error) {
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

// Manifests reads all objects of the YAML files that the pattern names; the pattern is one of path/filepath, given by
// its elements from the repository's root. Kustomizations are left out. No file at all is an error.
func Manifests(pattern ...string) ([]*unstructured.Unstructured, error) {
	files, err := filepath.Glob(Path(pattern...))
	if err != nil {
		return nil, fmt.Errorf("find manifests: %w", err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("find manifests: no file is named %s", filepath.Join(pattern...))
	}
	var all []*unstructured.Unstructured
	for _, file := range files {
		if filepath.Base(file) == "kustomization.yaml" {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read a manifest: %w", err)
		}
		objects, err := Objects(content)
		if err != nil {
			return nil, fmt.Errorf("read manifest %s: %w", file, err)
		}
		all = append(all, objects...)
	}
	return all, nil
}
