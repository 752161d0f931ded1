// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package openapi describes the HTTP API: it generates the OpenAPI document from the routes and the Go types that they
// read and write, and renders it as a page.
package openapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// apiVersion is the version of the contract.
const apiVersion = "1.0.0"

const apiDescription = `A scan is one photo of a thing to throw away, turned into disposal advice: the image is classified ` +
	`(vision), the class is looked up (rule), the advice is written (answer) and a character is matched (reward). ` +
	`Submit a photo, then follow its events or poll its result. ` +
	`Errors are problem documents (RFC 9457); decide by their member code.`

// userSecurity is the name of the security scheme of calls that are made for a user.
const userSecurity = "gateway"

// The objects of an OpenAPI 3.1 document, as far as this API needs them, by the specification's names.
type (
	// Document is the root object.
	Document struct {
		OpenAPI    string                           `json:"openapi"`
		Info       Info                             `json:"info"`
		Paths      map[string]map[string]*Operation `json:"paths"`
		Components Components                       `json:"components"`
	}
	// Info describes the API.
	Info struct {
		Title       string `json:"title"`
		Version     string `json:"version"`
		Description string `json:"description"`
	}
	// Components are the objects that others refer to.
	Components struct {
		Schemas         map[string]*Schema           `json:"schemas"`
		SecuritySchemes map[string]map[string]string `json:"securitySchemes"`
	}
	// Operation is one call.
	Operation struct {
		OperationID string                `json:"operationId"`
		Summary     string                `json:"summary"`
		Description string                `json:"description,omitempty"`
		Deprecated  bool                  `json:"deprecated,omitempty"`
		Security    []map[string][]string `json:"security,omitempty"`
		Parameters  []Parameter           `json:"parameters,omitempty"`
		RequestBody *RequestBody          `json:"requestBody,omitempty"`
		Responses   map[string]*Response  `json:"responses"`
	}
	// Parameter is a parameter in the path, the query or a header.
	Parameter struct {
		Name        string  `json:"name"`
		In          string  `json:"in"`
		Required    bool    `json:"required,omitempty"`
		Description string  `json:"description"`
		Schema      *Schema `json:"schema"`
	}
	// RequestBody is the body of a request.
	RequestBody struct {
		Required bool                 `json:"required"`
		Content  map[string]MediaType `json:"content"`
	}
	// Response is a response of one status.
	Response struct {
		Description string               `json:"description"`
		Headers     map[string]Header    `json:"headers,omitempty"`
		Content     map[string]MediaType `json:"content,omitempty"`
	}
	// Header is a header of a response.
	Header struct {
		Description string  `json:"description"`
		Schema      *Schema `json:"schema"`
	}
	// MediaType is a body of one content type.
	MediaType struct {
		Schema *Schema `json:"schema"`
	}
)

// Route is one way to call the API, with its description.
type Route struct {
	Method, Path             string
	id, summary, description string
	// successor is the path to use instead of a deprecated one.
	successor string
	// Anonymous calls are not made for a user.
	Anonymous  bool
	parameters []Parameter
	// request is the type of the body; nil for none.
	request reflect.Type
	answers []answer
	// problems are the codes of the route's problems besides those of every route, by status.
	problems map[int][]string
}

// answer is a response that is not a problem.
type answer struct {
	status      int
	description string
	contentType string
	// body is the type of the body; nil for none.
	body    reflect.Type
	headers map[string]Header
}

// deprecated is an older path of the same call.
func (r Route) deprecated(path string) Route {
	r.id += "ByOlderPath"
	r.Path, r.successor = path, r.Path
	return r
}

// Generate returns the document of the routes in JSON.
func Generate(routes []Route) ([]byte, error) {
	types := &schemas{components: map[string]*Schema{}}
	problem, err := types.of(reflect.TypeFor[scanapi.Problem]())
	if err != nil {
		return nil, err
	}
	// These types are results of events. No schema refers to them: the result of an event can be any of them.
	for _, t := range []reflect.Type{
		reflect.TypeFor[scanapi.DisposalRulesResult](), reflect.TypeFor[scanapi.FinalAnswerResult](),
		reflect.TypeFor[scanapi.RewardResult](), reflect.TypeFor[scanapi.Failure](),
	} {
		if _, err := types.of(t); err != nil {
			return nil, err
		}
	}
	doc := Document{
		OpenAPI: "3.1.0",
		Info:    Info{Title: "Scan API", Version: apiVersion, Description: apiDescription},
		Paths:   map[string]map[string]*Operation{},
		Components: Components{
			Schemas: types.components,
			SecuritySchemes: map[string]map[string]string{userSecurity: {
				"type": "apiKey", "in": "header", "name": scanapi.UserIDHeader,
				"description": "Set by the gateway for a user who has signed in; ignored from any other address.",
			}},
		},
	}
	for _, r := range routes {
		operation, err := r.operation(types, problem)
		if err != nil {
			return nil, fmt.Errorf("describe %s %s: %w", r.Method, r.Path, err)
		}
		if doc.Paths[r.Path] == nil {
			doc.Paths[r.Path] = map[string]*Operation{}
		}
		doc.Paths[r.Path][strings.ToLower(r.Method)] = operation
	}
	return json.MarshalIndent(doc, "", "  ")
}

func (r Route) operation(types *schemas, problem *Schema) (*Operation, error) {
	doc := &Operation{
		OperationID: r.id, Summary: r.summary, Description: r.description,
		Parameters: r.parameters, Responses: map[string]*Response{},
	}
	if r.successor != "" {
		doc.Deprecated = true
		doc.Description = strings.TrimSpace(doc.Description + " Deprecated: use " + r.successor + ".")
	}
	if r.request != nil {
		body, err := types.of(r.request)
		if err != nil {
			return nil, err
		}
		doc.RequestBody = &RequestBody{Required: true, Content: map[string]MediaType{"application/json": {Schema: body}}}
	}
	for _, a := range r.answers {
		described := &Response{Description: a.description, Headers: a.headers}
		if a.body != nil {
			body, err := types.of(a.body)
			if err != nil {
				return nil, err
			}
			described.Content = map[string]MediaType{cmp.Or(a.contentType, "application/json"): {Schema: body}}
		}
		doc.Responses[strconv.Itoa(a.status)] = described
	}
	problems := map[int][]string{}
	if !r.Anonymous {
		doc.Security = []map[string][]string{{userSecurity: {}}}
		problems[http.StatusUnauthorized] = []string{scanapi.CodeUnauthorized}
		problems[http.StatusForbidden] = []string{scanapi.CodeOriginNotAllowed}
		problems[http.StatusServiceUnavailable] = []string{scanapi.CodeNotReady, scanapi.CodeUnavailable}
		problems[http.StatusInternalServerError] = []string{scanapi.CodeInternal}
	}
	maps.Copy(problems, r.problems)
	for status, codes := range problems {
		described := &Response{
			Description: http.StatusText(status) + ": " + strings.Join(codes, ", "),
			Content:     map[string]MediaType{scanapi.ProblemContentType: {Schema: problem}},
		}
		if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
			described.Headers = retryAfterHeader
		}
		doc.Responses[strconv.Itoa(status)] = described
	}
	return doc, nil
}
