package httpapi

import (
	"context"
	"crypto/sha256"
	"net/http"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"
)

const (
	// reviewTTL is how long a token's review is believed. A token that is revoked works this much longer.
	reviewTTL = 30 * time.Second
	// reviewTimeout bounds one review.
	reviewTimeout = 5 * time.Second
	// maxReviews bounds the reviews that are kept.
	maxReviews = 4096
	// maxTokenBytes bounds a token; the API server's own are about a kilobyte.
	maxTokenBytes = 8 << 10
)

// TokenReviewer reviews tokens. It is a part of client-go's interface of the same kind.
type TokenReviewer interface {
	Create(ctx context.Context, review *authenticationv1.TokenReview, o metav1.CreateOptions) (*authenticationv1.TokenReview, error)
}

// TokenReviewAuthenticator takes callers in the cluster by their service account's token: the user is the one that
// the API server knows the token by.
type TokenReviewAuthenticator struct {
	reviewer TokenReviewer
	clock    clock.PassiveClock

	mu      sync.Mutex
	reviews *lru.Cache // by the token's hash
}

type review struct {
	user string // empty: the token is not valid
	at   time.Time
}

// NewTokenReviewAuthenticator returns an authenticator that asks the reviewer about each token it has not asked
// about lately.
func NewTokenReviewAuthenticator(reviewer TokenReviewer, c clock.PassiveClock) *TokenReviewAuthenticator {
	return &TokenReviewAuthenticator{reviewer: reviewer, clock: c, reviews: lru.New(maxReviews)}
}

// Authenticate reviews the request's bearer token.
func (a *TokenReviewAuthenticator) Authenticate(r *http.Request) (Caller, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" || len(token) > maxTokenBytes {
		return Caller{}, unauthorized("Send a service account's token as Authorization: Bearer.")
	}
	hash := sha256.Sum256([]byte(token))
	known, ok := a.known(hash)
	if !ok {
		var err error
		if known, err = a.ask(r.Context(), token); err != nil {
			return Caller{}, fromKubernetes(err)
		}
		a.keep(hash, known)
	}
	if known.user == "" {
		return Caller{}, unauthorized("The token is not valid.")
	}
	return callerOf(known.user)
}

func (a *TokenReviewAuthenticator) known(hash [sha256.Size]byte) (review, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	kept, ok := a.reviews.Get(hash)
	if !ok {
		return review{}, false
	}
	known, ok := kept.(review)
	return known, ok && a.clock.Since(known.at) < reviewTTL
}

func (a *TokenReviewAuthenticator) keep(hash [sha256.Size]byte, known review) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reviews.Add(hash, known)
}

func (a *TokenReviewAuthenticator) ask(ctx context.Context, token string) (review, error) {
	ctx, stop := context.WithTimeout(ctx, reviewTimeout)
	defer stop()
	answer, err := a.reviewer.Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token},
	}, metav1.CreateOptions{})
	if err != nil {
		return review{}, err
	}
	reviewed := review{at: a.clock.Now()}
	if answer.Status.Authenticated {
		reviewed.user = answer.Status.User.Username
	}
	return reviewed, nil
}
