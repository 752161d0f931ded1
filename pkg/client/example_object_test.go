// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	kube "sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// scanPhoto creates the scan of a photo, unless it was created before, and returns its advice when it has ended. c
// needs the rights to create and to watch scanrequests.
func scanPhoto(ctx context.Context, c kube.WithWatch, photo, url string) (string, error) {
	scan := &v1alpha1.ScanRequest{
		// The name is derived from the photo: a second scan of it is rejected.
		ObjectMeta: metav1.ObjectMeta{Namespace: "scans", Name: "photo-" + photo},
		Spec: v1alpha1.ScanRequestSpec{
			ImageURL: url, UserInput: "이거 어떻게 버려요?", UserID: "nightly-import", DeadlineSeconds: 3600,
		},
	}
	if err := c.Create(ctx, scan); err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("create scan %s: %w", scan.Name, err)
	}
	events, err := c.Watch(ctx, &v1alpha1.ScanRequestList{}, kube.InNamespace(scan.Namespace), kube.MatchingFields{"metadata.name": scan.Name})
	if err != nil {
		return "", fmt.Errorf("watch scan %s: %w", scan.Name, err)
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		scan, ok := event.Object.(*v1alpha1.ScanRequest)
		if !ok {
			return "", fmt.Errorf("watch: %w", apierrors.FromObject(event.Object))
		}
		finished := meta.FindStatusCondition(scan.Status.Conditions, v1alpha1.ConditionFinished)
		switch {
		case finished == nil || finished.Status != metav1.ConditionTrue:
		case scan.Status.Phase == v1alpha1.ScanSucceeded:
			return scan.Status.Result.Answer.UserAnswer, nil
		default:
			return "", fmt.Errorf("scan %s failed: %s: %s", scan.Name, finished.Reason, finished.Message)
		}
	}
	// A watch ends from time to time, and with ctx. A controller's cache reopens it.
	return "", errors.Join(ctx.Err(), fmt.Errorf("the watch of scan %s ended", scan.Name))
}

// A program in the cluster may create the object itself and watch it.
func Example_createTheObject() {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		fmt.Println(err)
		return
	}
	// In the cluster: kube.NewWithWatch(ctrl.GetConfigOrDie(), kube.Options{Scheme: scheme}).
	c := operated(fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.ScanRequest{}))

	for range 2 { // the second time finds the first scan
		answer, err := scanPhoto(context.Background(), c, "7", "https://images.example.com/box.jpg")
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(answer)
	}
	// Output:
	// 상자를 펴서 묶어 내놓으세요.
	// 상자를 펴서 묶어 내놓으세요.
}

// operated is a cluster in memory whose operator has finished every scan by the time of the watch. The fake client
// cannot watch one name, so it watches them all.
func operated(builder *fake.ClientBuilder) kube.WithWatch {
	return builder.WithInterceptorFuncs(interceptor.Funcs{
		Watch: func(ctx context.Context, c kube.WithWatch, list kube.ObjectList, _ ...kube.ListOption) (watch.Interface, error) {
			events, err := c.Watch(ctx, list, kube.InNamespace("scans"))
			if err != nil {
				return nil, err
			}
			var scans v1alpha1.ScanRequestList
			if err := c.List(ctx, &scans, kube.InNamespace("scans")); err != nil {
				return nil, err
			}
			for i := range scans.Items {
				scan := &scans.Items[i]
				scan.Status.Phase = v1alpha1.ScanSucceeded
				scan.Status.Result = &v1alpha1.ScanResult{Answer: &v1alpha1.Answer{UserAnswer: "상자를 펴서 묶어 내놓으세요."}}
				meta.SetStatusCondition(&scan.Status.Conditions, metav1.Condition{
					Type: v1alpha1.ConditionFinished, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonSucceeded,
				})
				if err := c.Status().Update(ctx, scan); err != nil {
					return nil, err
				}
			}
			return events, nil
		},
	}).Build()
}
