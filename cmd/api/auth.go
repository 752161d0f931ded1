package main

import (
	"fmt"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/eco2-team/scan-operator/internal/httpapi"
)

// newAuthenticator returns the authenticator of --auth.
func newAuthenticator(o options, config *rest.Config) (httpapi.Authenticator, error) {
	if o.auth == authTokenReview {
		config = rest.CopyConfig(config)
		config.QPS = -1 // reviews are kept; a caller does not wait for the client's own limit
		clientset, err := kubernetes.NewForConfig(config)
		if err != nil {
			return nil, fmt.Errorf("prepare token reviews: %w", err)
		}
		return httpapi.NewTokenReviewAuthenticator(clientset.AuthenticationV1().TokenReviews(), clock.RealClock{}), nil
	}
	trusted, err := httpapi.ParseTrustedProxies(o.trustedProxies)
	if err != nil {
		return nil, fmt.Errorf("--trusted-proxies: %w", err)
	}
	return httpapi.GatewayAuthenticator{TrustedProxies: trusted}, nil
}
