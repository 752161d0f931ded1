// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
)

// schema is a parsed JSON schema, as far as structured output knows it.
type schema struct {
	types      []string // empty means any
	enum       []json.RawMessage
	constant   json.RawMessage
	anyOf      []*schema
	ref        string
	defs       map[string]*schema
	properties []property
	required   []string
	// closed is additionalProperties: false.
	closed      bool
	items       *schema
	minItems    int
	maxItems    int // -1 for none
	minLength   int
	maxLength   int // -1 for none
	pattern     *syntax.Regexp
	format      string
	minimum     *float64
	maximum     *float64
	above       *float64 // exclusiveMinimum
	below       *float64 // exclusiveMaximum
	multipleOf  float64
	unsupported string // a keyword that strict mode does not permit
}

// property is a named member of an object, in the schema's order: the provider
// writes keys in that order.
type property struct {
	name   string
	schema *schema
}

// schemaDocument is the part of a schema that decodes as it is written.
type schemaDocument struct {
	Type             json.RawMessage            `json:"type"`
	Enum             []json.RawMessage          `json:"enum"`
	Const            json.RawMessage            `json:"const"`
	AnyOf            []json.RawMessage          `json:"anyOf"`
	OneOf            []json.RawMessage          `json:"oneOf"`
	AllOf            json.RawMessage            `json:"allOf"`
	Not              json.RawMessage            `json:"not"`
	If               json.RawMessage            `json:"if"`
	Then             json.RawMessage            `json:"then"`
	Else             json.RawMessage            `json:"else"`
	DependentReq     json.RawMessage            `json:"dependentRequired"`
	DependentSchemas json.RawMessage            `json:"dependentSchemas"`
	PatternProps     json.RawMessage            `json:"patternProperties"`
	Ref              string                     `json:"$ref"`
	Defs             map[string]json.RawMessage `json:"$defs"`
	Definitions      map[string]json.RawMessage `json:"definitions"`
	Properties       json.RawMessage            `json:"properties"`
	Required         []string                   `json:"required"`
	Additional       json.RawMessage            `json:"additionalProperties"`
	Items            json.RawMessage            `json:"items"`
	MinItems         int                        `json:"minItems"`
	MaxItems         *int                       `json:"maxItems"`
	MinLength        int                        `json:"minLength"`
	MaxLength        *int                       `json:"maxLength"`
	Pattern          string                     `json:"pattern"`
	Format           string                     `json:"format"`
	Minimum          *float64                   `json:"minimum"`
	Maximum          *float64                   `json:"maximum"`
	ExclusiveMinimum *float64                   `json:"exclusiveMinimum"`
	ExclusiveMaximum *float64                   `json:"exclusiveMaximum"`
	MultipleOf       float64                    `json:"multipleOf"`
}

const (
	// maxParseDepth bounds the nesting of a schema, in steps of a path.
	maxParseDepth = 128
	// maxMinimum bounds how much output a schema may demand.
	maxMinimum = 10_000
)

// parseSchema reads a schema. Its errors name the place by the path of
// properties that leads to it.
func parseSchema(raw json.RawMessage, path schemaPath) (*schema, error) {
	if len(path) > maxParseDepth {
		return nil, fmt.Errorf("the schema is nested deeper than %d levels", maxParseDepth/2)
	}
	var d schemaDocument
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, fmt.Errorf("In context=%s, the schema is not valid: %w", path, err) //nolint:staticcheck // the provider's wording
	}
	s := &schema{
		enum: d.Enum, constant: d.Const, ref: d.Ref, required: d.Required,
		closed: string(d.Additional) == "false", minItems: d.MinItems, maxItems: orUnbounded(d.MaxItems),
		minLength: d.MinLength, maxLength: orUnbounded(d.MaxLength), format: d.Format, minimum: d.Minimum,
		maximum: d.Maximum, above: d.ExclusiveMinimum, below: d.ExclusiveMaximum, multipleOf: d.MultipleOf,
	}
	for _, k := range []struct {
		name string
		raw  json.RawMessage
	}{
		{"allOf", d.AllOf},
		{"not", d.Not},
		{"if", d.If},
		{"then", d.Then},
		{"else", d.Else},
		{"dependentRequired", d.DependentReq},
		{"dependentSchemas", d.DependentSchemas},
		{"patternProperties", d.PatternProps},
	} {
		if k.raw != nil {
			s.unsupported = k.name
		}
	}
	if d.OneOf != nil {
		s.unsupported = "oneOf"
	}
	if s.minItems > maxMinimum || s.minLength > maxMinimum {
		return nil, fmt.Errorf("In context=%s, 'minItems' and 'minLength' may be at most %d", path, maxMinimum) //nolint:staticcheck // the provider's wording
	}
	var err error
	if s.types, err = parseTypes(d.Type, path); err != nil {
		return nil, err
	}
	if s.pattern, err = parsePattern(d.Pattern, path); err != nil {
		return nil, err
	}
	if err := s.parseChildren(&d, path); err != nil {
		return nil, err
	}
	return s, nil
}

