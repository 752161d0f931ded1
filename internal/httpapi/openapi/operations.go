// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"net/http"
	"reflect"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// OlderResultPrefix begins the older path of a result.
const OlderResultPrefix = scanapi.SubmitPath + "/result/"

var retryAfterHeader = map[string]Header{"Retry-After": {
	Description: "When to try again, in seconds.", Schema: &Schema{Type: "integer"},
}}

var jobIDParameter = Parameter{
	Name: "id", In: "path", Required: true, Description: "The scan's id: job_id in the response to the submit.",
	Schema: &Schema{Type: "string"},
}

var lastEventIDParameter = Parameter{
	Name: scanapi.LastEventIDHeader, In: "header",
	Description: "The id of the last event received; the stream resumes after it. Browsers set it when they reconnect.",
	Schema:      &Schema{Type: "integer"},
}

const eventsDescription = "Server-sent events: queued, vision, rule, answer, reward, then done, or error if the scan fails. " +
	"Each has an id, its index in the stream, and an Event as data. The stream ends after done or error; " +
	"a client that reconnects after that gets 204. Comments are sent as keepalives."

var eventAnswers = []answer{
	{
		status: http.StatusOK, description: "The stream. Each event's data is an Event.",
		contentType: "text/event-stream", body: reflect.TypeFor[scanapi.Event](),
	},
	{status: http.StatusNoContent, description: "There are no more events; do not reconnect."},
}

var unavailableStreams = []string{scanapi.CodeNotReady, scanapi.CodeUnavailable, scanapi.CodeTooManyStreams}

// The routes of the API.
var (
	Submit = Route{
		Method: http.MethodPost, Path: scanapi.SubmitPath,
		id: "submitScan", summary: "Submit a photo",
		description: "Accepts a scan and returns at once. Unknown fields are ignored.",
		parameters: []Parameter{{
			Name: scanapi.IdempotencyKeyHeader, In: "header",
			Description: "Makes it safe to retry a submit: the same key with the same body returns the first scan. Use one key per scan, for example a UUID.",
			Schema:      &Schema{Type: "string", Pattern: "^[!-~]+$", MinLength: new(1), MaxLength: new(scanapi.MaxIdempotencyKeyBytes)},
		}},
		request: reflect.TypeFor[scanapi.SubmitRequest](),
		answers: []answer{{
			status: http.StatusOK, description: "The scan was accepted, now or by an earlier submit with the same key.",
			body: reflect.TypeFor[scanapi.SubmitResponse](),
		}},
		problems: map[int][]string{
			http.StatusBadRequest: {
				scanapi.CodeImageURLRequired, scanapi.CodeImageURLInvalid, scanapi.CodeUserInputInvalid, scanapi.CodeModelInvalid,
				scanapi.CodeUnsupportedModel, scanapi.CodeBodyInvalid, scanapi.CodeIdempotencyInvalid, scanapi.CodeRequestRejected,
			},
			http.StatusRequestTimeout:        {scanapi.CodeBodyTimeout},
			http.StatusConflict:              {scanapi.CodeIdempotencyReused},
			http.StatusRequestEntityTooLarge: {scanapi.CodeBodyTooLarge},
			http.StatusUnsupportedMediaType:  {scanapi.CodeUnsupportedMediaType},
			http.StatusTooManyRequests:       {scanapi.CodeTooManyScans, scanapi.CodeOverloaded},
		},
	}

	Result = Route{
		Method: http.MethodGet, Path: scanapi.ResultPath("{id}"),
		id: "getResult", summary: "Fetch a result", parameters: []Parameter{jobIDParameter},
		answers: []answer{
			{status: http.StatusOK, description: "The scan has finished.", body: reflect.TypeFor[scanapi.Result]()},
			{
				status: http.StatusAccepted, description: "The scan has not finished.",
				body: reflect.TypeFor[scanapi.Processing](), headers: retryAfterHeader,
			},
		},
		problems: map[int][]string{http.StatusNotFound: {scanapi.CodeResultNotFound}},
	}

	ResultByOlderPath = Result.deprecated(OlderResultPrefix + "{id}")

	Events = Route{
		Method: http.MethodGet, Path: scanapi.EventsPath("{id}"),
		id: "streamEvents", summary: "Follow a scan", description: eventsDescription,
		parameters: []Parameter{jobIDParameter, lastEventIDParameter}, answers: eventAnswers,
		problems: map[int][]string{
			http.StatusNotFound:           {scanapi.CodeScanNotFound},
			http.StatusTooManyRequests:    {scanapi.CodeTooManyStreams},
			http.StatusServiceUnavailable: unavailableStreams,
		},
	}

	StreamByQuery = Route{
		Method: http.MethodGet, Path: "/api/v1/stream",
		id: "streamEventsByQuery", summary: "Follow a scan", description: eventsDescription,
		successor: scanapi.EventsPath("{id}"),
		parameters: []Parameter{
			{Name: "job_id", In: "query", Required: true, Description: jobIDParameter.Description, Schema: &Schema{Type: "string"}},
			lastEventIDParameter,
		},
		answers: eventAnswers,
		problems: map[int][]string{
			http.StatusBadRequest:         {scanapi.CodeJobIDRequired},
			http.StatusNotFound:           {scanapi.CodeScanNotFound},
			http.StatusTooManyRequests:    {scanapi.CodeTooManyStreams},
			http.StatusServiceUnavailable: unavailableStreams,
		},
	}

	Cancel = Route{
		Method: http.MethodDelete, Path: scanapi.ScanPath("{id}"),
		id: "cancelScan", summary: "Cancel and delete a scan", parameters: []Parameter{jobIDParameter},
		description: "A running call is aborted. A finished scan is deleted with its result.",
		answers:     []answer{{status: http.StatusNoContent, description: "The scan is deleted."}},
		problems:    map[int][]string{http.StatusNotFound: {scanapi.CodeScanNotFound}},
	}

	Categories = Route{
		Method: http.MethodGet, Path: scanapi.CategoriesPath,
		id: "listCategories", summary: "List the classes of waste",
		answers: []answer{{status: http.StatusOK, description: "The classes.", body: reflect.TypeFor[[]scanapi.Category]()}},
	}

	Health = Route{
		Method: http.MethodGet, Path: scanapi.SubmitPath + "/health",
		id: "health", summary: "Liveness", Anonymous: true,
		answers: []answer{{status: http.StatusOK, description: "The server works.", body: reflect.TypeFor[scanapi.Health]()}},
	}

	Ready = Route{
		Method: http.MethodGet, Path: scanapi.SubmitPath + "/ready",
		id: "ready", summary: "Readiness", Anonymous: true,
		answers: []answer{
			{status: http.StatusOK, description: "The server accepts requests.", body: reflect.TypeFor[scanapi.Health]()},
			{status: http.StatusServiceUnavailable, description: "The server is starting or stopping.", body: reflect.TypeFor[scanapi.Health]()},
		},
	}
)
