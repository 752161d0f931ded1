// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package structure has the tests of what may import what.
package structure

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/eco2-team/scan-operator"

// imports maps each package of the module, without the module's name, to what its non-test files import.
type imports map[string][]string

// load lists the packages of the module.
func load(t *testing.T) imports {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"/...")
	list.Env = append(list.Environ(), "GOFLAGS=-mod=readonly")
	out, err := list.Output()
	if err != nil {
		t.Fatalf("list the packages of the module: %v", err)
	}
	packages := imports{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		packages[local(fields[0])] = fields[1:]
	}
	return packages
}

// local removes the module's name from the path of one of its packages.
func local(path string) string { return strings.TrimPrefix(path, module+"/") }

// within says whether the path is dir or below it.
func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// matching returns the packages of a pattern: one package, or with the suffix /... all in a directory and below. A
// rule about no package at all would hold whatever the code does.
func (p imports) matching(t *testing.T, pattern string) []string {
	t.Helper()
	dir, below := strings.CutSuffix(pattern, "/...")
	var found []string
	for path := range p {
		if path == dir || below && within(path, dir) {
			found = append(found, path)
		}
	}
	if len(found) == 0 {
		t.Fatalf("there is no package %s: move the rule with the package", pattern)
	}
	slices.Sort(found)
	return found
}

// chain returns the shortest chain of imports from a package to one that is forbidden, or nil.
func (p imports) chain(from string, forbidden func(path string) bool) []string {
	chains := [][]string{{from}}
	seen := map[string]bool{from: true}
	for len(chains) > 0 {
		chain := chains[0]
		chains = chains[1:]
		for _, path := range p[chain[len(chain)-1]] {
			path = local(path)
			if seen[path] {
				continue
			}
			seen[path] = true
			next := append(slices.Clone(chain), path)
			if forbidden(path) {
				return next
			}
			chains = append(chains, next)
		}
	}
	return nil
}

// TestReach lists what a package must not import, itself or through other packages of this module.
func TestReach(t *testing.T) {
	// Decisions are tested without a cluster, a server or a network.
	impure := []string{"net/http", "k8s.io/client-go", "sigs.k8s.io/controller-runtime"}
	rules := []struct {
		from string
		not  []string
		why  string
	}{
		{"internal/pipeline/...", impure, "decisions are pure"},
		{"internal/budget/...", impure, "decisions are pure"},
		{"internal/queue/...", impure, "decisions are pure"},
		{"internal/autoscale/...", impure, "decisions are pure"},
		{"internal/scheduler", impure, "decisions are pure"},
		{"internal/scheduler", []string{"internal/autoscale"}, "the autoscaler reads the scheduler's demand, not the other way round"},
		{"internal/scheduler", []string{"internal/autoscale"}, "controllers convert the scheduler's demand to the autoscaler's input"},
		{
			"cmd/api",
			[]string{"internal/scheduler", "internal/queue", "internal/budget", "internal/autoscale"},
			"the API asks the leader through internal/queuestatus; it has no scheduler",
		},
		{"cmd/api", []string{"controllers"}, "the API reconciles nothing"},
		{"cmd/worker", []string{"internal/scheduler", "controllers", "internal/httpapi"}, "a worker runs what it is assigned"},
		{"cmd/manager", []string{"internal/httpapi", "internal/provider", "internal/worker"}, "the manager calls no provider"},
		{
			"internal/scanstatus",
			[]string{"internal/worker", "internal/scheduler", "controllers", "github.com/prometheus"},
			"scheduler, workers and controllers all write through it",
		},
		{"api/v1alpha1", []string{"internal", "controllers", "pkg", "k8s.io/client-go", "sigs.k8s.io/controller-runtime"}, "every program may import the API types"},
		{"pkg/...", []string{"internal", "controllers"}, "the client is for other modules"},
	}
	packages := load(t)
	for _, rule := range rules {
		for _, from := range packages.matching(t, rule.from) {
			for _, not := range rule.not {
				if chain := packages.chain(from, func(path string) bool { return within(path, not) }); chain != nil {
					t.Errorf("%s must not reach %s (%s), but does: %s", from, not, rule.why, strings.Join(chain, " → "))
				}
			}
		}
	}
}

// The wire types and the client carry nothing of this module, so that each side may change without the other.
func TestQueueStatusImportsNothingOfThisModule(t *testing.T) {
	for _, path := range load(t)["internal/queuestatus"] {
		if strings.HasPrefix(path, module) {
			t.Errorf("internal/queuestatus imports %s", path)
		}
	}
}

// What only development and tests need stays out of the products.
func TestProductsImportNothingForDevelopment(t *testing.T) {
	packages := load(t)
	for from := range packages {
		if within(from, "dev") || within(from, "test") || within(from, "hack") {
			continue
		}
		for _, path := range packages[from] {
			if path = local(path); within(path, "dev") || within(path, "test") {
				t.Errorf("%s imports %s", from, path)
			}
		}
	}
}
