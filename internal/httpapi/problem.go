// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/eco2-team/scan-operator/internal/httpapi/auth"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// problemError is an error that is sent to the client as a problem document. Handlers return it; any other error
// becomes INTERNAL.
type problemError struct {
	status int
	code   string
	detail string
	// fields are the fields that are invalid, with the rule of each.
	fields []scanapi.FieldError
	// supportedModels is set for UNSUPPORTED_MODEL, never nil there.
	supportedModels []string
	// retryAfter becomes a Retry-After header, in whole seconds rounded up; zero sends none.
	retryAfter time.Duration
	// allow becomes an Allow header.
	allow string
	// cause is logged and never sent.
	cause error
}

func (e *problemError) Error() string {
	if e.cause != nil {
		return e.code + ": " + e.detail + ": " + e.cause.Error()
	}
	return e.code + ": " + e.detail
}

func (e *problemError) Unwrap() error { return e.cause }

// problemf returns a problem with a formatted detail.
func problemf(status int, code, format string, args ...any) *problemError {
	return &problemError{status: status, code: code, detail: fmt.Sprintf(format, args...)}
}

// invalid is the problem of a request with invalid fields. Its code is that of the first one.
func invalid(code string, fields ...scanapi.FieldError) *problemError {
	details := make([]string, len(fields))
	for i, f := range fields {
		details[i] = f.Field + ": " + f.Detail
	}
	return &problemError{status: http.StatusBadRequest, code: code, detail: strings.Join(details, "; "), fields: fields}
}

// asProblem converts err to a problem.
func asProblem(err error) *problemError {
	if p, ok := errors.AsType[*problemError](err); ok {
		return p
	}
	return &problemError{
		status: http.StatusInternalServerError, code: scanapi.CodeInternal,
		detail: "The server failed. Try again; if the error persists, report the request_id to the operators.",
		cause:  err,
	}
}

// fromAuthentication converts an error of an authenticator to a problem.
func fromAuthentication(err error) *problemError {
	if unauthorized, ok := errors.AsType[*auth.UnauthorizedError](err); ok {
		return problemf(http.StatusUnauthorized, scanapi.CodeUnauthorized, "%s", unauthorized.Detail)
	}
	return fromKubernetes(err)
}

// apiFieldNames are the API's names of the fields of a ScanRequest.
var apiFieldNames = map[string]string{
	"spec.imageURL":  "image_url",
	"spec.userInput": "user_input",
	"spec.model":     "model",
	"spec.userID":    scanapi.UserIDHeader,
}

// fromKubernetes converts an error of the Kubernetes API to a problem. An object that the API server rejects is the
// client's error; any other failure may be temporary.
func fromKubernetes(err error) *problemError {
	const retryAfter = 2 * time.Second
	switch {
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return rejected(err)
	case apierrors.IsTimeout(err), apierrors.IsServerTimeout(err), apierrors.IsTooManyRequests(err),
		apierrors.IsServiceUnavailable(err), apierrors.IsInternalError(err), apierrors.IsForbidden(err),
		apierrors.IsUnauthorized(err), apierrors.IsUnexpectedServerError(err),
		errors.Is(err, context.DeadlineExceeded), isConnectionError(err):
		wait := retryAfter
		if seconds, ok := apierrors.SuggestsClientDelay(err); ok && seconds > 0 {
			wait = time.Duration(seconds) * time.Second
		}
		return &problemError{
			status: http.StatusServiceUnavailable, code: scanapi.CodeUnavailable,
			detail:     "The cluster does not accept requests now. Try again, with the same " + scanapi.IdempotencyKeyHeader + ".",
			retryAfter: wait, cause: err,
		}
	default:
		return asProblem(err)
	}
}

// rejected is the problem of an object that the API server rejects.
func rejected(err error) *problemError {
	p := &problemError{
		status: http.StatusBadRequest, code: scanapi.CodeRequestRejected,
		detail: "The cluster rejected the scan.", cause: err,
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return p
	}
	var details []string
	for _, cause := range status.Status().Details.Causes {
		field, known := apiFieldNames[cause.Field]
		if !known {
			continue
		}
		p.fields = append(p.fields, scanapi.FieldError{Field: field, Rule: ruleOf(cause), Detail: cause.Message})
		details = append(details, field+": "+cause.Message)
	}
	if len(details) > 0 {
		p.detail = strings.Join(details, "; ")
	}
	return p
}

// ruleOf is the JSON Schema keyword for a Kubernetes validation error, if there is one.
func ruleOf(cause metav1.StatusCause) string {
	switch cause.Type {
	case metav1.CauseTypeFieldValueRequired:
		return "required"
	case metav1.CauseTypeTooLong:
		return "maxLength"
	case metav1.CauseTypeTypeInvalid:
		return "type"
	default:
		return "valid"
	}
}

// isConnectionError says whether the connection to the API server failed.
func isConnectionError(err error) bool {
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	return utilnet.IsConnectionRefused(err) || utilnet.IsConnectionReset(err) || utilnet.IsProbableEOF(err) ||
		utilnet.IsTimeout(err) || utilnet.IsHTTP2ConnectionLost(err)
}

// writeProblem responds with a problem document.
func writeProblem(w http.ResponseWriter, requestID string, e *problemError) {
	if e.retryAfter > 0 {
		setRetryAfter(w, e.retryAfter)
	}
	if e.allow != "" {
		w.Header().Set("Allow", e.allow)
	}
	w.Header().Set("Cache-Control", "no-store")
	writeBody(w, e.status, scanapi.ProblemContentType, scanapi.Problem{
		Type:  docsPath + "#" + e.code,
		Title: http.StatusText(e.status), Status: e.status,
		Detail: e.detail, Code: e.code, RequestID: requestID,
		Errors: e.fields, SupportedModels: e.supportedModels,
	})
}

// setRetryAfter sets the Retry-After header in whole seconds, rounded up.
func setRetryAfter(w http.ResponseWriter, d time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(wholeSeconds(d)))
}

// wholeSeconds is d in seconds, rounded up, not below 0.
func wholeSeconds(d time.Duration) int {
	return max(int(math.Ceil(d.Seconds())), 0)
}

// writeJSON responds with a document.
func writeJSON(w http.ResponseWriter, status int, document any) {
	writeBody(w, status, "application/json", document)
}

func writeBody(w http.ResponseWriter, status int, contentType string, document any) {
	body, err := json.Marshal(document)
	if err != nil {
		// The documents are plain structs of this module: they always encode.
		panic(fmt.Sprintf("encode %T: %v", document, err))
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // fails only if the client has left
}
