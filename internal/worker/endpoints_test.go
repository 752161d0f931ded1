// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"testing"
	"testing/synctest"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

const fallback = "https://api.example.com/v1"

func budget(name, endpoint string) *v1alpha1.TokenBudget {
	return &v1alpha1.TokenBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       v1alpha1.TokenBudgetSpec{Endpoint: endpoint},
	}
}

func TestEndpointsFollowTheBudgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		c := newFakeClient(t, interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
				reads++
				return c.Get(ctx, key, o, opts...)
			},
		}, budget("own", "https://own.example.com/v1"), budget("default", ""))
		e := NewEndpoints(c, namespace, fallback)
		want := func(name, endpoint string, wantReads int) {
			t.Helper()
			reads = 0
			got, err := e.Endpoint(name)
			if err != nil || got != endpoint || reads != wantReads {
				t.Errorf("Endpoint(%s) = %q, %v with %d reads, want %q with %d", name, got, err, reads, endpoint, wantReads)
			}
		}
		want("own", "https://own.example.com/v1", 1) // the watch has shown nothing yet
		want("default", fallback, 1)

		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go e.Run(ctx)
		synctest.Wait()
		want("own", "https://own.example.com/v1", 0)
		want("default", fallback, 0)

		moved := &v1alpha1.TokenBudget{}
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "own"}, moved); err != nil {
			t.Fatal(err)
		}
		moved.Spec.Endpoint = "https://moved.example.com/v1"
		if err := c.Update(t.Context(), moved); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		want("own", "https://moved.example.com/v1", 0)

		if got, err := e.Endpoint("nowhere"); !apierrors.IsNotFound(err) {
			t.Errorf("Endpoint of a budget that does not exist = %q, %v, want not found", got, err)
		}
		stop()
		synctest.Wait()
	})
}
