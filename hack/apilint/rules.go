// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"
)

// finding is one violation of a rule.
type finding struct {
	position token.Position
	rule     string
	message  string
}

func (f finding) String() string {
	return fmt.Sprintf("%s:%d: %s (%s)", f.position.Filename, f.position.Line, f.message, f.rule)
}

// fieldRules are the rules that look at one field: each returns what is wrong,
// or nothing.
var fieldRules = []struct {
	name  string
	check func(p *apiPackage, f *field) string
}{
	{"commentstart", commentStart},
	{"duplicatemarkers", duplicateMarkers},
	{"integers", integers},
	{"jsontags", jsonTags},
	{"maxlength", maxLength},
	{"nofloats", noFloats},
	{"nomaps", noMaps},
	{"notimestamp", noTimestamp},
	{"optionalorrequired", optionalOrRequired},
	{"ssatags", listType},
	{"conditions", conditions},
	{"statusoptional", statusOptional},
}

// check applies all rules and returns the findings in the order of the source.
func (p *apiPackage) check() []finding {
	var out []finding
	for _, t := range p.types {
		if p.isRoot(t) {
			out = append(out, p.checkRoot(t)...)
			continue
		}
		for _, f := range t.fields {
			for _, rule := range fieldRules {
				if message := rule.check(p, f); message != "" {
					out = append(out, finding{
						position: p.fset.Position(f.pos), rule: rule.name,
						message: t.name + "." + f.name + ": " + message,
					})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b finding) int {
		return cmp.Or(
			strings.Compare(a.position.Filename, b.position.Filename),
			cmp.Compare(a.position.Line, b.position.Line),
			strings.Compare(a.rule, b.rule),
		)
	})
	return out
}

// isRoot says whether the type is a kind, or a list of one: it has TypeMeta.
func (p *apiPackage) isRoot(t *apiType) bool {
	return slices.ContainsFunc(t.fields, func(f *field) bool { return typeName(f.expr) == "TypeMeta" })
}

// checkRoot is for kinds, whose fields are given: a kind with a status has it
// as a subresource.
func (p *apiPackage) checkRoot(t *apiType) []finding {
	for _, f := range t.fields {
		if f.json == "status" && !t.markers.has("kubebuilder:subresource:status") {
			return []finding{{
				position: p.fset.Position(f.pos), rule: "statussubresource",
				message: t.name + ": a kind with a status needs +kubebuilder:subresource:status",
			}}
		}
	}
	return nil
}

func commentStart(_ *apiPackage, f *field) string {
	if f.json == "" {
		return ""
	}
	if f.doc == "" {
		return "has no comment; it becomes the field's documentation"
	}
	if !strings.HasPrefix(f.doc, f.json+" ") {
		return fmt.Sprintf("the comment must start with the field's name in JSON, %q: that is the name its readers know", f.json)
	}
	return ""
}

// repeatable are the markers that a field may have several of, with different
// values. Of any other marker one value would be ignored.
var repeatable = []string{"kubebuilder:validation:XValidation", "listMapKey", "k8s:listMapKey"}

func duplicateMarkers(_ *apiPackage, f *field) string {
	seen := map[string]bool{}
	for _, m := range f.markers {
		key := markerName(m)
		if slices.ContainsFunc(repeatable, func(name string) bool { return key == name || strings.HasPrefix(key, name+":") }) {
			key = m
		}
		if seen[key] {
			return "has the marker +" + key + " twice"
		}
		seen[key] = true
	}
	return ""
}

// coreSeconds are fields of Kubernetes' own types that were made before the
// convention; who repeats one keeps its type.
var coreSeconds = []string{"terminationGracePeriodSeconds", "activeDeadlineSeconds", "tolerationSeconds", "expirationSeconds"}

func integers(p *apiPackage, f *field) string {
	switch name := typeName(p.basic(element(f.expr))); name {
	case "int", "int8", "int16", "uint", "uint8", "uint16", "uint32", "uint64":
		return name + " is no API type; use int32 or int64"
	}
	if strings.HasSuffix(f.json, "Seconds") && !slices.Contains(coreSeconds, f.json) && typeName(p.basic(element(f.expr))) != "int32" {
		return "a number of seconds is an int32"
	}
	return ""
}

var camelCase = regexp.MustCompile(`^[a-z][a-zA-Z0-9]*$`)

func jsonTags(_ *apiPackage, f *field) string {
	switch {
	case !f.tagged:
		return "has no json tag"
	case f.json == "" && !slices.Contains(f.options, "inline"):
		return "the json tag has no name"
	case f.json != "" && !camelCase.MatchString(f.json):
		return fmt.Sprintf("the json name %q is not in camelCase", f.json)
	}
	return ""
}

const (
	validation = "kubebuilder:validation:"
	items      = validation + "items:"
)

// maxLength bounds what is stored: strings, the items of lists, and lists.
func maxLength(p *apiPackage, f *field) string {
	expr := deref(f.expr)
	if named, ok := p.types[typeName(expr)]; ok {
		if array, ok := named.expr.(*ast.ArrayType); ok {
			return p.listBounds(array, slices.Concat(f.markers, named.markers))
		}
	}
	if array, ok := expr.(*ast.ArrayType); ok {
		return p.listBounds(array, f.markers)
	}
	if p.isString(expr) && !p.bounded(expr, f.markers, validation) {
		return "a string needs a +kubebuilder:validation:MaxLength, Enum or Format"
	}
	return ""
}

func (p *apiPackage) listBounds(array *ast.ArrayType, m markers) string {
	if typeName(array.Elt) == "byte" {
		return ""
	}
	if !m.has(validation+"MaxItems", "k8s:maxItems") {
		return "a list needs a +kubebuilder:validation:MaxItems"
	}
	if p.isString(array.Elt) && !p.bounded(array.Elt, m, items) {
		return "a list of strings needs a +kubebuilder:validation:items:MaxLength, Enum or Format"
	}
	return ""
}

func (p *apiPackage) bounded(expr ast.Expr, m markers, prefix string) bool {
	if m.has(prefix+"MaxLength", prefix+"Enum", prefix+"Format", "k8s:maxLength") {
		return true
	}
	named, ok := p.types[typeName(expr)]
	return ok && named.markers.has(validation+"MaxLength", validation+"Enum", validation+"Format", "k8s:maxLength")
}

func noFloats(p *apiPackage, f *field) string {
	if name := typeName(p.basic(element(f.expr))); name == "float32" || name == "float64" {
		return "floats do not survive encodings; use an integer of a smaller unit or a resource.Quantity"
	}
	return ""
}

// noMaps allows the maps that Kubernetes itself has: labels and selectors.
func noMaps(_ *apiPackage, f *field) string {
	m, ok := deref(f.expr).(*ast.MapType)
	if !ok || typeName(m.Key) == "string" && typeName(m.Value) == "string" {
		return ""
	}
	return "a map cannot be validated or patched item by item; use a list with +listType=map"
}

func noTimestamp(_ *apiPackage, f *field) string {
	if strings.Contains(strings.ToLower(f.json), "timestamp") {
		return "name a time after what happens then, as in startTime or startedAt"
	}
	return ""
}

func optionalOrRequired(_ *apiPackage, f *field) string {
	optional := f.markers.has("optional", validation+"Optional", "k8s:optional")
	required := f.markers.has("required", validation+"Required", "k8s:required")
	switch {
	case f.json == "":
		return ""
	case optional && required:
		return "is both +optional and +required"
	case !optional && !required:
		return "is neither +optional nor +required"
	}
	return ""
}

// listType says how server-side apply merges a list.
func listType(p *apiPackage, f *field) string {
	expr := deref(f.expr)
	m := f.markers
	if named, ok := p.types[typeName(expr)]; ok {
		expr, m = named.expr, slices.Concat(m, named.markers)
	}
	array, ok := expr.(*ast.ArrayType)
	if !ok || typeName(array.Elt) == "byte" {
		return ""
	}
	if !m.has("listType", "k8s:listType") {
		return "a list needs a +listType"
	}
	isMap := slices.Contains(m, "listType=map") || slices.Contains(m, "k8s:listType=map")
	if isMap && !m.has("listMapKey", "k8s:listMapKey") {
		return "a list with +listType=map needs a +listMapKey"
	}
	return ""
}

func conditions(_ *apiPackage, f *field) string {
	array, ok := f.expr.(*ast.ArrayType)
	if !ok || typeName(array.Elt) != "Condition" {
		return ""
	}
	switch {
	case f.owner.fields[0] != f:
		return "conditions are the first field of a status"
	case f.json != "conditions" || !slices.Contains(f.options, "omitempty"):
		return `the json tag must be "conditions,omitempty"`
	case !slices.Contains(f.markers, "listType=map") || !slices.Contains(f.markers, "listMapKey=type"):
		return "conditions need +listType=map and +listMapKey=type"
	}
	return ""
}

// statusOptional is for the top of a status: an object is created without one.
func statusOptional(_ *apiPackage, f *field) string {
	if strings.HasSuffix(f.owner.name, "Status") && f.owner.topLevelStatus() && f.markers.has("required", validation+"Required") {
		return "a field at the top of a status is +optional"
	}
	return ""
}

// topLevelStatus tells a kind's status from the status of a part of it: the
// former has conditions.
func (t *apiType) topLevelStatus() bool {
	return slices.ContainsFunc(t.fields, func(f *field) bool { return f.json == "conditions" })
}

func (p *apiPackage) isString(expr ast.Expr) bool { return typeName(p.basic(expr)) == "string" }

// basic follows the package's own named types to what they are made of.
func (p *apiPackage) basic(expr ast.Expr) ast.Expr {
	expr = deref(expr)
	for range p.types {
		named, ok := p.types[typeName(expr)]
		if !ok {
			break
		}
		expr = deref(named.expr)
	}
	return expr
}

// element is the type of a list's items, or the type itself.
func element(expr ast.Expr) ast.Expr {
	expr = deref(expr)
	if array, ok := expr.(*ast.ArrayType); ok {
		return deref(array.Elt)
	}
	return expr
}

func deref(expr ast.Expr) ast.Expr {
	if star, ok := expr.(*ast.StarExpr); ok {
		return star.X
	}
	return expr
}

// typeName is the name of a type without its package; empty if it has none.
func typeName(expr ast.Expr) string {
	switch e := deref(expr).(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}
