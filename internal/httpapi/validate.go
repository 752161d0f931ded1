// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// The bounds of a request. Those of the fields are the ScanRequest's own, in characters.
const (
	maxBodyBytes          = 64 << 10
	maxImageURL           = 2048
	maxUserInput          = 4000
	maxModel              = 128
	listedSupportedModels = 64
)

// modelPattern is the pattern of spec.model.
var modelPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]*$`)

// decodeSubmit reads a SubmitRequest from a request's body. Unknown fields are ignored, so that clients may send those of
// a later version.
func decodeSubmit(w http.ResponseWriter, r *http.Request) (*scanapi.SubmitRequest, error) {
	// A page of another origin can send any other type without the preflight that CORS relies on.
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, problemf(http.StatusUnsupportedMediaType, scanapi.CodeUnsupportedMediaType,
			"The body must be JSON: set Content-Type to application/json.")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if err != nil {
		return nil, bodyProblem(err)
	}
	if !utf8.Valid(body) {
		return nil, invalidBody("encoding", "must be UTF-8")
	}
	var request *scanapi.SubmitRequest
	decoder := json.NewDecoder(bytes.NewReader(body))
	if err := decoder.Decode(&request); err != nil {
		return nil, jsonProblem(err)
	}
	if request == nil {
		return nil, invalidBody("type", "must be a JSON object")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, invalidBody("format", "must be one JSON object with nothing after it")
	}
	return request, nil
}

func invalidBody(rule, detail string) *problemError {
	return invalid(scanapi.CodeBodyInvalid, scanapi.FieldError{Field: "body", Rule: rule, Detail: detail})
}

// bodyProblem is the problem of a body that could not be read.
func bodyProblem(err error) error {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return problemf(http.StatusRequestEntityTooLarge, scanapi.CodeBodyTooLarge,
			"The body is larger than %d bytes.", tooLarge.Limit)
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return problemf(http.StatusRequestTimeout, scanapi.CodeBodyTimeout, "The body took too long to arrive.")
	}
	p := invalidBody("complete", "ended early")
	p.cause = err
	return p
}

// fieldCodes are the codes of an invalid field.
var fieldCodes = map[string]string{
	"image_url":  scanapi.CodeImageURLInvalid,
	"user_input": scanapi.CodeUserInputInvalid,
	"model":      scanapi.CodeModelInvalid,
}

// jsonProblem is the problem of a body that is not a SubmitRequest in JSON.
func jsonProblem(err error) error {
	if wrongType, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if code, ok := fieldCodes[wrongType.Field]; ok {
			return invalid(code, scanapi.FieldError{
				Field: wrongType.Field, Rule: "type", Detail: "must be a string, not " + article(wrongType.Value),
			})
		}
		return invalidBody("type", "must be a JSON object, not "+article(wrongType.Value))
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return invalidBody("format", fmt.Sprintf("is not JSON: byte %d: %v", syntax.Offset, syntax))
	}
	return invalidBody("format", "must be one JSON object")
}

// article names a kind of JSON value. The decoder appends the digits of a number, which are cut off: they are user data.
func article(value string) string {
	kind, _, _ := strings.Cut(value, " ")
	if kind == "array" || kind == "object" {
		return "an " + kind
	}
	return "a " + kind
}

// validate checks every field.
func validate(request *scanapi.SubmitRequest) error {
	var code string
	var broken []scanapi.FieldError
	check := func(field, brokenCode string, rule, detail string) {
		if rule == "" {
			return
		}
		if code == "" {
			code = brokenCode
		}
		broken = append(broken, scanapi.FieldError{Field: field, Rule: rule, Detail: detail})
	}
	if request.ImageURL == "" {
		check("image_url", scanapi.CodeImageURLRequired, "required", "is required")
	} else {
		rule, detail := checkImageURL(request.ImageURL)
		check("image_url", scanapi.CodeImageURLInvalid, rule, detail)
	}
	rule, detail := checkUserInput(request.UserInput)
	check("user_input", scanapi.CodeUserInputInvalid, rule, detail)
	rule, detail = checkModel(request.Model)
	check("model", scanapi.CodeModelInvalid, rule, detail)
	if len(broken) > 0 {
		return invalid(code, broken...)
	}
	return nil
}

// checkImageURL returns the first rule that an image's URL violates, or nothing.
func checkImageURL(raw string) (rule, detail string) {
	if n := utf8.RuneCountInString(raw); n > maxImageURL {
		return "maxLength", fmt.Sprintf("has %d characters; at most %d are allowed", n, maxImageURL)
	}
	if strings.ContainsFunc(raw, func(c rune) bool { return unicode.IsControl(c) || unicode.IsSpace(c) }) {
		return "format", "must not contain spaces or control characters; percent-encode them"
	}
	// The ScanRequest's own rule parses the URL as the target of a request.
	parsed, err := url.ParseRequestURI(raw)
	if err != nil {
		return "format", "must be an absolute http or https URL"
	}
	switch {
	case parsed.Scheme != "http" && parsed.Scheme != "https":
		return "scheme", "must begin with https:// or http://"
	case parsed.Hostname() == "":
		return "host", "must name a host"
	case parsed.User != nil:
		return "userinfo", "must not carry a user name or a password"
	default:
		return "", ""
	}
}

func checkUserInput(input string) (rule, detail string) {
	if n := utf8.RuneCountInString(input); n > maxUserInput {
		return "maxLength", fmt.Sprintf("has %d characters; at most %d are allowed", n, maxUserInput)
	}
	if strings.ContainsFunc(input, func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\r' && c != '\t' }) {
		return "format", "must not contain control characters other than line breaks and tabs"
	}
	return "", ""
}

func checkModel(model string) (rule, detail string) {
	switch {
	case model == "":
		return "", ""
	case len(model) > maxModel:
		return "maxLength", fmt.Sprintf("has more than %d characters", maxModel)
	case !modelPattern.MatchString(model):
		return "pattern", "must match " + modelPattern.String()
	default:
		return "", ""
	}
}

// checkSupported checks that a budget serves the model. Without a model the operator chooses.
func (s *Server) checkSupported(ctx context.Context, model string) error {
	if model == "" {
		return nil
	}
	models, err := s.models.SupportedModels(ctx)
	if err != nil {
		return fmt.Errorf("list the supported models: %w", err)
	}
	if slices.Contains(models, model) {
		return nil
	}
	detail := "The model is not supported. Choose one of supported_models or leave it out."
	return &problemError{
		status: http.StatusBadRequest, code: scanapi.CodeUnsupportedModel, detail: detail,
		fields:          []scanapi.FieldError{{Field: "model", Rule: "enum", Detail: "is not one of supported_models"}},
		supportedModels: models[:min(len(models), listedSupportedModels)],
	}
}

// idempotencyKey is the request's idempotency key; empty if it has none.
func idempotencyKey(r *http.Request) (string, error) {
	values := r.Header.Values(scanapi.IdempotencyKeyHeader)
	if len(values) == 0 {
		return "", nil
	}
	rule, detail := "", ""
	switch key := values[0]; {
	case len(values) > 1:
		rule, detail = "maxItems", "must be sent once"
	case key == "":
		rule, detail = "minLength", "must not be empty; leave the header out instead"
	case len(key) > scanapi.MaxIdempotencyKeyBytes:
		rule, detail = "maxLength", fmt.Sprintf("has more than %d characters", scanapi.MaxIdempotencyKeyBytes)
	case strings.ContainsFunc(key, func(c rune) bool { return c < '!' || c > '~' }):
		rule, detail = "pattern", "must consist of visible ASCII characters, for example a UUID"
	default:
		return key, nil
	}
	return "", invalid(scanapi.CodeIdempotencyInvalid, scanapi.FieldError{
		Field: scanapi.IdempotencyKeyHeader, Rule: rule, Detail: detail,
	})
}
