// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// TestErrorBodies checks the replies that carry no answer, to the letter.
func TestErrorBodies(t *testing.T) {
	const (
		ok     = `"messages":[{"role":"user","content":"Hi"}]`
		format = `{"model":"gpt-4o",` + ok + `,"response_format":{"type":"json_schema","json_schema":{"name":"out","strict":true,"schema":`
	)
	for _, tc := range []struct {
		name         string
		method, path string
		auth         string
		body         string
		wantStatus   int
		wantBody     string
		wantStat     string
	}{
		{
			"no key", http.MethodPost, "/v1/responses", " ", `{}`, http.StatusUnauthorized, errorBody(
				"You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "+
					"(i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're accessing the API "+
					"from your browser and are prompted for a username and password. You can obtain an API key from "+
					"https://platform.openai.com/account/api-keys.", "invalid_request_error", "", ""), "401 missing_api_key",
		},
		{
			"wrong key", http.MethodPost, "/v1/responses", "Bearer XX-XG6GW0123456789wlmi", `{}`, http.StatusUnauthorized, errorBody(
				"Incorrect API key provided: XX-XG6GW**********wlmi. You can find your API key at "+
					"https://platform.openai.com/account/api-keys.", "invalid_request_error", "", "invalid_api_key"), "401 invalid_api_key",
		},
		{
			"revoked key", http.MethodGet, "/v1/models", "Bearer sk-revoked-0123", ``, http.StatusUnauthorized, errorBody(
				"Incorrect API key provided: sk-revok***0123. You can find your API key at "+
					"https://platform.openai.com/account/api-keys.", "invalid_request_error", "", "invalid_api_key"), "401 invalid_api_key",
		},
		{
			"unknown model", http.MethodPost, "/v1/chat/completions", "", `{"model":"gpt-99",` + ok + `}`, http.StatusNotFound, errorBody(
				"The model `gpt-99` does not exist or you do not have access to it.", "invalid_request_error", "", "model_not_found"),
			"404 model_not_found",
		},
		{
			"unknown URL", http.MethodGet, "/v1/nothing", "", ``, http.StatusNotFound,
			errorBody("Invalid URL (GET /v1/nothing)", "invalid_request_error", "", ""), "404 unknown_url",
		},
		{
			"wrong method", http.MethodGet, "/v1/responses", "", ``, http.StatusMethodNotAllowed,
			errorBody("Not allowed to GET on /v1/responses (HINT: Perhaps you meant to use a different HTTP method?)",
				"invalid_request_error", "", ""), "405 method",
		},
		{
			"not JSON", http.MethodPost, "/v1/responses", "", `{`, http.StatusBadRequest, errorBody(
				"We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP "+
					"library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. If you have trouble "+
					"figuring out how to fix this, please contact us through our help center at help.openai.com.)",
				"invalid_request_error", "", ""), "400",
		},
		{
			"no model", http.MethodPost, "/v1/responses", "", `{"input":"Hi"}`, http.StatusBadRequest,
			errorBody("Missing required parameter: 'model'.", "invalid_request_error", "model", "missing_required_parameter"),
			"400 missing_required_parameter",
		},
		{
			"no input", http.MethodPost, "/v1/responses", "", `{"model":"gpt-5.4"}`, http.StatusBadRequest,
			errorBody("Missing required parameter: 'input'.", "invalid_request_error", "input", "missing_required_parameter"),
			"400 missing_required_parameter",
		},
		{
			"unknown parameter", http.MethodPost, "/v1/responses", "", `{"model":"gpt-5.4","input":"Hi","max_tokens":9}`,
			http.StatusBadRequest,
			errorBody("Unknown parameter: 'max_tokens'.", "invalid_request_error", "max_tokens", "unknown_parameter"), "400 unknown_parameter",
		},
		{
			"max_tokens on a reasoning model", http.MethodPost, "/v1/chat/completions", "", `{"model":"gpt-5.4","max_tokens":9,` + ok + `}`,
			http.StatusBadRequest, errorBody(
				"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
				"invalid_request_error", "max_tokens", "unsupported_parameter"), "400 unsupported_parameter",
		},
		{
			"temperature on a reasoning model", http.MethodPost, "/v1/chat/completions", "", `{"model":"gpt-5","temperature":0.2,` + ok + `}`,
			http.StatusBadRequest, errorBody(
				"Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is supported.",
				"invalid_request_error", "temperature", "unsupported_value"), "400 unsupported_value",
		},
		{
			"output limit below the minimum", http.MethodPost, "/v1/responses", "", `{"model":"gpt-5.4","input":"Hi","max_output_tokens":1}`,
			http.StatusBadRequest, errorBody(
				"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got 1 instead.",
				"invalid_request_error", "max_output_tokens", "integer_below_min_value"), "400 integer_below_min_value",
		},
		{
			"wrong type", http.MethodPost, "/v1/responses", "", `{"model":"gpt-5.4","input":"Hi","max_output_tokens":"many"}`,
			http.StatusBadRequest, errorBody(
				"Invalid type for 'max_output_tokens': expected an integer, but got a string instead.",
				"invalid_request_error", "max_output_tokens", "invalid_type"), "400 invalid_type",
		},
		{
			"not simulated", http.MethodPost, "/v1/responses", "", `{"model":"gpt-5.4","input":"Hi","stream":true}`,
			http.StatusBadRequest, errorBody(
				"Unsupported parameter: 'stream' is not part of this simulation.",
				"invalid_request_error", "stream", "unsupported_parameter"), "400 unsupported_parameter",
		},
		{
			"a streamed chat", http.MethodPost, "/v1/chat/completions", "",
			`{"model":"gpt-4o",` + ok + `,"stream":true}`, http.StatusBadRequest, errorBody(
				"Unsupported parameter: 'stream' is not part of this simulation.",
				"invalid_request_error", "stream", "unsupported_parameter"), "400 unsupported_parameter",
		},
		{
			"image URL that is none", http.MethodPost, "/v1/responses", "",
			`{"model":"gpt-5.4","input":[{"role":"user","content":[{"type":"input_image","image_url":"somewhere"}]}]}`,
			http.StatusBadRequest, errorBody(
				"Invalid 'input[0].content[0].image_url'. Expected a valid URL, but got a value with an invalid format.",
				"invalid_request_error", "input[0].content[0].image_url", "invalid_value"), "400 invalid_value",
		},
		{
			"image that is none", http.MethodPost, "/v1/chat/completions", "",
			`{"model":"gpt-4o","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}`,
			http.StatusBadRequest, errorBody(
				"You uploaded an unsupported image. Please make sure your image has of one the following formats: ['png', 'jpeg', 'gif', 'webp'].",
				"invalid_request_error", "", "invalid_image_format"), "400 invalid_image_format",
		},
		{
			"schema that is open", http.MethodPost, "/v1/chat/completions", "", format + `{"type":"object","properties":{}}}}}`,
			http.StatusBadRequest, errorBody(
				"Invalid schema for response_format 'out': In context=(), 'additionalProperties' is required to be supplied and to be false.",
				"invalid_request_error", "response_format", ""), "400",
		},
		{
			"schema with an optional property", http.MethodPost, "/v1/responses", "",
			`{"model":"gpt-5.4","input":"Hi","text":{"format":{"type":"json_schema","name":"out","strict":true,"schema":` +
				`{"type":"object","properties":{"a":{"type":"object","properties":{"b":{"type":"string"}},"required":[],"additionalProperties":false}},` +
				`"required":["a"],"additionalProperties":false}}}}`,
			http.StatusBadRequest, errorBody(
				"Invalid schema for response_format 'out': In context=('properties', 'a'), 'required' is required to be supplied and to be an "+
					"array including every key in properties. Missing 'b'.",
				"invalid_request_error", "text.format.schema", "invalid_json_schema"), "400 invalid_json_schema",
		},
		{
			"schema that is no object", http.MethodPost, "/v1/chat/completions", "", format + `{"type":"array","items":{"type":"string"}}}}}`,
			http.StatusBadRequest, errorBody(
				`Invalid schema for response_format 'out': schema must be a JSON Schema of 'type: "object"', got 'type: "array"'.`,
				"invalid_request_error", "response_format", ""), "400",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, func(c *Config) { c.Keys = append(c.Keys, Key{Key: "sk-revoked-0123", Revoked: true}) })
			extra := []string{}
			if tc.auth != "" {
				extra = append(extra, "Authorization", strings.TrimSpace(tc.auth))
			}
			got := f.send(tc.method, tc.path, tc.body, extra...)
			if got.status != tc.wantStatus || got.body != tc.wantBody {
				t.Errorf("got %d %s\nwant %d %s", got.status, got.body, tc.wantStatus, tc.wantBody)
			}
			if !strings.HasPrefix(got.header.Get("X-Request-Id"), "req_") {
				t.Errorf("x-request-id %q, want req_…", got.header.Get("X-Request-Id"))
			}
			stats := f.Stats()
			if stats.Errors[tc.wantStat] != 1 || stats.Admitted != 0 {
				t.Errorf("counted %v with %d admitted, want one %q", stats.Errors, stats.Admitted, tc.wantStat)
			}
		})
	}
}

