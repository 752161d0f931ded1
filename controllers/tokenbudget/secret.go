// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tokenbudget

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

// SecretChecker checks that a budget's key exists. It reads Secrets one by one and keeps none: the manager caches only
// their metadata and never needs the key itself.
type SecretChecker struct {
	// APIReader reads from the API server.
	APIReader client.Reader
}

// Check returns the state of a budget's key. A missing Secret or key is a state, not an error.
func (k *SecretChecker) Check(ctx context.Context, b *v1alpha1.TokenBudget) (scheduler.KeyState, error) {
	ref, secret := b.Spec.SecretRef, &corev1.Secret{}
	switch err := k.APIReader.Get(ctx, client.ObjectKey{Namespace: b.Namespace, Name: ref.Name}, secret); {
	case apierrors.IsNotFound(err):
		return scheduler.KeyState{
			Reason:  v1alpha1.ReasonSecretNotFound,
			Message: fmt.Sprintf("Secret %q does not exist; create it with the provider's key under %q", ref.Name, ref.Key),
		}, nil
	case err != nil:
		return scheduler.KeyState{}, fmt.Errorf("get Secret %q of TokenBudget %q: %w", ref.Name, b.Name, err)
	}
	value := secret.Data[ref.Key]
	if len(value) == 0 {
		return scheduler.KeyState{
			Reason:  v1alpha1.ReasonSecretKeyNotFound,
			Message: fmt.Sprintf("Secret %q has nothing under %q; put the provider's key there", ref.Name, ref.Key),
		}, nil
	}
	digest := sha256.Sum256(value)
	return scheduler.KeyState{
		Ready: true, Reason: v1alpha1.ReasonKeyFound,
		Message: fmt.Sprintf("Secret %q holds the key", ref.Name),
		Version: hex.EncodeToString(digest[:8]),
	}, nil
}
