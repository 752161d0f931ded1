// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// parseCall reads the body of a request into a call. The result is never nil:
// a call whose model is known has it set even when something else is wrong, as
// the provider counts an invalid request too.
func parseCall(at endpoint, body []byte, s *settings) (*call, *apiError) {
	c := &call{endpoint: at, choices: 1, hash: hashBytes(body)}
	if at == endpointChat {
		return c, parseChat(c, body, s)
	}
	return c, parseResponses(c, body, s)
}

// useModel looks the model up; everything else is counted by its rules.
func (c *call) useModel(name string, s *settings) *apiError {
	if name == "" {
		return invalid("model", "missing_required_parameter", "Missing required parameter: 'model'.")
	}
	c.modelName, c.model = name, s.model(name)
	if c.model == nil {
		return errUnknownModel(name)
	}
	return nil
}

// decode decodes a body and looks up its model, which model points to. A body that cannot be decoded still counts for
// its model.
func (c *call) decode(body []byte, into any, model *string, s *settings) *apiError {
	decodeErr := decodeStrict(body, into)
	modelErr := c.useModel(*model, s)
	if decodeErr != nil {
		return decodeErr
	}
	return modelErr
}

// decodeStrict decodes a request and converts errors to the provider's.
func decodeStrict(body []byte, into any) *apiError {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		return nil
	}
	if wrongType, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return invalid(wrongType.Field, "invalid_type", "Invalid type for '%s': expected %s, but got %s instead.",
			wrongType.Field, article(kindName(wrongType)), article(wrongType.Value))
	}
	const unknown = `json: unknown field "`
	if name, ok := strings.CutPrefix(err.Error(), unknown); ok {
		name = strings.TrimSuffix(name, `"`)
		return invalid(name, "unknown_parameter", "Unknown parameter: '%s'.", name)
	}
	return errNotJSON()
}

// kindName is the JSON name of the type a field should have had.
func kindName(e *json.UnmarshalTypeError) string {
	switch kind := e.Type.Kind().String(); {
	case strings.HasPrefix(kind, "int"):
		return "integer"
	case strings.HasPrefix(kind, "float"):
		return "decimal"
	case kind == "bool":
		return "boolean"
	case kind == "slice":
		return "array"
	case kind == "struct", kind == "map":
		return "object"
	default:
		return kind
	}
}

// article puts "a" or "an" before a word.
func article(word string) string {
	word, _, _ = strings.Cut(word, " ")
	if strings.ContainsRune("aeiou", rune(word[0])) {
		return "an " + word
	}
	return "a " + word
}

// unsimulated refuses the parameters that are not simulated, rather than
// ignore them.
func unsimulated(fields map[string]json.RawMessage) *apiError {
	for name, raw := range fields {
		if isSet(raw) {
			return invalid(name, "unsupported_parameter", "Unsupported parameter: '%s' is not part of this simulation.", name)
		}
	}
	return nil
}

// isSet reports whether a raw field holds more than null, false or an empty
// list.
func isSet(raw json.RawMessage) bool {
	switch string(raw) {
	case "", "null", "false", "[]", "{}":
		return false
	}
	return true
}

// message is a message of either endpoint.
type message struct {
	Role    string         `json:"role"`
	Content messageContent `json:"content"`
}

// add adds a message to the prompt. param names the message in errors.
func (c *call) add(m *message, param string) *apiError {
	r, apiErr := parseRole(m.Role, param+".role")
	if apiErr != nil {
		return apiErr
	}
	parts, apiErr := m.Content.toParts(c.endpoint, param+".content")
	if apiErr != nil {
		return apiErr
	}
	c.addMessage(r, parts)
	return nil
}

// messageContent is a message's content: a string, or a list of parts.
type messageContent struct {
	text   string
	isText bool
	items  []contentItem
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *messageContent) UnmarshalJSON(data []byte) error {
	switch {
	case len(data) > 0 && data[0] == '"':
		m.isText = true
		return json.Unmarshal(data, &m.text)
	case string(data) == "null":
		m.isText = true
		return nil
	default:
		return json.Unmarshal(data, &m.items)
	}
}

// contentItem is one part of a message, of either endpoint.
type contentItem struct {
	Type string `json:"type"`
	Text string `json:"text"`
	// ImageURL is a string in responses and an object in chat completions.
	ImageURL json.RawMessage `json:"image_url"`
	Detail   string          `json:"detail"`
	Refusal  string          `json:"refusal"`
}

