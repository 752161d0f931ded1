// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package workerpool

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// +kubebuilder:rbac:groups="",resources=pods,verbs=list;patch

// preferIdle makes the ReplicaSet remove the workers with the fewest scans. A ReplicaSet removes pods with the lowest
// deletion cost first. Nothing is written if it would remove those workers anyway.
func (r *Reconciler) preferIdle(ctx context.Context, pool *v1alpha1.WorkerPool, g workerGroup) error {
	pods := &metav1.PartialObjectMetadataList{}
	pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	if err := r.APIReader.List(ctx, pods, client.InNamespace(pool.Namespace), client.MatchingLabels(g.labels(pool))); err != nil {
		return fmt.Errorf("list the pods of %q: %w", g.name, err)
	}
	pods.Items = slices.DeleteFunc(pods.Items, func(p metav1.PartialObjectMetadata) bool { return !p.DeletionTimestamp.IsZero() })
	loads := r.Scheduler.PodLoads(client.ObjectKeyFromObject(pool))
	if idleFirst(pods.Items, loads, int(g.replicas)) {
		return nil
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if deletionCost(pod) == loads[pod.Name] {
			continue
		}
		before := pod.DeepCopy()
		metav1.SetMetaDataAnnotation(&pod.ObjectMeta, corev1.PodDeletionCost, strconv.Itoa(loads[pod.Name]))
		if err := r.Client.Patch(ctx, pod, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("set the deletion cost of pod %q: %w", pod.Name, err)
		}
	}
	return nil
}

// idleFirst reports whether the present deletion costs already remove the pods with the least load when keep pods are
// left.
func idleFirst(pods []metav1.PartialObjectMetadata, loads map[string]int, keep int) bool {
	order := slices.Clone(pods)
	slices.SortFunc(order, func(a, b metav1.PartialObjectMetadata) int {
		return cmp.Or(cmp.Compare(loads[a.Name], loads[b.Name]), cmp.Compare(a.Name, b.Name))
	})
	removed := max(len(order)-keep, 0)
	for _, removedPod := range order[:removed] {
		for _, kept := range order[removed:] {
			if loads[removedPod.Name] < loads[kept.Name] && deletionCost(&removedPod) >= deletionCost(&kept) {
				return false
			}
		}
	}
	return true
}

// deletionCost is the value of a pod's annotation; 0 if it is missing or malformed, as in Kubernetes.
func deletionCost(pod *metav1.PartialObjectMetadata) int {
	cost, err := strconv.ParseInt(pod.Annotations[corev1.PodDeletionCost], 10, 32)
	if err != nil {
		return 0
	}
	return int(cost)
}
