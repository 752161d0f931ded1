// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// program is what a command of the repository takes.
type program struct {
	prefix string
	flags  map[string]bool
}

// shared are flags that come from libraries.
var shared = []string{
	"kubeconfig", "zap-devel", "zap-encoder", "zap-log-level", "zap-stacktrace-level", "zap-time-encoding", "help", "version",
}

var flagName = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

// programs are the commands of the repository by their directory, with the flags that their source defines: the first
// string among the arguments of a call like StringVar, Duration or Func.
func programs(t *testing.T) map[string]*program {
	t.Helper()
	found := map[string]*program{}
	sources(t, func(file string, tree *ast.File) {
		dir := path.Dir(file)
		if !strings.HasPrefix(dir, "cmd/") && !strings.HasPrefix(dir, "dev/cmd/") {
			return
		}
		p := found[dir]
		if p == nil {
			p = &program{flags: map[string]bool{}}
			found[dir] = p
			for _, name := range shared {
				p.flags[name] = true
			}
		}
		ast.Inspect(tree, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.ValueSpec:
				if len(node.Names) == 1 && node.Names[0].Name == "envPrefix" && len(node.Values) == 1 {
					p.prefix, _ = stringOf(node.Values[0])
				}
			case *ast.CallExpr:
				if name, ok := definedFlag(node); ok {
					p.flags[name] = true
				}
			}
			return true
		})
	})
	return found
}

// definedFlag is the flag that a call defines, if it does.
func definedFlag(call *ast.CallExpr) (string, bool) {
	fun, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || len(call.Args) < 3 && fun.Sel.Name != "Func" {
		return "", false
	}
	switch strings.TrimSuffix(fun.Sel.Name, "Var") {
	case "", "Bool", "BoolFunc", "Duration", "Float64", "Func", "Int", "Int64", "String", "Text", "Uint", "Uint64":
	default:
		return "", false
	}
	for _, arg := range call.Args[:2] {
		if name, ok := stringOf(arg); ok {
			return name, flagName.MatchString(name)
		}
	}
	return "", false
}

func stringOf(node ast.Expr) (string, bool) {
	literal, ok := node.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", false
	}
	value, err := strconv.Unquote(literal.Value)
	return value, err == nil
}

// sources calls visit for each Go file of the repository that is not a test.
func sources(t *testing.T, visit func(file string, tree *ast.File)) {
	t.Helper()
	walk(t, func(file string) {
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, read(t, file), parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("parse %s: %v", file, err)
			return
		}
		visit(file, tree)
	})
}

func TestFlagsAreFoundInTheSource(t *testing.T) {
	for dir, want := range map[string][]string{
		"cmd/manager":    {"namespace", "leader-elect-lease-duration", "kube-api-qps"},
		"cmd/api":        {"bind-address", "max-estimated-wait"},
		"cmd/worker":     {"pool", "capacity"},
		"dev/cmd/local":  {"speed", "keep"},
		"dev/cmd/bench":  {"scenarios"},
		"dev/cmd/chaos":  {"rounds"},
		"cmd/manager/no": nil,
	} {
		p := programs(t)[dir]
		if p == nil {
			if want != nil {
				t.Errorf("there is no program %s", dir)
			}
			continue
		}
		for _, name := range want {
			if !p.flags[name] {
				t.Errorf("%s: flag --%s was not found", dir, name)
			}
		}
		if p.flags["no-such-flag"] {
			t.Errorf("%s: a flag was found that does not exist", dir)
		}
	}
}
