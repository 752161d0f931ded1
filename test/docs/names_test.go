// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"go/ast"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// history are the documents that name things of the past.
var history = map[string]bool{"CHANGELOG.md": true}

// snippets calls visit for each piece of code of the documents: inline code and lines of code blocks.
func snippets(t *testing.T, visit func(from, code string)) {
	t.Helper()
	for from, d := range documents(t) {
		if history[from] {
			continue
		}
		for _, code := range slices.Concat(d.spans, d.code) {
			visit(from, strings.TrimPrefix(code, "$ "))
		}
	}
}

// pathToken is what may be a path of the repository, within a piece of code.
var pathToken = regexp.MustCompile(`^(?:\./)?([A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)+/?)(?:/\.\.\.)?$`)

func TestPathsExist(t *testing.T) {
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	top := map[string]bool{}
	for _, entry := range entries {
		top[entry.Name()] = entry.IsDir() && !notOurs[entry.Name()]
	}
	checked := 0
	snippets(t, func(from, code string) {
		for _, word := range strings.FieldsFunc(code, func(r rune) bool { return strings.ContainsRune(" \t=\"'(){},;|:", r) }) {
			m := pathToken.FindStringSubmatch(strings.TrimRight(word, ".,"))
			if m == nil {
				continue
			}
			if first, _, _ := strings.Cut(m[1], "/"); !top[first] {
				continue
			}
			checked++
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(m[1]))); err != nil {
				t.Errorf("%s names %s in %q: %v", from, m[1], code, err)
			}
		}
	})
	if checked < 50 {
		t.Errorf("only %d paths were found: the test misses some", checked)
	}
}