// toParts converts a message's content. param names the content in errors.
func (m *messageContent) toParts(at endpoint, param string) ([]part, *apiError) {
	if m.isText {
		return []part{{text: m.text}}, nil
	}
	if len(m.items) == 0 {
		return nil, invalid(param, "empty_array", "Invalid '%s': empty array. Expected an array with minimum length 1, but got an empty array instead.", param)
	}
	parts := make([]part, 0, len(m.items))
	for i := range m.items {
		p, apiErr := m.items[i].toPart(at, fmt.Sprintf("%s[%d]", param, i))
		if apiErr != nil {
			return nil, apiErr
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// toPart converts one content item.
func (item *contentItem) toPart(at endpoint, param string) (part, *apiError) {
	textType, imageType := "input_text", "input_image"
	if at == endpointChat {
		textType, imageType = "text", "image_url"
	}
	switch item.Type {
	case textType, "output_text":
		return part{text: item.Text}, nil
	case "refusal":
		return part{text: item.Refusal}, nil
	case imageType:
		rawURL, detail, apiErr := item.imageAddress(at, param+".image_url")
		if apiErr != nil {
			return part{}, apiErr
		}
		ref, apiErr := newImageRef(rawURL, detail, param+".image_url")
		return part{image: ref}, apiErr
	default:
		return part{}, invalid(param, "invalid_value", "Invalid value: '%s'. Supported values are: '%s' and '%s'.", item.Type, textType, imageType)
	}
}

// imageAddress reads the URL and the level of detail of an image part.
func (item *contentItem) imageAddress(at endpoint, param string) (rawURL, detail string, apiErr *apiError) {
	if len(item.ImageURL) == 0 {
		return "", "", invalid(param, "missing_required_parameter", "Missing required parameter: '%s'.", param)
	}
	if at == endpointChat {
		var object struct {
			URL    string `json:"url"`
			Detail string `json:"detail"`
		}
		if err := json.Unmarshal(item.ImageURL, &object); err != nil {
			return "", "", invalid(param, "invalid_type", "Invalid type for '%s': expected an object.", param)
		}
		return object.URL, object.Detail, nil
	}
	if err := json.Unmarshal(item.ImageURL, &rawURL); err != nil {
		return "", "", invalid(param, "invalid_type", "Invalid type for '%s': expected an image URL.", param)
	}
	return rawURL, item.Detail, nil
}

// parseRole maps a role's name.
func parseRole(name, param string) (role, *apiError) {
	switch name {
	case "user":
		return roleUser, nil
	case "system", "developer":
		return roleInstructions, nil
	case "assistant":
		return roleAssistant, nil
	default:
		return 0, invalid(param, "invalid_value", "Invalid value: '%s'. Supported values are: 'system', 'assistant', 'user', and 'developer'.", name)
	}
}

// setSampling checks the service tier, and temperature and top_p where the model fixes them.
func (c *call) setSampling(tier string, temperature, topP *float64) (apiErr *apiError) {
	if c.serviceTier, apiErr = checkTier(tier); apiErr != nil {
		return apiErr
	}
	for _, p := range []struct {
		name  string
		value *float64
		high  float64
	}{{"temperature", temperature, 2}, {"top_p", topP, 1}} {
		switch {
		case p.value == nil:
		case *p.value < 0 || *p.value > p.high:
			return invalid(p.name, "decimal_out_of_range", "Invalid '%s': decimal out of range. Expected a value between 0 and %g, but got %g instead.",
				p.name, p.high, *p.value)
		case c.model.fixedSampling && *p.value != 1:
			return invalid(p.name, "unsupported_value", "Unsupported value: '%s' does not support %g with this model. Only the default (1) value is supported.",
				p.name, *p.value)
		}
	}
	return nil
}

// positive checks an optional whole number against its minimum.
func positive(name string, value *int64, minimum int64) (int64, *apiError) {
	switch {
	case value == nil:
		return 0, nil
	case *value < minimum:
		return 0, invalid(name, "integer_below_min_value",
			"Invalid '%s': integer below minimum value. Expected a value >= %d, but got %d instead.", name, minimum, *value)
	case *value > maxPerMinute:
		return 0, invalid(name, "integer_above_max_value",
			"Invalid '%s': integer above maximum value. Expected a value <= %d, but got %d instead.", name, int64(maxPerMinute), *value)
	}
	return *value, nil
}

// checkTier checks the service tier; auto and absent mean default.
func checkTier(tier string) (string, *apiError) {
	switch tier {
	case "", "auto", "default":
		return "default", nil
	case "flex", "priority", "scale", "fast":
		return tier, nil
	default:
		return "", invalid("service_tier", "invalid_value", "Invalid value: '%s'. Supported values are: 'auto', 'default', 'flex', 'fast', 'priority', and 'scale'.", tier)
	}
}
