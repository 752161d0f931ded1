// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

var errRefused error = syscall.ECONNREFUSED

// reviewer is an API server that has issued one token.
type reviewer struct {
	err   error
	valid bool
	asked int
}

func (r *reviewer) Create(_ context.Context, review *authenticationv1.TokenReview, _ metav1.CreateOptions) (*authenticationv1.TokenReview, error) {
	r.asked++
	if r.err != nil {
		return nil, r.err
	}
	if r.valid && review.Spec.Token == "good" {
		review.Status.Authenticated = true
		review.Status.User.Username = "system:serviceaccount:shop:web"
	}
	return review, nil
}

func TestTokenReview(t *testing.T) {
	tests := map[string]struct {
		header    string
		err       error
		wantUser  string
		wantErr   error // nil without wantUser: an UnauthorizedError
		wantAsked int
	}{
		"valid":                  {header: "Bearer good", wantUser: "system:serviceaccount:shop:web", wantAsked: 1},
		"in small letters":       {header: "bearer good", wantUser: "system:serviceaccount:shop:web", wantAsked: 1},
		"not valid":              {header: "Bearer bad", wantAsked: 1},
		"none":                   {},
		"another scheme":         {header: "Basic good"},
		"empty":                  {header: "Bearer "},
		"too long":               {header: "Bearer " + strings.Repeat("x", maxTokenBytes+1)},
		"the API server is down": {header: "Bearer good", err: errRefused, wantErr: errRefused, wantAsked: 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			reviews := &reviewer{valid: true, err: tt.err}
			a := NewTokenReview(reviews)
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
			r.Header.Set(scanapi.UserIDHeader, "root")
			r.Header.Set("Authorization", tt.header)
			caller, err := a.Authenticate(r)
			_, unauthorized := errors.AsType[*UnauthorizedError](err)
			if caller.UserID != tt.wantUser || tt.wantErr != nil && !errors.Is(err, tt.wantErr) || unauthorized != (tt.wantUser == "" && tt.wantErr == nil) {
				t.Errorf("Authenticate() = %q, %v; want %q, %v", caller.UserID, err, tt.wantUser, tt.wantErr)
			}
			if reviews.asked != tt.wantAsked {
				t.Errorf("%d reviews, want %d", reviews.asked, tt.wantAsked)
			}
		})
	}
}

// The cache is timed by the clock of the test's bubble.
func TestTokenReviewsAreCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reviews := &reviewer{valid: true}
		a := NewTokenReview(reviews)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		r.Header.Set("Authorization", "Bearer good")
		start := time.Now()
		steps := []struct {
			after     time.Duration
			wantValid bool
			wantAsked int
		}{
			{after: 0, wantValid: true, wantAsked: 1},
			{after: reviewTTL - time.Second, wantValid: true, wantAsked: 1},
			{after: reviewTTL + time.Second, wantValid: false, wantAsked: 2},
			{after: reviewTTL + 2*time.Second, wantValid: false, wantAsked: 2},
		}
		for _, step := range steps {
			<-time.After(time.Until(start.Add(step.after)))
			_, err := a.Authenticate(r)
			if (err == nil) != step.wantValid || reviews.asked != step.wantAsked {
				t.Errorf("after %s: error %v, %d reviews; want valid %v, %d reviews", step.after, err, reviews.asked, step.wantValid, step.wantAsked)
			}
			reviews.valid = false // revoked
		}
	})
}

// An API server that is down is no reason to turn a caller away once it is back.
func TestFailedReviewsAreNotCached(t *testing.T) {
	reviews := &reviewer{valid: true, err: errRefused}
	a := NewTokenReview(reviews)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
	r.Header.Set("Authorization", "Bearer good")
	if _, err := a.Authenticate(r); !errors.Is(err, errRefused) {
		t.Errorf("Authenticate() = %v, want %v", err, errRefused)
	}
	reviews.err = nil
	if caller, err := a.Authenticate(r); err != nil || caller.UserID == "" {
		t.Errorf("Authenticate() = %q, %v; want a user", caller.UserID, err)
	}
}
