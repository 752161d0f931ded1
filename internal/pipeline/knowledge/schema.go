// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package knowledge

// visionSchema builds the strict JSON schema of the vision stage's answer. Each class with kinds is a branch of
// its own, so that a class cannot be combined with the kind of another; the schema also gives the model the
// taxonomy, which the prompt therefore need not repeat.
func visionSchema(majors []Major, unclassifiable string, tags []string) map[string]any {
	var branches []any
	var plain []any
	for _, major := range majors {
		if len(major.Middles) == 0 {
			plain = append(plain, major.Name)
			continue
		}
		middles := make([]any, len(major.Middles))
		for i, middle := range major.Middles {
			middles[i] = middle.Name
		}
		branches = append(branches, object(
			property{"major_category", enum(major.Name)},
			property{"middle_category", enum(middles...)},
			property{"minor_category", text()},
		))
	}
	plain = append(plain, unclassifiable)
	branches = append(branches, object(
		property{"major_category", enum(plain...)},
		property{"minor_category", text()},
	))
	tagValues := make([]any, len(tags))
	for i, tag := range tags {
		tagValues[i] = tag
	}
	return object(
		property{"classification", map[string]any{"anyOf": branches}},
		property{"situation_tags", map[string]any{"type": "array", "items": enum(tagValues...)}},
	)
}

// property is a named part of an object schema.
type property struct {
	name   string
	schema map[string]any
}

// object is a schema as strict mode wants it: every property required, no others allowed.
func object(properties ...property) map[string]any {
	named := make(map[string]any, len(properties))
	required := make([]any, len(properties))
	for i, p := range properties {
		named[p.name] = p.schema
		required[i] = p.name
	}
	return map[string]any{"type": "object", "properties": named, "required": required, "additionalProperties": false}
}

func enum(values ...any) map[string]any {
	return map[string]any{"type": "string", "enum": values}
}

func text() map[string]any { return map[string]any{"type": "string"} }