// parseChildren reads the schemas inside a schema.
func (s *schema) parseChildren(d *schemaDocument, path schemaPath) error {
	for i, raw := range slices.Concat(d.AnyOf, d.OneOf) {
		child, err := parseSchema(raw, path.with("anyOf", fmt.Sprint(i))) //nolint:perfsprint // an index in a rare path
		if err != nil {
			return err
		}
		s.anyOf = append(s.anyOf, child)
	}
	s.defs = make(map[string]*schema, len(d.Defs)+len(d.Definitions))
	for prefix, group := range map[string]map[string]json.RawMessage{"$defs": d.Defs, "definitions": d.Definitions} {
		for name, raw := range group {
			child, err := parseSchema(raw, path.with(prefix, name))
			if err != nil {
				return err
			}
			s.defs["#/"+prefix+"/"+name] = child
		}
	}
	if d.Items != nil {
		child, err := parseSchema(d.Items, path.with("items"))
		if err != nil {
			return err
		}
		s.items = child
	}
	names, raws, err := orderedMembers(d.Properties)
	if err != nil {
		return fmt.Errorf("In context=%s, 'properties' is not an object: %w", path, err) //nolint:staticcheck // the provider's wording
	}
	for i, name := range names {
		child, err := parseSchema(raws[i], path.with("properties", name))
		if err != nil {
			return err
		}
		s.properties = append(s.properties, property{name, child})
	}
	return nil
}

// orUnbounded turns an absent maximum into -1.
func orUnbounded(n *int) int {
	if n == nil {
		return -1
	}
	return *n
}

// parseTypes reads "type", a name or a list of names.
func parseTypes(raw json.RawMessage, path schemaPath) ([]string, error) {
	if raw == nil {
		return nil, nil
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}, checkTypes([]string{one}, path)
	}
	var list []string
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("In context=%s, 'type' is neither a name nor a list of names", path) //nolint:staticcheck // the provider's wording
	}
	return list, checkTypes(list, path)
}

// checkTypes refuses unknown type names.
func checkTypes(names []string, path schemaPath) error {
	known := []string{"object", "array", "string", "number", "integer", "boolean", "null"}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return fmt.Errorf("In context=%s, '%s' is not valid under any of the given schemas", path, name) //nolint:staticcheck // the provider's wording
		}
	}
	return nil
}

// parsePattern compiles a pattern for generation.
func parsePattern(pattern string, path schemaPath) (*syntax.Regexp, error) {
	if pattern == "" {
		return nil, nil //nolint:nilnil // no pattern is no error
	}
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("In context=%s, 'pattern' is not a supported regular expression: %w", path, err) //nolint:staticcheck // the provider's wording
	}
	return re, nil
}

// orderedMembers reads the members of an object in the order of the document.
func orderedMembers(raw json.RawMessage) (names []string, values []json.RawMessage, err error) {
	if raw == nil {
		return nil, nil, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if _, err := decoder.Token(); err != nil {
		return nil, nil, err
	}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, nil, err
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, nil, err
		}
		if name, ok := token.(string); ok {
			names, values = append(names, name), append(values, value)
		}
	}
	return names, values, nil
}

// schemaPath is the way to a place in a schema.
type schemaPath []string

// with extends a path without touching the original.
func (p schemaPath) with(steps ...string) schemaPath { return slices.Concat(p, steps) }

// String writes the path the way the provider does: a Python tuple.
func (p schemaPath) String() string {
	quoted := make([]string, 0, len(p))
	for _, step := range p {
		quoted = append(quoted, "'"+step+"'")
	}
	if len(quoted) == 1 {
		return "(" + quoted[0] + ",)"
	}
	return "(" + strings.Join(quoted, ", ") + ")"
}

// has reports whether the schema allows a type.
func (s *schema) has(name string) bool { return slices.Contains(s.types, name) }

// isObject reports whether the schema describes an object.
func (s *schema) isObject() bool {
	return s.has("object") || (len(s.types) == 0 && s.properties != nil)
}
