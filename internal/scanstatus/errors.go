// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scanstatus

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxRetryAfter bounds what a Retry-After header can ask for, so that a faulty proxy cannot postpone a result beyond
// the deadline of its scan.
const maxRetryAfter = time.Minute

// class says what follows from an error of the API server.
type class int

const (
	// classUnknown: the request may have been carried out. Read the scan, then try again.
	classUnknown class = iota
	// classRefused: the request was answered and not carried out, but may be later. Try again.
	classRefused
	// classConflict: the scan has changed. Read it and fold again at once.
	classConflict
	// classGone: the scan no longer exists. Final.
	classGone
	// classRejected: the API server will never store this status. Final.
	classRejected
)

// classify is the error table:
//
//	404 for the scan                          gone
//	404 for the path                          unknown: the kind is not served yet, or this was a proxy
//	403 with cause NamespaceTerminating       gone
//	403, 401                                  refused
//	429                                       refused; Retry-After is a minimum
//	409                                       conflict
//	413, 422, 400 from the API server         rejected
//	500 that says "request is too large"      rejected
//	5xx, timeouts, network errors, others     unknown
//
// An API server does not answer a status patch with NamespaceTerminating: admission refuses only the creation of
// objects in a terminating namespace, and scans there are written to until they are deleted. Should the cause arrive
// all the same, from a webhook or a later version, it is as good as a 404: a termination cannot be undone.
func classify(err error) class {
	served := !apierrors.IsUnexpectedServerError(err) // the answer is the API server's own, not a plain page
	switch {
	case apierrors.IsConflict(err):
		return classConflict
	case apierrors.IsNotFound(err) && served, apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return classGone
	case isTooLarge(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err) && served:
		return classRejected
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err), apierrors.IsTooManyRequests(err):
		return classRefused
	default:
		return classUnknown
	}
}

// isTooLarge also covers the limits of etcd, its server's and its client's. The API server passes their errors on
// as status 500.
func isTooLarge(err error) bool {
	if apierrors.IsRequestEntityTooLargeError(err) {
		return true
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Code != http.StatusInternalServerError {
		return false
	}
	message := status.Status().Message
	return strings.Contains(message, "etcdserver: request is too large") ||
		strings.Contains(message, "trying to send message larger than max")
}

// retryAfter is how long the API server asks to wait before the next request; zero where it does not say.
func retryAfter(err error) time.Duration {
	seconds, _ := apierrors.SuggestsClientDelay(err)
	return min(time.Duration(seconds)*time.Second, maxRetryAfter)
}

// RejectedError says that an event can never be stored: its status is too large or invalid, or the event does not fit
// the scan. Its text has no values of the status, which may be a user's.
type RejectedError struct {
	cause error
}

func (e *RejectedError) Error() string { return "status rejected: " + withoutValues(e.cause) }

// Unwrap returns what the API server or pipeline.Fold returned.
func (e *RejectedError) Unwrap() error { return e.cause }

// withoutValues describes why a status was rejected without repeating what is in it.
func withoutValues(err error) string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil || len(status.Status().Details.Causes) == 0 {
		return err.Error()
	}
	problems := make([]string, 0, len(status.Status().Details.Causes))
	for _, cause := range status.Status().Details.Causes {
		if cause.Type == metav1.CauseTypeUnexpectedServerResponse {
			return err.Error()
		}
		problems = append(problems, cause.Field+": "+string(cause.Type))
	}
	return fmt.Sprintf("%s: %s", status.Status().Reason, strings.Join(problems, ", "))
}
