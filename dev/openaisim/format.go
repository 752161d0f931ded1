// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"encoding/json"
	"hash/maphash"
	"regexp"
	"sync"
)

// outputFormat is the structured output a request asks for. Text output is a
// nil *outputFormat.
type outputFormat struct {
	// raw is what the model reads of it, and pays for.
	raw json.RawMessage
	// schema is nil for json_object: any object will do.
	schema *schema
}

// jsonSchemaFormat is the "json_schema" of either endpoint.
type jsonSchemaFormat struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Schema      json.RawMessage `json:"schema"`
	Strict      *bool           `json:"strict"`
}

// formatName is what a schema may be called.
var formatName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

// parseResponsesFormat reads text.format of the responses endpoint.
func parseResponsesFormat(raw json.RawMessage) (*outputFormat, *apiError) {
	if !isSet(raw) {
		return nil, nil
	}
	var f struct {
		Type string `json:"type"`
		jsonSchemaFormat
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, invalid("text.format", "invalid_type", "Invalid type for 'text.format': expected an object.")
	}
	return f.resolve(f.Type, "text.format", "text.format.schema", "invalid_json_schema")
}

// parseChatFormat reads response_format of the chat completions endpoint.
func parseChatFormat(raw json.RawMessage) (*outputFormat, *apiError) {
	if !isSet(raw) {
		return nil, nil
	}
	var f struct {
		Type       string           `json:"type"`
		JSONSchema jsonSchemaFormat `json:"json_schema"`
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, invalid("response_format", "invalid_type", "Invalid type for 'response_format': expected an object.")
	}
	return f.JSONSchema.resolve(f.Type, "response_format", "response_format", "")
}

// resolve turns a format into its parsed form. The parameter names and the
// code differ between the endpoints.
func (f *jsonSchemaFormat) resolve(kind, param, schemaParam, schemaCode string) (*outputFormat, *apiError) {
	switch kind {
	case "text":
		return nil, nil
	case "json_object":
		return &outputFormat{}, nil
	case "json_schema":
	default:
		return nil, invalid(param+".type", "invalid_value",
			"Invalid value: '%s'. Supported values are: 'json_object', 'json_schema', and 'text'.", kind)
	}
	if !formatName.MatchString(f.Name) {
		return nil, invalid(param+".name", "invalid_value",
			"Invalid '%s.name': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.", param)
	}
	if !isSet(f.Schema) {
		return nil, invalid(schemaParam, "missing_required_parameter", "Missing required parameter: '%s'.", schemaParam)
	}
	parsed, err := compileSchema(f.Schema, f.Strict != nil && *f.Strict)
	if err != nil {
		return nil, invalid(schemaParam, schemaCode, "Invalid schema for response_format '%s': %s", f.Name, err)
	}
	return &outputFormat{raw: f.Schema, schema: parsed}, nil
}

// compiledSchemas keeps the schemas already seen: a client sends the same few
// with every request.
var compiledSchemas = schemaCache{seed: maphash.MakeSeed(), entries: map[schemaCacheKey]compiledSchema{}}

const schemaCacheEntries = 128

type schemaCacheKey struct {
	hash   uint64
	strict bool
}

type compiledSchema struct {
	schema *schema
	err    error
}

// schemaCache is a bounded map from schema text to parsed schema. Parsed
// schemas are never changed, so calls share them.
type schemaCache struct {
	seed    maphash.Seed
	mu      sync.RWMutex
	entries map[schemaCacheKey]compiledSchema
}

// compileSchema parses and checks a schema, or recalls having done so.
func compileSchema(raw json.RawMessage, strict bool) (*schema, error) {
	c := &compiledSchemas
	key := schemaCacheKey{maphash.Bytes(c.seed, raw), strict}
	c.mu.RLock()
	known, ok := c.entries[key]
	c.mu.RUnlock()
	if ok {
		return known.schema, known.err
	}
	parsed, err := parseSchema(raw, nil)
	if err == nil && strict {
		err = checkStrict(parsed)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= schemaCacheEntries {
		clear(c.entries)
	}
	c.entries[key] = compiledSchema{parsed, err}
	return parsed, err
}
