// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"context"
	"fmt"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/kube"
)

// Backend is one namespace of a cluster: a watch of its scans and budgets, and a client for the rest.
type Backend struct {
	*Store
	cache   cache.Cache
	scans   cache.Informer
	budgets cache.Informer
	// handled is set once, by Run: whether its handler has got the scans that existed at the start.
	handled atomic.Pointer[func() bool]
}

// NewBackend prepares the connection. It sends no request yet, so that the server can start before the API server.
func NewBackend(config *rest.Config, scheme *runtime.Scheme, namespace string) (*Backend, error) {
	// Submits are limited by --max-unfinished and the other limits, and by the API server itself (API priority and fairness). The
	// client's own limit, 20 requests a second unless it is set, would only delay them.
	config = rest.CopyConfig(config)
	config.QPS = -1
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("make an HTTP client for the API server: %w", err)
	}
	mapper := kube.RESTMapper()
	options := CacheOptions(namespace)
	options.HTTPClient, options.Scheme, options.Mapper = httpClient, scheme, mapper
	watched, err := cache.New(config, options)
	if err != nil {
		return nil, fmt.Errorf("prepare the watch: %w", err)
	}
	live, err := client.New(config, client.Options{HTTPClient: httpClient, Scheme: scheme, Mapper: mapper})
	if err != nil {
		return nil, fmt.Errorf("prepare the client: %w", err)
	}
	b := &Backend{Store: NewStore(namespace, watched, live), cache: watched}
	// The informers are made before the watch runs, so this must not wait for them.
	ctx := context.Background()
	if b.scans, err = watched.GetInformer(ctx, &v1alpha1.ScanRequest{}, cache.BlockUntilSynced(false)); err != nil {
		return nil, fmt.Errorf("prepare the watch of scans: %w", err)
	}
	if b.budgets, err = watched.GetInformer(ctx, &v1alpha1.TokenBudget{}, cache.BlockUntilSynced(false)); err != nil {
		return nil, fmt.Errorf("prepare the watch of budgets: %w", err)
	}
	return b, nil
}

// Live is the client that reads from the API server.
func (b *Backend) Live() client.Client { return b.live }

// Synced says whether the watch has delivered every scan and budget that existed at the start, and the handler of Run
// has handled the scans.
func (b *Backend) Synced() bool {
	handled := b.handled.Load()
	return handled != nil && (*handled)() && b.budgets.HasSynced()
}

// Run watches until ctx is done and passes the events of scans to the handler.
func (b *Backend) Run(ctx context.Context, handler toolscache.ResourceEventHandler) error {
	registration, err := b.scans.AddEventHandler(handler)
	if err != nil {
		return fmt.Errorf("watch scans: %w", err)
	}
	handled := registration.HasSynced
	b.handled.Store(&handled)
	if err := b.cache.Start(ctx); err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	return nil
}
