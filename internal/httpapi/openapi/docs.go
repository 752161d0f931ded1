// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

//go:embed docs.html
var docsTemplate string

// Page renders a document as one HTML page that loads nothing else.
func Page(document []byte) ([]byte, error) {
	var doc Document
	if err := json.Unmarshal(document, &doc); err != nil {
		return nil, fmt.Errorf("decode the OpenAPI document: %w", err)
	}
	page, err := template.New("docs").Funcs(template.FuncMap{
		"upper": strings.ToUpper, "kind": kindOf, "type": typeName, "codes": codesOf,
	}).Parse(docsTemplate)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := page.Execute(&out, doc); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// kindOf names the types that a schema allows, without the name of a struct.
func kindOf(s *Schema) string {
	if s == nil {
		return ""
	}
	switch kind := s.Type.(type) {
	case string:
		if kind == "array" {
			return strings.TrimSpace("list of " + kindOf(s.Items))
		}
		return kind
	case []any:
		names := make([]string, len(kind))
		for i, name := range kind {
			names[i] = fmt.Sprint(name)
		}
		return strings.Join(names, " or ")
	}
	if len(s.AnyOf) > 0 {
		return "or null"
	}
	return ""
}

// typeName is the name of the struct that a schema refers to, by itself, as an item or as an alternative to null.
func typeName(s *Schema) string {
	switch {
	case s == nil:
		return ""
	case s.Ref != "":
		return strings.TrimPrefix(s.Ref, componentPrefix)
	case s.Items != nil:
		return typeName(s.Items)
	case len(s.AnyOf) > 0:
		return typeName(s.AnyOf[0])
	default:
		return ""
	}
}

// codesOf lists the problem codes of all operations, each once, and those of requests that match no operation.
func codesOf(doc Document) map[string]string {
	codes := map[string]string{
		scanapi.CodeRouteNotFound:    strconv.Itoa(http.StatusNotFound),
		scanapi.CodeMethodNotAllowed: strconv.Itoa(http.StatusMethodNotAllowed),
	}
	for _, operations := range doc.Paths {
		for _, o := range operations {
			for status, answer := range o.Responses {
				_, list, ok := strings.Cut(answer.Description, ": ")
				if !ok || status < "400" {
					continue
				}
				for code := range strings.SplitSeq(list, ", ") {
					codes[code] = status
				}
			}
		}
	}
	return codes
}
