package httpapi

import (
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

// The OpenAPI 3.1 document, as far as this API needs it.
type (
	openAPI struct {
		OpenAPI    string                              `json:"openapi"`
		Info       openAPIInfo                         `json:"info"`
		Paths      map[string]map[string]*operationDoc `json:"paths"`
		Components openAPIComponents                   `json:"components"`
	}
	openAPIInfo struct {
		Title       string `json:"title"`
		Version     string `json:"version"`
		Description string `json:"description"`
	}
	openAPIComponents struct {
		Schemas         map[string]*schema           `json:"schemas"`
		SecuritySchemes map[string]map[string]string `json:"securitySchemes"`
	}
	operationDoc struct {
		OperationID string                  `json:"operationId"`
		Summary     string                  `json:"summary"`
		Description string                  `json:"description,omitempty"`
		Deprecated  bool                    `json:"deprecated,omitempty"`
		Security    []map[string][]string   `json:"security,omitempty"`
		Parameters  []parameter             `json:"parameters,omitempty"`
		RequestBody *bodyDoc                `json:"requestBody,omitempty"`
		Responses   map[string]*responseDoc `json:"responses"`
	}
	parameter struct {
		Name        string  `json:"name"`
		In          string  `json:"in"`
		Required    bool    `json:"required,omitempty"`
		Description string  `json:"description"`
		Schema      *schema `json:"schema"`
	}
	bodyDoc struct {
		Required bool                `json:"required"`
		Content  map[string]mediaDoc `json:"content"`
	}
	responseDoc struct {
		Description string               `json:"description"`
		Headers     map[string]headerDoc `json:"headers,omitempty"`
		Content     map[string]mediaDoc  `json:"content,omitempty"`
	}
	headerDoc struct {
		Description string  `json:"description"`
		Schema      *schema `json:"schema"`
	}
	mediaDoc struct {
		Schema *schema `json:"schema"`
	}
)

// operation describes a route.
type operation struct {
	id, summary, description string
	// successor is the path to use instead of a deprecated one.
	successor string
	// anonymous calls are not made for a user.
	anonymous  bool
	parameters []parameter
	// request is the type of the body; nil for none.
	request reflect.Type
	answers []answerDoc
	// problems are the codes that the route answers with besides everybody's, by status.
	problems map[int][]string
}

// answerDoc is an answer that is no problem.
type answerDoc struct {
	status      int
	description string
	contentType string
	// body is the type of the body; nil for none.
	body    reflect.Type
	headers map[string]headerDoc
}

// deprecate describes an older spelling of the same call.
func (o operation) deprecate(successor string) operation {
	o.id += "ByOlderPath"
	o.successor = successor
	return o
}

// openAPIDocument generates the document from the routes and the Go types they read and write.
func openAPIDocument(routes []route) ([]byte, error) {
	types := &schemas{components: map[string]*schema{}}
	problem, err := types.of(reflect.TypeFor[scanapi.Problem]())
	if err != nil {
		return nil, err
	}
	// A client meets these types in the result of an event, whose schema names none of them.
	for _, t := range []reflect.Type{
		reflect.TypeFor[scanapi.DisposalRulesResult](), reflect.TypeFor[scanapi.FinalAnswerResult](),
		reflect.TypeFor[scanapi.RewardResult](), reflect.TypeFor[scanapi.Failure](),
	} {
		if _, err := types.of(t); err != nil {
			return nil, err
		}
	}
	doc := openAPI{
		OpenAPI: "3.1.0",
		Info:    openAPIInfo{Title: "Scan API", Version: apiVersion, Description: apiDescription},
		Paths:   map[string]map[string]*operationDoc{},
		Components: openAPIComponents{
			Schemas: types.components,
			SecuritySchemes: map[string]map[string]string{userSecurity: {
				"type": "apiKey", "in": "header", "name": scanapi.UserIDHeader,
				"description": "Set by the gateway for a user who has signed in; not accepted from anybody else.",
			}},
		},
	}
	for _, r := range routes {
		described, err := r.operation.describe(types, problem)
		if err != nil {
			return nil, fmt.Errorf("describe %s %s: %w", r.method, r.path, err)
		}
		if doc.Paths[r.path] == nil {
			doc.Paths[r.path] = map[string]*operationDoc{}
		}
		doc.Paths[r.path][strings.ToLower(r.method)] = described
	}
	return json.MarshalIndent(doc, "", "  ")
}

func (o operation) describe(types *schemas, problem *schema) (*operationDoc, error) {
	doc := &operationDoc{
		OperationID: o.id, Summary: o.summary, Description: o.description,
		Parameters: o.parameters, Responses: map[string]*responseDoc{},
	}
	if o.successor != "" {
		doc.Deprecated = true
		doc.Description = strings.TrimSpace(doc.Description + " Older spelling of " + o.successor + ".")
	}
	if o.request != nil {
		body, err := types.of(o.request)
		if err != nil {
			return nil, err
		}
		doc.RequestBody = &bodyDoc{Required: true, Content: map[string]mediaDoc{"application/json": {Schema: body}}}
	}
	for _, a := range o.answers {
		described := &responseDoc{Description: a.description, Headers: a.headers}
		if a.body != nil {
			body, err := types.of(a.body)
			if err != nil {
				return nil, err
			}
			described.Content = map[string]mediaDoc{orDefault(a.contentType, "application/json"): {Schema: body}}
		}
		doc.Responses[strconv.Itoa(a.status)] = described
	}
	problems := map[int][]string{}
	if !o.anonymous {
		doc.Security = []map[string][]string{{userSecurity: {}}}
		problems[http.StatusUnauthorized] = []string{scanapi.CodeUnauthorized}
		problems[http.StatusForbidden] = []string{scanapi.CodeOriginNotAllowed}
		problems[http.StatusServiceUnavailable] = []string{scanapi.CodeNotReady, scanapi.CodeUnavailable}
		problems[http.StatusInternalServerError] = []string{scanapi.CodeInternal}
	}
	maps.Copy(problems, o.problems)
	for status, codes := range problems {
		described := &responseDoc{
			Description: http.StatusText(status) + ": " + strings.Join(codes, ", "),
			Content:     map[string]mediaDoc{scanapi.ProblemContentType: {Schema: problem}},
		}
		if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
			described.Headers = retryAfterHeader
		}
		doc.Responses[strconv.Itoa(status)] = described
	}
	return doc, nil
}
