// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// apiPackage is a package of API types as it is written.
type apiPackage struct {
	fset  *token.FileSet
	types map[string]*apiType
}

// apiType is one type declaration.
type apiType struct {
	name    string
	expr    ast.Expr
	markers markers
	fields  []*field // of a struct
}

// field is one field of a struct.
type field struct {
	owner   *apiType
	name    string // empty for an embedded one
	expr    ast.Expr
	pos     token.Pos
	doc     string // without markers
	markers markers
	json    string // the name in JSON; empty without one
	options []string
	tagged  bool
}

// markers are the +name=value lines above a declaration.
type markers []string

// has says whether one of the names is among the markers, with or without a
// value.
func (m markers) has(names ...string) bool {
	return slices.ContainsFunc(m, func(marker string) bool {
		return slices.Contains(names, markerName(marker))
	})
}

// markerName is what comes before the value.
func markerName(marker string) string {
	name, _, _ := strings.Cut(marker, "=")
	return name
}

// load reads the package in dir, generated files and tests left out.
func load(dir string) (*apiPackage, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	p := &apiPackage{fset: token.NewFileSet(), types: map[string]*apiType{}}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(filepath.Base(path), "zz_generated") {
			continue
		}
		f, err := parser.ParseFile(p.fset, path, nil, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		p.add(f)
	}
	return p, nil
}

func (p *apiPackage) add(f *ast.File) {
	for _, decl := range f.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.TYPE {
			continue
		}
		for _, s := range gen.Specs {
			spec, ok := s.(*ast.TypeSpec)
			if !ok {
				continue
			}
			doc := spec.Doc
			if doc == nil {
				doc = gen.Doc
			}
			t := &apiType{name: spec.Name.Name, expr: spec.Type}
			_, t.markers = splitDoc(p.detached(f, doc))
			if st, ok := spec.Type.(*ast.StructType); ok {
				for _, sf := range st.Fields.List {
					t.fields = append(t.fields, newFields(t, sf)...)
				}
			}
			p.types[t.name] = t
		}
	}
}

// detached is the doc comment with a marker comment that stands right before
// it, separated by an empty line, as tools accept it too.
func (p *apiPackage) detached(f *ast.File, doc *ast.CommentGroup) []*ast.CommentGroup {
	if doc == nil {
		return nil
	}
	out := []*ast.CommentGroup{doc}
	for _, group := range f.Comments {
		if p.fset.Position(group.End()).Line == p.fset.Position(doc.Pos()).Line-2 {
			out = append(out, group)
		}
	}
	return out
}

func newFields(owner *apiType, sf *ast.Field) []*field {
	base := field{owner: owner, expr: sf.Type, pos: sf.Pos()}
	base.doc, base.markers = splitDoc([]*ast.CommentGroup{sf.Doc})
	if sf.Tag != nil {
		if raw, err := strconv.Unquote(sf.Tag.Value); err == nil {
			var tag string
			if tag, base.tagged = reflect.StructTag(raw).Lookup("json"); base.tagged {
				parts := strings.Split(tag, ",")
				base.json, base.options = parts[0], parts[1:]
			}
		}
	}
	if len(sf.Names) == 0 {
		return []*field{&base}
	}
	var out []*field
	for _, name := range sf.Names {
		f := base
		f.name, f.pos = name.Name, name.Pos()
		out = append(out, &f)
	}
	return out
}

// splitDoc separates the text of comments from the markers in them.
func splitDoc(groups []*ast.CommentGroup) (doc string, found markers) {
	var text []string
	for _, group := range groups {
		if group == nil {
			continue
		}
		for _, comment := range group.List {
			line := strings.TrimSpace(strings.TrimPrefix(comment.Text, "//"))
			if marker, ok := strings.CutPrefix(line, "+"); ok {
				found = append(found, marker)
			} else if line != "" {
				text = append(text, line)
			}
		}
	}
	return strings.Join(text, "\n"), found
}
