package httpapi

import (
	"net/http"
	"reflect"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

var retryAfterHeader = map[string]headerDoc{"Retry-After": {
	Description: "When to ask again, in seconds.", Schema: &schema{Type: "integer"},
}}

var jobIDParameter = parameter{
	Name: "id", In: "path", Required: true, Description: "The scan's id, job_id of the submit's answer.",
	Schema: &schema{Type: "string"},
}

var lastEventIDParameter = parameter{
	Name: scanapi.LastEventIDHeader, In: "header",
	Description: "The id of the last event that was received; the stream goes on after it. Browsers set it when they reconnect.",
	Schema:      &schema{Type: "integer"},
}

const eventsDescription = "Server-sent events: queued, vision, rule, answer, reward, then done, or error where the scan fails. " +
	"Each has an id, its place in the stream, and an Event as data. The stream ends after done or error; " +
	"a client that reconnects then is answered 204. Comments are sent while nothing happens."

var eventAnswers = []answerDoc{
	{
		status: http.StatusOK, description: "The stream. Each event's data is an Event.",
		contentType: "text/event-stream", body: reflect.TypeFor[scanapi.Event](),
	},
	{status: http.StatusNoContent, description: "There are no more events; do not reconnect."},
}

var unavailableStreams = []string{scanapi.CodeNotReady, scanapi.CodeUnavailable, scanapi.CodeTooManyStreams}

// What the routes are, for the OpenAPI document.
var (
	submitOperation = operation{
		id: "submitScan", summary: "Submit a photo",
		description: "Accepts a scan and answers at once. Fields that are not known are ignored.",
		parameters: []parameter{{
			Name: scanapi.IdempotencyKeyHeader, In: "header",
			Description: "Makes it safe to repeat a submit: the same key with the same body returns the first one's answer. One key for each scan, for example a UUID.",
			Schema:      &schema{Type: "string", Pattern: "^[!-~]+$", MinLength: new(1), MaxLength: new(maxIdempotencyKey)},
		}},
		request: reflect.TypeFor[scanapi.SubmitRequest](),
		answers: []answerDoc{{
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

	resultOperation = operation{
		id: "getResult", summary: "Fetch a result", parameters: []parameter{jobIDParameter},
		answers: []answerDoc{
			{status: http.StatusOK, description: "The scan has finished.", body: reflect.TypeFor[scanapi.Result]()},
			{
				status: http.StatusAccepted, description: "The scan has not finished.",
				body: reflect.TypeFor[scanapi.Processing](), headers: retryAfterHeader,
			},
		},
		problems: map[int][]string{http.StatusNotFound: {scanapi.CodeResultNotFound}},
	}

	eventsOperation = operation{
		id: "streamEvents", summary: "Follow a scan", description: eventsDescription,
		parameters: []parameter{jobIDParameter, lastEventIDParameter}, answers: eventAnswers,
		problems: map[int][]string{
			http.StatusNotFound:           {scanapi.CodeScanNotFound},
			http.StatusTooManyRequests:    {scanapi.CodeTooManyStreams},
			http.StatusServiceUnavailable: unavailableStreams,
		},
	}

	streamByQueryOperation = operation{
		id: "streamEventsByQuery", summary: "Follow a scan", description: eventsDescription,
		successor: scanapi.EventsPath("{id}"),
		parameters: []parameter{
			{Name: "job_id", In: "query", Required: true, Description: jobIDParameter.Description, Schema: &schema{Type: "string"}},
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

	cancelOperation = operation{
		id: "cancelScan", summary: "Cancel and delete a scan", parameters: []parameter{jobIDParameter},
		description: "A call that runs is aborted. A scan that has finished is deleted with its result.",
		answers:     []answerDoc{{status: http.StatusNoContent, description: "The scan is deleted."}},
		problems:    map[int][]string{http.StatusNotFound: {scanapi.CodeScanNotFound}},
	}

	categoriesOperation = operation{
		id: "listCategories", summary: "List the classes of waste",
		answers: []answerDoc{{status: http.StatusOK, description: "The classes.", body: reflect.TypeFor[[]scanapi.Category]()}},
	}

	healthOperation = operation{
		id: "health", summary: "Whether the server works", anonymous: true,
		answers: []answerDoc{{status: http.StatusOK, description: "It does.", body: reflect.TypeFor[scanapi.Health]()}},
	}

	readyOperation = operation{
		id: "ready", summary: "Whether the server takes requests", anonymous: true,
		answers: []answerDoc{
			{status: http.StatusOK, description: "It does.", body: reflect.TypeFor[scanapi.Health]()},
			{status: http.StatusServiceUnavailable, description: "It starts or stops.", body: reflect.TypeFor[scanapi.Health]()},
		},
	}
)
