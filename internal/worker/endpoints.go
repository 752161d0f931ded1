// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// Endpoints has the provider's base URL of each TokenBudget in a namespace, from a watch.
type Endpoints struct {
	client    client.WithWatch
	namespace string
	fallback  string
	store     cache.Store
}

// NewEndpoints returns Endpoints that uses fallback for budgets whose spec.endpoint is empty. The watch starts with Run.
func NewEndpoints(c client.WithWatch, namespace, fallback string) *Endpoints {
	return &Endpoints{client: c, namespace: namespace, fallback: fallback, store: cache.NewStore(cache.MetaNamespaceKeyFunc)}
}

// Run watches the budgets until ctx ends.
func (e *Endpoints) Run(ctx context.Context) {
	mirror(ctx, e.client, e.namespace, &v1alpha1.TokenBudget{},
		func() client.ObjectList { return &v1alpha1.TokenBudgetList{} }, nil, e.store)
}

// Endpoint returns the base URL of a budget. It reads a budget that the watch has not delivered from the API server: a
// guess could send one provider's key to another. An error means that the budget does not exist or cannot be read.
func (e *Endpoints) Endpoint(budget string) (string, error) {
	key := types.NamespacedName{Namespace: e.namespace, Name: budget}
	object, known, err := e.store.GetByKey(key.String())
	if err != nil {
		return "", fmt.Errorf("look up TokenBudget %s: %w", budget, err)
	}
	found, ok := object.(*v1alpha1.TokenBudget)
	if !known || !ok {
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		defer cancel()
		found = &v1alpha1.TokenBudget{}
		if err := e.client.Get(ctx, key, found); err != nil {
			return "", fmt.Errorf("read TokenBudget %s: %w", budget, err)
		}
	}
	if found.Spec.Endpoint == "" {
		return e.fallback, nil
	}
	return found.Spec.Endpoint, nil
}