var (
	target   = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):`)
	variable = regexp.MustCompile(`(?m)^([A-Z0-9]+) \?=`)
	word     = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	setting  = regexp.MustCompile(`^([A-Z0-9]+)=`)
)

func TestMakeTargetsExist(t *testing.T) {
	makefile := read(t, "Makefile")
	targets, variables := map[string]bool{}, map[string]bool{}
	for _, m := range target.FindAllStringSubmatch(makefile, -1) {
		targets[m[1]] = true
	}
	for _, m := range variable.FindAllStringSubmatch(makefile, -1) {
		variables[m[1]] = true
	}
	checked := 0
	snippets(t, func(from, code string) {
		words := strings.Fields(code)
		if len(words) == 0 || words[0] != "make" {
			return
		}
		for _, w := range words[1:] {
			if m := setting.FindStringSubmatch(w); m != nil {
				if !variables[m[1]] {
					t.Errorf("%s: %q sets %s, which the Makefile does not take", from, code, m[1])
				}
				return // a value may have spaces
			}
			if !word.MatchString(w) {
				return
			}
			checked++
			if !targets[w] {
				t.Errorf("%s: %q: the Makefile has no target %s", from, code, w)
			}
		}
	})
	if checked < 20 {
		t.Errorf("only %d targets were found: the test misses some", checked)
	}
}

var (
	flagUse = regexp.MustCompile(`--([a-z][a-z0-9-]*)`)
	goRun   = regexp.MustCompile(`go run \./(\S+)`)
)

// users are the commands whose flags are those of a program of the repository.
var users = map[string]string{
	"make run": "dev/cmd/local", "make chaos": "dev/cmd/chaos", "bin/local": "dev/cmd/local",
}

func TestFlagsExist(t *testing.T) {
	all := programs(t)
	checked := 0
	check := func(from, code string, known func(flag string) bool) {
		for _, m := range flagUse.FindAllStringSubmatch(code, -1) {
			checked++
			if !known(m[1]) {
				t.Errorf("%s: %q: there is no flag --%s", from, code, m[1])
			}
		}
	}
	snippets(t, func(from, code string) {
		if strings.HasPrefix(code, "--") {
			check(from, code, func(flag string) bool {
				for _, p := range all {
					if p.flags[flag] {
						return true
					}
				}
				return false
			})
			return
		}
		dir := ""
		if m := goRun.FindStringSubmatch(code); m != nil {
			dir = m[1]
		}
		for prefix, program := range users {
			if strings.HasPrefix(code, prefix) {
				dir = program
			}
		}
		if p := all[dir]; p != nil {
			check(from, code, func(flag string) bool { return p.flags[flag] })
		} else if strings.HasPrefix(dir, "dev/cmd/") || strings.HasPrefix(dir, "cmd/") {
			t.Errorf("%s: %q: there is no program %s", from, code, dir)
		}
	})
	if checked < 30 {
		t.Errorf("only %d flags were found: the test misses some", checked)
	}
}

func TestEnvironmentTwinsExist(t *testing.T) {
	twins := map[string]bool{}
	var prefixes []string
	for _, p := range programs(t) {
		if p.prefix == "" {
			continue
		}
		prefixes = append(prefixes, regexp.QuoteMeta(p.prefix))
		for flag := range p.flags {
			twins[p.prefix+"_"+strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))] = true
		}
	}
	use := regexp.MustCompile(`\b(?:` + strings.Join(prefixes, "|") + `)_[A-Z0-9_]+\b`)
	checked := 0
	snippets(t, func(from, code string) {
		for _, name := range use.FindAllString(code, -1) {
			checked++
			if !twins[name] {
				t.Errorf("%s: no flag has the environment twin %s", from, name)
			}
		}
	})
	if checked == 0 {
		t.Error("no environment twin was found: the test misses some")
	}
}

// stringsIn are the string literals of the Go files below the directories that match a pattern.
func stringsIn(t *testing.T, pattern *regexp.Regexp, dirs ...string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	sources(t, func(file string, tree *ast.File) {
		if !slices.ContainsFunc(dirs, func(dir string) bool { return strings.HasPrefix(file, dir) }) {
			return
		}
		ast.Inspect(tree, func(node ast.Node) bool {
			if expr, ok := node.(ast.Expr); ok {
				if value, ok := stringOf(expr); ok && pattern.MatchString(value) {
					found[value] = true
				}
			}
			return true
		})
	})
	return found
}

// sameNames compares the names that the source defines with those in the inline code of a page.
func sameNames(t *testing.T, page string, defined map[string]bool, use *regexp.Regexp) {
	t.Helper()
	if len(defined) == 0 {
		t.Fatalf("no name for %s was found in the source", page)
	}
	named := map[string]bool{}
	for _, span := range documents(t)[page].spans {
		for _, name := range use.FindAllString(span, -1) {
			named[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(defined)) {
		if !named[name] {
			t.Errorf("%s does not name %s", page, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		if !defined[name] {
			t.Errorf("%s names %s, which the source does not define", page, name)
		}
	}
}

func TestMetricsPageIsComplete(t *testing.T) {
	metric := regexp.MustCompile(`^scan_[a-z_]+$`)
	sameNames(t, "docs/reference/metrics.md",
		stringsIn(t, metric, "internal/scheduler/metrics/", "internal/worker/metrics.go", "internal/httpapi/metrics.go", "internal/queuestatus/"),
		regexp.MustCompile(`\bscan_[a-z_]+\b`))
}

// The conditions and reasons of the API are closed sets, and the page has them all.
func TestConditionsPageIsComplete(t *testing.T) {
	word := regexp.MustCompile(`^[A-Z][A-Za-z]+$`)
	defined := stringsIn(t, word, "api/v1alpha1/conditions.go")
	named := map[string]bool{}
	for _, span := range documents(t)["docs/reference/conditions.md"].spans {
		named[span] = true
	}
	for _, name := range slices.Sorted(maps.Keys(defined)) {
		if !named[name] {
			t.Errorf("docs/reference/conditions.md does not name %s", name)
		}
	}
	for _, name := range classes(t) {
		if !named[name] {
			t.Errorf("docs/reference/conditions.md does not name the failure class %s", name)
		}
	}
	if len(defined) < 40 {
		t.Errorf("only %d conditions and reasons were found: the test misses some", len(defined))
	}
}

// classes are the constants of type FailureClass.
func classes(t *testing.T) []string {
	t.Helper()
	var found []string
	sources(t, func(file string, tree *ast.File) {
		if !strings.HasPrefix(file, "api/v1alpha1/") {
			return
		}
		ast.Inspect(tree, func(node ast.Node) bool {
			if spec, ok := node.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
				if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "FailureClass" {
					if value, ok := stringOf(spec.Values[0]); ok {
						found = append(found, value)
					}
				}
			}
			return true
		})
	})
	if len(found) < 10 {
		t.Errorf("only %d failure classes were found: the test misses some", len(found))
	}
	return found
}

// The codes of the HTTP API's errors are a promise to clients.
func TestErrorCodesAreDocumented(t *testing.T) {
	code := regexp.MustCompile(`^[A-Z]+(_[A-Z]+)+$|^UNAUTHORIZED$|^OVERLOADED$|^INTERNAL$|^UNAVAILABLE$`)
	defined := stringsIn(t, code, "internal/httpapi/", "pkg/client/")
	for name := range defined {
		if strings.HasPrefix(name, "POD_") {
			delete(defined, name)
		}
	}
	named := strings.Join(documents(t)["docs/reference/http-api.md"].spans, " ")
	for _, name := range slices.Sorted(maps.Keys(defined)) {
		if !strings.Contains(named, name) {
			t.Errorf("docs/reference/http-api.md does not name %s", name)
		}
	}
	if len(defined) < 20 {
		t.Errorf("only %d codes were found: the test misses some", len(defined))
	}
}

// Who looks for a package finds on the architecture page what it is for.
func TestArchitecturePageNamesEveryPackage(t *testing.T) {
	named := map[string]bool{}
	for _, span := range documents(t)["docs/concepts/architecture.md"].spans {
		named[span] = true
	}
	for _, parent := range []string{"internal", "controllers", "pkg", "dev"} {
		entries, err := os.ReadDir(filepath.Join(root, parent))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if name := parent + "/" + entry.Name(); entry.IsDir() && !named[name] {
				t.Errorf("docs/concepts/architecture.md does not name %s", name)
			}
		}
	}
}

// Updates are proposed for every module.
func TestDependabotWatchesEveryModule(t *testing.T) {
	var patterns []string
	for _, m := range regexp.MustCompile(`(?m)^  - (/\S*)$`).FindAllStringSubmatch(read(t, ".github/dependabot.yml"), -1) {
		patterns = append(patterns, m[1])
	}
	walk(t, func(file string) {
		dir, name := path.Split("/" + file)
		if name != "go.mod" {
			return
		}
		if dir != "/" {
			dir = strings.TrimSuffix(dir, "/")
		}
		if !slices.ContainsFunc(patterns, func(pattern string) bool {
			ok, err := path.Match(pattern, dir)
			return ok && err == nil
		}) {
			t.Errorf(".github/dependabot.yml does not list %s", dir)
		}
	})
}
