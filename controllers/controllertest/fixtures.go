// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controllertest has the objects and the fake client that the controllers' tests share.
package controllertest

import (
	"context"
	"errors"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// T0 is when the tests begin.
var T0 = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

// Request asks to reconcile the named object of the tests' namespace.
func Request(name string) ctrl.Request {
	return ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "ns", Name: name}}
}

// Calls counts the requests that change something.
type Calls struct {
	Patches, PodPatches, Applies, Deletes int
	// ApplyErr is what the API server answers to an apply.
	ApplyErr error
}

// NewClient returns a fake client with objs in it, which counts its requests in n.
func NewClient(t *testing.T, n *Calls, objs ...client.Object) client.WithWatch {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objs...).
		WithStatusSubresource(&v1alpha1.ScanRequest{}, &v1alpha1.TokenBudget{}, &v1alpha1.WorkerPool{}, &appsv1.Deployment{}).
		WithInterceptorFuncs(n.funcs()).Build()
}

func (n *Calls) funcs() interceptor.Funcs {
	return interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
			n.Patches++
			return c.SubResource(sub).Patch(ctx, obj, patch, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			n.PodPatches++
			return c.Patch(ctx, obj, patch, opts...)
		},
		Apply: func(ctx context.Context, c client.WithWatch, obj runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			n.Applies++
			if n.ApplyErr != nil {
				return n.ApplyErr
			}
			return c.Apply(ctx, obj, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
			n.Deletes++
			stored := obj.DeepCopyObject().(client.Object)
			pre := (&client.DeleteOptions{}).ApplyOptions(opts).Preconditions
			if err := c.Get(ctx, client.ObjectKeyFromObject(obj), stored); err == nil && pre != nil && pre.UID != nil && *pre.UID != stored.GetUID() {
				return apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("objects").GroupResource(), obj.GetName(), errors.New("another UID")) // the fake client does not look
			}
			return c.Delete(ctx, obj, opts...)
		},
	}
}

// ScanOption changes a scan of MakeScan.
type ScanOption func(*v1alpha1.ScanRequest)

// MakeScan returns a pending scan.
func MakeScan(opts ...ScanOption) *v1alpha1.ScanRequest {
	ttl := int32(100)
	s := &v1alpha1.ScanRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a", UID: "uid-a", CreationTimestamp: metav1.NewTime(T0), Generation: 1},
		Spec: v1alpha1.ScanRequestSpec{
			ImageURL: "https://images.example.org/a.jpg", DeadlineSeconds: 300, TTLSecondsAfterFinished: &ttl,
		},
	}
	for _, o := range opts {
		o(s)
	}
	return s
}

// AssignedUntil assigns the scan to a worker until deadline.
func AssignedUntil(deadline time.Time) ScanOption {
	return func(s *v1alpha1.ScanRequest) {
		s.Status.Assignment = &v1alpha1.Assignment{
			ID: "x-1", Stage: v1alpha1.StageVision, Worker: "w1", Attempt: 1, MaxAttempts: 3,
			AssignedAt: metav1.NewMicroTime(T0), Deadline: metav1.NewMicroTime(deadline),
		}
		s.Status.Stages = []v1alpha1.StageStatus{{Name: v1alpha1.StageVision, State: v1alpha1.StageRunning, Worker: "w1"}}
	}
}

// FinishedAt ends the scan at a time.
func FinishedAt(at time.Time) ScanOption {
	return func(s *v1alpha1.ScanRequest) {
		s.Status.FinishedAt = metav1.NewMicroTime(at)
		s.Status.Phase = v1alpha1.ScanSucceeded
	}
}

// MakePool returns a pool of vision and rule workers.
func MakePool(opts ...func(*v1alpha1.WorkerPool)) *v1alpha1.WorkerPool {
	least := int32(2)
	p := &v1alpha1.WorkerPool{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "WorkerPool"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "vision", UID: "uid-p", Generation: 1},
		Spec: v1alpha1.WorkerPoolSpec{
			Stages:               []v1alpha1.StageName{v1alpha1.StageVision, v1alpha1.StageRule},
			Budgets:              []v1alpha1.BudgetReference{{Name: "b", Weight: 1}},
			ConcurrencyPerWorker: 100, MinReplicas: &least, MaxReplicas: 8,
			StageDefaults: v1alpha1.StageDefaults{TimeoutSeconds: 60, MaxAttempts: 5, MaxOutputTokens: 300},
		},
	}
	for _, o := range opts {
		o(p)
	}
	return p
}

// MakeBudget returns a budget of 60,000 tokens a minute.
func MakeBudget() *v1alpha1.TokenBudget {
	return &v1alpha1.TokenBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "b", Generation: 1},
		Spec: v1alpha1.TokenBudgetSpec{
			SecretRef: v1alpha1.SecretKeyReference{Name: "provider-key", Key: "api-key"}, Models: []string{"gpt-5.1"},
			TokensPerMinute: 60_000, RequestsPerMinute: 600, TargetUtilizationPercent: 100,
		},
	}
}

// BehaviorDown lets a pool shrink after so many seconds.
func BehaviorDown(window int32) *autoscalingv2.HorizontalPodAutoscalerBehavior {
	return &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &window}}
}
