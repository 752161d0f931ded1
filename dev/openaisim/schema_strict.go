// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"fmt"
	"slices"
)

// The provider's bounds on a strict schema.
const (
	maxSchemaProperties = 5000
	maxSchemaDepth      = 10
	maxSchemaEnumValues = 1000
	maxSchemaChars      = 120_000
)

// strictCheck checks a schema against the rules of strict mode.
type strictCheck struct {
	properties, enumValues, chars int
}

// checkStrict returns the first rule of strict mode that a schema breaks, in the
// provider's wording.
func checkStrict(root *schema) error {
	if !slices.Equal(root.types, []string{"object"}) {
		got := "None"
		if len(root.types) > 0 {
			got = root.types[0]
		}
		return fmt.Errorf("schema must be a JSON Schema of 'type: \"object\"', got 'type: \"%s\"'.", got) //nolint:revive,staticcheck // the provider's wording
	}
	if root.anyOf != nil {
		return fmt.Errorf("In context=(), 'anyOf' is not permitted at the root.") //nolint:revive,staticcheck,perfsprint // the provider's wording
	}
	var check strictCheck
	if err := check.walk(root, nil, 1); err != nil {
		return err
	}
	switch {
	case check.properties > maxSchemaProperties:
		return fmt.Errorf("the schema has %d properties; at most %d are allowed", check.properties, maxSchemaProperties)
	case check.enumValues > maxSchemaEnumValues:
		return fmt.Errorf("the schema has %d enum values; at most %d are allowed", check.enumValues, maxSchemaEnumValues)
	case check.chars > maxSchemaChars:
		return fmt.Errorf("the names and enum values of the schema have %d characters; at most %d are allowed", check.chars, maxSchemaChars)
	}
	return nil
}

//nolint:revive,staticcheck // the messages are the provider's wording
func (c *strictCheck) walk(s *schema, path schemaPath, depth int) error {
	if depth > maxSchemaDepth {
		return fmt.Errorf("In context=%s, the schema is nested deeper than %d levels.", path, maxSchemaDepth)
	}
	if s.unsupported != "" {
		return fmt.Errorf("In context=%s, '%s' is not permitted.", path, s.unsupported)
	}
	if len(s.types) == 0 && s.ref == "" && s.anyOf == nil && s.enum == nil && s.constant == nil {
		return fmt.Errorf("In context=%s, schema must have a 'type' key.", path)
	}
	c.enumValues += len(s.enum)
	for _, v := range s.enum {
		c.chars += len(v)
	}
	if s.isObject() {
		if err := c.object(s, path, depth); err != nil {
			return err
		}
	}
	if s.has("array") && s.items == nil {
		return fmt.Errorf("In context=%s, array schema missing items.", path)
	}
	if s.items != nil {
		if err := c.walk(s.items, path.with("items"), depth+1); err != nil {
			return err
		}
	}
	for i, child := range s.anyOf {
		if err := c.walk(child, path.with("anyOf", fmt.Sprint(i)), depth); err != nil { //nolint:perfsprint // an index in a rare path
			return err
		}
	}
	for name, child := range s.defs {
		if err := c.walk(child, path.with(name), depth); err != nil {
			return err
		}
	}
	return nil
}

//nolint:revive,staticcheck // the messages are the provider's wording
func (c *strictCheck) object(s *schema, path schemaPath, depth int) error {
	if !s.closed {
		return fmt.Errorf("In context=%s, 'additionalProperties' is required to be supplied and to be false.", path)
	}
	const everyKey = "In context=%s, 'required' is required to be supplied and to be an array including every key in properties. "
	for _, p := range s.properties {
		if !slices.Contains(s.required, p.name) {
			return fmt.Errorf(everyKey+"Missing '%s'.", path, p.name)
		}
	}
	for _, name := range s.required {
		if !slices.ContainsFunc(s.properties, func(p property) bool { return p.name == name }) {
			return fmt.Errorf(everyKey+"Extra required key '%s' supplied.", path, name)
		}
	}
	for _, p := range s.properties {
		c.properties++
		c.chars += len(p.name)
		if err := c.walk(p.schema, path.with("properties", p.name), depth+1); err != nil {
			return err
		}
	}
	return nil
}
