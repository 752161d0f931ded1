// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package auth finds out which user a request of the HTTP API is made for.
package auth

import (
	"fmt"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxUserID bounds a user's id, in characters. It is the bound of the ScanRequest's own field.
const maxUserID = 128

// Caller is the user that a request is made for.
type Caller struct {
	// UserID has 1 to 128 characters and no control characters.
	UserID string
}

// Authenticator finds out which user a request is made for. It returns an UnauthorizedError where the request does not
// prove a user. Other errors are failures to find out, those of the Kubernetes API among them.
type Authenticator interface {
	Authenticate(r *http.Request) (Caller, error)
}

// UnauthorizedError is the error of a request that does not prove which user it is made for.
type UnauthorizedError struct {
	// Detail is a sentence for the client.
	Detail string
}

func (e *UnauthorizedError) Error() string { return "unauthorized: " + e.Detail }

func unauthorized(detail string) error { return &UnauthorizedError{Detail: detail} }

// callerOf checks a user's id.
func callerOf(userID string) (Caller, error) {
	switch {
	case !utf8.ValidString(userID) || strings.ContainsFunc(userID, unicode.IsControl):
		return Caller{}, unauthorized("The user's id must be UTF-8 without control characters.")
	case utf8.RuneCountInString(userID) > maxUserID:
		return Caller{}, unauthorized(fmt.Sprintf("The user's id has more than %d characters.", maxUserID))
	default:
		return Caller{UserID: userID}, nil
	}
}
