// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Schema is a JSON Schema (2020-12) as OpenAPI 3.1 uses it.
type Schema struct {
	Ref         string             `json:"$ref,omitempty"`
	Type        any                `json:"type,omitempty"` // a string, or a list of strings where null is allowed
	Description string             `json:"description,omitempty"`
	Format      string             `json:"format,omitempty"`
	Pattern     string             `json:"pattern,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	MinLength   *int               `json:"minLength,omitempty"`
	MaxLength   *int               `json:"maxLength,omitempty"`
	Minimum     *int               `json:"minimum,omitempty"`
	Maximum     *int               `json:"maximum,omitempty"`
	Items       *Schema            `json:"items,omitempty"`
	AnyOf       []*Schema          `json:"anyOf,omitempty"`
	Properties  map[string]*Schema `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
}

const componentPrefix = "#/components/schemas/"

// schemas derives schemas from Go types and collects those of structs by name.
type schemas struct {
	components map[string]*Schema
}

var (
	timeType = reflect.TypeFor[time.Time]()
	rawType  = reflect.TypeFor[json.RawMessage]()
)

// of returns the schema of a type: a reference for a struct.
func (c *schemas) of(t reflect.Type) (*Schema, error) {
	switch t {
	case timeType:
		return &Schema{Type: "string", Format: "date-time"}, nil
	case rawType:
		return &Schema{}, nil
	}
	switch t.Kind() {
	case reflect.String:
		return &Schema{Type: "string"}, nil
	case reflect.Bool:
		return &Schema{Type: "boolean"}, nil
	case reflect.Int, reflect.Int32, reflect.Int64:
		return &Schema{Type: "integer"}, nil
	case reflect.Slice:
		items, err := c.of(t.Elem())
		if err != nil {
			return nil, err
		}
		return &Schema{Type: "array", Items: items}, nil
	case reflect.Pointer:
		elem, err := c.of(t.Elem())
		if err != nil {
			return nil, err
		}
		return elem.orNull(), nil
	case reflect.Struct:
		return c.ofStruct(t)
	default:
		return nil, fmt.Errorf("type %s has no schema", t)
	}
}

// ofStruct adds a struct to the components and returns a reference to it.
func (c *schemas) ofStruct(t reflect.Type) (*Schema, error) {
	ref := &Schema{Ref: componentPrefix + t.Name()}
	if _, known := c.components[t.Name()]; known {
		return ref, nil
	}
	object := &Schema{Type: "object", Properties: map[string]*Schema{}}
	c.components[t.Name()] = object
	for field := range fields(t) {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		property, err := c.of(field.Type)
		if err != nil {
			return nil, fmt.Errorf("field %s.%s: %w", t.Name(), field.Name, err)
		}
		if property, err = property.with(field.Tag); err != nil {
			return nil, fmt.Errorf("field %s.%s: %w", t.Name(), field.Name, err)
		}
		object.Properties[name] = property
		if !strings.Contains(options, "omit") {
			object.Required = append(object.Required, name)
		}
	}
	return ref, nil
}

// fields are the fields of a struct that have a JSON name.
func fields(t reflect.Type) func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for f := range t.Fields() {
			if f.Tag.Get("json") != "" && !yield(f) {
				return
			}
		}
	}
}

// orNull returns the schema with null allowed too.
func (s *Schema) orNull() *Schema {
	if kind, ok := s.Type.(string); ok {
		s.Type = []string{kind, "null"}
		return s
	}
	return &Schema{AnyOf: []*Schema{s, {Type: "null"}}}
}

// with adds the keywords in a field's tags. A reference can have keywords of its own in OpenAPI 3.1.
func (s *Schema) with(tag reflect.StructTag) (*Schema, error) {
	s.Description, s.Format, s.Pattern = tag.Get("doc"), cmp.Or(tag.Get("format"), s.Format), tag.Get("pattern")
	if enum := tag.Get("enum"); enum != "" {
		s.Enum = strings.Split(enum, ",")
	}
	for key, field := range map[string]**int{
		"minLength": &s.MinLength, "maxLength": &s.MaxLength, "minimum": &s.Minimum, "maximum": &s.Maximum,
	} {
		value, ok := tag.Lookup(key)
		if !ok {
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil {
			return nil, fmt.Errorf("tag %s: %w", key, err)
		}
		*field = &n
	}
	if tag.Get("nullable") == "true" {
		return s.orNull(), nil
	}
	return s, nil
}
