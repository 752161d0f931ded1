// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/kube"
)

// Rate limit of the requests for the Lease: a renewal every five seconds, and its retries.
const (
	leaseQPS   = 5
	leaseBurst = 10
)

// newClients returns a client for scans and budgets and one for the Lease, whose renewals must not wait for the rate
// limit of the other. It makes no request: a worker starts while the API server is down.
func newClients(config *rest.Config, o options) (work client.WithWatch, leases client.Client, err error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), coordinationv1.AddToScheme(scheme)); err != nil {
		return nil, nil, fmt.Errorf("register the API types: %w", err)
	}
	options := client.Options{Scheme: scheme, Mapper: kube.RESTMapper()}

	config = rest.CopyConfig(config)
	config.UserAgent = "scan-worker"
	config.QPS, config.Burst = float32(o.qps), o.burst
	if work, err = client.NewWithWatch(config, options); err != nil {
		return nil, nil, fmt.Errorf("make a client of the API server: %w", err)
	}
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = leaseQPS, leaseBurst
	if leases, err = client.New(config, options); err != nil {
		return nil, nil, fmt.Errorf("make a client of the API server for the Lease: %w", err)
	}
	return work, leases, nil
}
