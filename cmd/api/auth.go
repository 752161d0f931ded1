// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/eco2-team/scan-operator/internal/httpapi/auth"
)

// newAuthenticator returns the authenticator of --auth.
func newAuthenticator(o options, config *rest.Config) (auth.Authenticator, error) {
	if o.auth == authTokenReview {
		config = rest.CopyConfig(config)
		config.QPS = -1 // no limit of the client's own: reviews are cached, and a caller must not wait for it
		clientset, err := kubernetes.NewForConfig(config)
		if err != nil {
			return nil, fmt.Errorf("prepare token reviews: %w", err)
		}
		return auth.NewTokenReview(clientset.AuthenticationV1().TokenReviews()), nil
	}
	trusted, err := auth.ParseTrustedProxies(o.trustedProxies)
	if err != nil {
		return nil, fmt.Errorf("--trusted-proxies: %w", err)
	}
	return auth.Gateway{TrustedProxies: trusted}, nil
}
