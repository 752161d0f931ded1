// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scanapi

import "fmt"

// ProblemContentType is the media type of a Problem (RFC 9457).
const ProblemContentType = "application/problem+json"

// The codes of problems. They are stable; a client decides by them.
const (
	CodeUnauthorized         = "UNAUTHORIZED"
	CodeOriginNotAllowed     = "ORIGIN_NOT_ALLOWED"
	CodeImageURLRequired     = "IMAGE_URL_REQUIRED"
	CodeImageURLInvalid      = "IMAGE_URL_INVALID"
	CodeUserInputInvalid     = "USER_INPUT_INVALID"
	CodeModelInvalid         = "MODEL_INVALID"
	CodeUnsupportedModel     = "UNSUPPORTED_MODEL"
	CodeBodyInvalid          = "BODY_INVALID"
	CodeBodyTooLarge         = "BODY_TOO_LARGE"
	CodeBodyTimeout          = "BODY_TIMEOUT"
	CodeUnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE"
	CodeIdempotencyInvalid   = "IDEMPOTENCY_KEY_INVALID"
	CodeIdempotencyReused    = "IDEMPOTENCY_KEY_REUSED"
	CodeRequestRejected      = "REQUEST_REJECTED"
	CodeJobIDRequired        = "JOB_ID_REQUIRED"
	CodeResultNotFound       = "RESULT_NOT_FOUND"
	CodeScanNotFound         = "SCAN_NOT_FOUND"
	CodeRouteNotFound        = "ROUTE_NOT_FOUND"
	CodeMethodNotAllowed     = "METHOD_NOT_ALLOWED"
	CodeTooManyScans         = "TOO_MANY_SCANS"
	CodeTooManyStreams       = "TOO_MANY_STREAMS"
	CodeOverloaded           = "OVERLOADED"
	CodeNotReady             = "NOT_READY"
	CodeUnavailable          = "UNAVAILABLE"
	CodeInternal             = "INTERNAL"
)

// FieldError is one rule that a request broke.
type FieldError struct {
	Field  string `json:"field" doc:"The field, header or parameter."`
	Rule   string `json:"rule" doc:"The rule it broke: the JSON Schema keyword where there is one."`
	Detail string `json:"detail" doc:"What is wrong and what to do, for people."`
}

// Problem is an error answer, a problem document of RFC 9457 with extension members.
type Problem struct {
	Type            string       `json:"type" doc:"Where the code is explained." format:"uri-reference"`
	Title           string       `json:"title" doc:"The kind of problem, for people."`
	Status          int          `json:"status" doc:"The HTTP status." minimum:"400" maximum:"599"`
	Detail          string       `json:"detail" doc:"What happened here, why, and what to do."`
	Code            string       `json:"code" doc:"The kind of problem, for programs."`
	RequestID       string       `json:"request_id,omitempty" doc:"The request's name in the server's log."`
	Errors          []FieldError `json:"errors,omitzero" doc:"Every rule that the request broke."`
	SupportedModels []string     `json:"supported_models,omitzero" doc:"The models there are, where the code is UNSUPPORTED_MODEL."`
}

// Error makes a Problem usable as an error.
func (p *Problem) Error() string {
	return fmt.Sprintf("%s (HTTP %d): %s", p.Code, p.Status, p.Detail)
}
