package localkubelet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// enqueueDeployment is told of Deployments that appeared, changed or went away.
func (n *Node) enqueueDeployment(obj any) {
	if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = tombstone.Obj
	}
	if d, ok := obj.(*appsv1.Deployment); ok && n.opts.Selector.Matches(labels.Set(d.Labels)) {
		n.queue.Add(types.NamespacedName{Namespace: d.Namespace, Name: d.Name})
	}
}

func (n *Node) enqueueOwner(pod *corev1.Pod) {
	if ref := metav1.GetControllerOf(pod); ref != nil && ref.Kind == "Deployment" {
		n.queue.Add(types.NamespacedName{Namespace: pod.Namespace, Name: ref.Name})
	}
}

// runController works off the queue until it is shut down.
func (n *Node) runController(ctx context.Context) {
	for {
		key, stop := n.queue.Get()
		if stop {
			return
		}
		again, err := n.syncDeployment(ctx, key)
		switch {
		case err != nil && ctx.Err() == nil && !apierrors.IsConflict(err):
			n.log.Error(err, "cannot bring a Deployment to its spec; trying again", "deployment", key.Name)
			n.queue.AddRateLimited(key)
		case err != nil:
			n.queue.AddRateLimited(key)
		default:
			n.queue.Forget(key)
			if again > 0 {
				n.queue.AddAfter(key, again)
			}
		}
		n.queue.Done(key)
	}
}

// syncDeployment brings one Deployment's pods and status closer to its spec. It
// reads from the API server, not from a cache: a pod created a moment ago must
// not be created again. again is when to look again without an event.
func (n *Node) syncDeployment(ctx context.Context, key types.NamespacedName) (again time.Duration, err error) {
	d, err := n.client.AppsV1().Deployments(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("read Deployment %s: %w", key, err)
	}
	exists := err == nil
	pods, orphans, err := n.podsOf(ctx, key, d, exists)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, pod := range orphans { // of a Deployment that is gone: there is no other collector here
		errs = append(errs, n.deletePod(ctx, pod))
	}
	if !exists || !n.opts.Selector.Matches(labels.Set(d.Labels)) {
		return 0, errors.Join(errs...)
	}

	now := n.clock.Now()
	p := makePlan(d, pods, now)
	for range p.create {
		_, err := n.client.CoreV1().Pods(d.Namespace).Create(ctx, newPod(d, n.opts.Name), metav1.CreateOptions{})
		if err != nil {
			errs = append(errs, fmt.Errorf("create a pod for Deployment %s: %w", key, err))
			break // the next would fail alike
		}
	}
	for _, pod := range p.remove {
		errs = append(errs, n.deletePod(ctx, pod))
	}
	for _, pod := range pods {
		if finished(pod) && pod.DeletionTimestamp == nil {
			errs = append(errs, n.deletePod(ctx, pod))
		}
	}

	status := deploymentStatus(d, pods, now)
	if !apiequality.Semantic.DeepEqual(d.Status, status) {
		updated := d.DeepCopy()
		updated.Status = status
		_, err := n.client.AppsV1().Deployments(d.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("update the status of Deployment %s: %w", key, err))
		}
	}
	if d.DeletionTimestamp != nil && len(pods) == 0 {
		errs = append(errs, n.finishForegroundDeletion(ctx, d))
	}
	return sooner(p.after, untilProgressDeadline(d, &status, now)), errors.Join(errs...)
}

// podsOf are the pods the Deployment controls, and those that a former
// Deployment of the same name has left behind.
func (n *Node) podsOf(ctx context.Context, key types.NamespacedName, d *appsv1.Deployment, exists bool) (own, orphans []*corev1.Pod, err error) {
	list, err := n.client.CoreV1().Pods(key.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + n.opts.Name})
	if err != nil {
		return nil, nil, fmt.Errorf("list the pods of Deployment %s: %w", key, err)
	}
	for i := range list.Items {
		pod := &list.Items[i]
		ref := metav1.GetControllerOf(pod)
		switch {
		case ref == nil || ref.Kind != "Deployment" || ref.Name != key.Name:
		case exists && ref.UID == d.UID:
			own = append(own, pod)
		case pod.DeletionTimestamp == nil:
			orphans = append(orphans, pod)
		}
	}
	return own, orphans, nil
}

func (n *Node) deletePod(ctx context.Context, pod *corev1.Pod) error {
	err := n.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, onlyIfUID(pod.UID))
	if err = ignoreNotFound(err); err != nil {
		return fmt.Errorf("delete pod %s: %w", pod.Name, err)
	}
	return nil
}

// finishForegroundDeletion lets a Deployment go that was deleted with
// --cascade=foreground, now that its pods are gone.
func (n *Node) finishForegroundDeletion(ctx context.Context, d *appsv1.Deployment) error {
	at := slices.Index(d.Finalizers, metav1.FinalizerDeleteDependents)
	if at < 0 {
		return nil
	}
	updated := d.DeepCopy()
	updated.Finalizers = slices.Delete(updated.Finalizers, at, at+1)
	_, err := n.client.AppsV1().Deployments(d.Namespace).Update(ctx, updated, metav1.UpdateOptions{})
	return ignoreNotFound(err)
}

// sooner is the smaller of two waits, where 0 means none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
