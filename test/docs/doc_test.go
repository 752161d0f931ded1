// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package docs has the tests of the documents: what they link to and name must exist.
package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// root is the directory of the repository: tests run in that of their package.
var root = filepath.Join("..", "..")

// notOurs are the directories without documents of the repository: built programs, local state and version control.
var notOurs = map[string]bool{".git": true, "bin": true, ".local": true, "node_modules": true, "testdata": true}

// documents are all Markdown files of the repository, by their path within it.
func documents(t *testing.T) map[string]*document {
	t.Helper()
	docs := map[string]*document{}
	walk(t, func(path string) {
		if strings.HasSuffix(path, ".md") {
			docs[path] = parse(read(t, path))
		}
	})
	for _, path := range []string{"README.md", "docs/README.md", "docs/glossary.md"} {
		if docs[path] == nil {
			t.Fatalf("%s was not found among %d documents", path, len(docs))
		}
	}
	return docs
}

// walk calls visit for each file of the repository.
func walk(t *testing.T, visit func(path string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if notOurs[entry.Name()] {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		visit(filepath.ToSlash(rel))
		return nil
	})
	if err != nil {
		t.Fatalf("walk the repository: %v", err)
	}
}

// read is the text of one file of the repository.
func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