// TestStrictSchemaRules names one schema for each rule that strict mode has.
func TestStrictSchemaRules(t *testing.T) {
	object := func(properties string) string {
		return `{"type":"object","additionalProperties":false,"required":["a"],"properties":{"a":` + properties + `}}`
	}
	nested := `{"type":"string"}`
	for range maxSchemaDepth {
		nested = object(nested)
	}
	values := make([]string, maxSchemaEnumValues+1)
	for i := range values {
		values[i] = `"v"`
	}
	for _, tc := range []struct{ name, schema, want string }{
		{"allowed", object(`{"type":["string","null"],"enum":["x",null]}`), ""},
		{"extra required", `{"type":"object","additionalProperties":false,"required":["a"],"properties":{}}`, "Extra required key 'a' supplied."},
		{"allOf", object(`{"allOf":[{"type":"string"}]}`), "In context=('properties', 'a'), 'allOf' is not permitted."},
		{"oneOf", object(`{"oneOf":[{"type":"string"}]}`), "'oneOf' is not permitted."},
		{"no type", object(`{}`), "schema must have a 'type' key."},
		{"unknown type", object(`{"type":"text"}`), "'text' is not valid under any of the given schemas"},
		{"no items", object(`{"type":"array"}`), "array schema missing items."},
		{"inside items", object(`{"type":"array","items":{"type":"object"}}`), "In context=('properties', 'a', 'items'), 'additionalProperties'"},
		{"inside anyOf", object(`{"anyOf":[{"type":"null"},{"not":{}}]}`), "In context=('properties', 'a', 'anyOf', '1'), 'not'"},
		{"too deep", nested, "nested deeper than 10 levels"},
		{"too many values", object(`{"type":"string","enum":[` + strings.Join(values, ",") + `]}`), "1001 enum values"},
		{"bad pattern", object(`{"type":"string","pattern":"("}`), "not a supported regular expression"},
		{"no schema at all", `7`, "the schema is not valid"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := compileSchema(json.RawMessage(tc.schema), true)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("unexpected error: %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error %v, want …%s", err, tc.want)
			}
		})
	}
}

// TestInvalidRequestsCount checks that a request the provider cannot serve is
// not free.
func TestInvalidRequestsCount(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.RequestsPerMinute = 2 })
	for i, want := range []int{http.StatusBadRequest, http.StatusBadRequest, http.StatusTooManyRequests} {
		if got := f.send(http.MethodPost, "/v1/responses", `{"model":"gpt-5.4"}`); got.status != want {
			t.Errorf("request %d: %d, want %d", i, got.status, want)
		}
	}
}
