// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localkubelet

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// unscheduled reports whether the pod still needs a node.
func unscheduled(pod *corev1.Pod) bool {
	return pod.Spec.NodeName == "" && pod.DeletionTimestamp == nil
}

// runScheduler binds pods to the node until the queue is shut down. There is one
// node, so there is nothing to choose.
func (n *Node) runScheduler(ctx context.Context) {
	for {
		key, stop := n.unbound.Get()
		if stop {
			return
		}
		if err := n.bind(ctx, key); err != nil && ctx.Err() == nil {
			n.log.Error(err, "cannot bind a pod to the node; trying again", "pod", key.Name)
			n.unbound.AddRateLimited(key)
		} else {
			n.unbound.Forget(key)
		}
		n.unbound.Done(key)
	}
}

// bind assigns the pod to the node. A pod that is gone or has a node needs
// nothing.
func (n *Node) bind(ctx context.Context, key types.NamespacedName) error {
	pods := n.client.CoreV1().Pods(key.Namespace)
	pod, err := pods.Get(ctx, key.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && !unscheduled(pod) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read pod %s: %w", key, err)
	}
	err = pods.Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: n.opts.Name},
	}, metav1.CreateOptions{})
	if err = ignoreNotFound(err); err != nil {
		return fmt.Errorf("bind pod %s to node %q: %w", key, n.opts.Name, err)
	}
	return nil
}
