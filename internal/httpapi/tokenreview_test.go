package httpapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// reviewer knows one token.
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

func TestTokenReviewAuthenticator(t *testing.T) {
	tests := map[string]struct {
		header    string
		err       error
		wantUser  string
		wantCode  string
		wantAsked int
	}{
		"valid":                  {header: "Bearer good", wantUser: "system:serviceaccount:shop:web", wantAsked: 1},
		"in small letters":       {header: "bearer good", wantUser: "system:serviceaccount:shop:web", wantAsked: 1},
		"not valid":              {header: "Bearer bad", wantCode: scanapi.CodeUnauthorized, wantAsked: 1},
		"none":                   {wantCode: scanapi.CodeUnauthorized},
		"another scheme":         {header: "Basic good", wantCode: scanapi.CodeUnauthorized},
		"empty":                  {header: "Bearer ", wantCode: scanapi.CodeUnauthorized},
		"too long":               {header: "Bearer " + strings.Repeat("x", maxTokenBytes+1), wantCode: scanapi.CodeUnauthorized},
		"the API server is down": {header: "Bearer good", err: errRefused, wantCode: scanapi.CodeUnavailable, wantAsked: 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			reviews := &reviewer{valid: true, err: tt.err}
			a := NewTokenReviewAuthenticator(reviews, clocktesting.NewFakePassiveClock(testStart))
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
			r.Header.Set(scanapi.UserIDHeader, "root")
			r.Header.Set("Authorization", tt.header)
			caller, err := a.Authenticate(r)
			if caller.UserID != tt.wantUser || (err != nil && asProblem(err).code != tt.wantCode) || (err == nil) != (tt.wantCode == "") {
				t.Errorf("Authenticate() = %q, %v; want %q, %s", caller.UserID, err, tt.wantUser, tt.wantCode)
			}
			if reviews.asked != tt.wantAsked {
				t.Errorf("%d reviews, want %d", reviews.asked, tt.wantAsked)
			}
		})
	}
}

func TestTokenReviewsAreBelievedForAWhile(t *testing.T) {
	c := clocktesting.NewFakePassiveClock(testStart)
	reviews := &reviewer{valid: true}
	a := NewTokenReviewAuthenticator(reviews, c)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
	r.Header.Set("Authorization", "Bearer good")
	steps := []struct {
		after     time.Duration
		wantValid bool
		wantAsked int
	}{
		{after: 0, wantValid: true, wantAsked: 1},
		{after: reviewTTL - time.Second, wantValid: true, wantAsked: 1},
		{after: reviewTTL, wantValid: false, wantAsked: 2},
		{after: reviewTTL + time.Second, wantValid: false, wantAsked: 2},
	}
	for _, step := range steps {
		c.SetTime(testStart.Add(step.after))
		_, err := a.Authenticate(r)
		if (err == nil) != step.wantValid || reviews.asked != step.wantAsked {
			t.Errorf("after %s: error %v, %d reviews; want valid %v, %d reviews", step.after, err, reviews.asked, step.wantValid, step.wantAsked)
		}
		reviews.valid = false // revoked
	}
}
