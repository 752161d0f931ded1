// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localkubelet

import (
	"context"
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// hostIP is the address of the node.
const hostIP = "127.0.0.1"

// podStatus is what the pod's status should be. containers is nil until they
// are started; why then says what they wait for, and the container statuses in
// pod are those of an earlier run of the node.
func podStatus(pod *corev1.Pod, ip string, containers []corev1.ContainerStatus, why problem, now metav1.Time) corev1.PodStatus {
	status := corev1.PodStatus{
		Phase:              corev1.PodPending,
		HostIP:             hostIP,
		HostIPs:            []corev1.HostIP{{IP: hostIP}},
		PodIP:              ip,
		StartTime:          pod.Status.StartTime,
		QOSClass:           pod.Status.QOSClass,
		ObservedGeneration: pod.Generation,
		Conditions:         slices.Clone(pod.Status.Conditions),
		ContainerStatuses:  containers,
	}
	if ip != "" {
		status.PodIPs = []corev1.PodIP{{IP: ip}}
	}
	if status.StartTime == nil {
		status.StartTime = &now
	}
	if containers == nil {
		status.ContainerStatuses = waitingStatuses(pod, why)
	}

	running, ended, failed, ready := 0, 0, 0, 0
	for i := range containers {
		switch state := &containers[i].State; {
		case state.Terminated != nil:
			ended++
			if state.Terminated.ExitCode != 0 {
				failed++
			}
		case state.Running != nil, containers[i].RestartCount > 0, containers[i].LastTerminationState.Terminated != nil:
			running++ // a container between two runs counts as running
		}
		if containers[i].Ready {
			ready++
		}
	}
	started := len(containers) > 0
	switch all := len(containers); {
	case !started:
	case pod.DeletionTimestamp != nil && ended == all && failed > 0:
		status.Phase = corev1.PodFailed
	case pod.DeletionTimestamp != nil && ended == all:
		status.Phase = corev1.PodSucceeded
	case running+ended == all:
		status.Phase = corev1.PodRunning
	}

	allReady := started && ready == len(containers)
	conditions := &status.Conditions
	setPodCondition(conditions, corev1.PodScheduled, true, "", pod, now)
	setPodCondition(conditions, corev1.PodReadyToStartContainers, ip != "", "", pod, now)
	setPodCondition(conditions, corev1.PodInitialized, true, "", pod, now)
	setPodCondition(conditions, corev1.ContainersReady, allReady, "ContainersNotReady", pod, now)
	reason := "ContainersNotReady"
	if allReady && !gatesOpen(pod) {
		reason = "ReadinessGatesNotReady"
	}
	setPodCondition(conditions, corev1.PodReady, allReady && gatesOpen(pod), reason, pod, now)
	return status
}

// waitingStatuses are the statuses of containers that have not been started.
func waitingStatuses(pod *corev1.Pod, why problem) []corev1.ContainerStatus {
	reason := why.reason
	if reason == "" {
		reason = "ContainerCreating"
	}
	var out []corev1.ContainerStatus
	for i := range pod.Spec.Containers {
		status := firstStatus(pod, &pod.Spec.Containers[i])
		status.State.Waiting = &corev1.ContainerStateWaiting{Reason: reason, Message: why.message}
		out = append(out, status)
	}
	return out
}

// gatesOpen says whether the conditions named by the pod's readiness gates,
// which others set, are true.
func gatesOpen(pod *corev1.Pod) bool {
	for _, gate := range pod.Spec.ReadinessGates {
		if !slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == gate.ConditionType && c.Status == corev1.ConditionTrue
		}) {
			return false
		}
	}
	return true
}

func setPodCondition(all *[]corev1.PodCondition, kind corev1.PodConditionType, ok bool, reason string, pod *corev1.Pod, now metav1.Time) {
	c := corev1.PodCondition{
		Type: kind, Status: corev1.ConditionFalse, Reason: reason,
		LastTransitionTime: now, ObservedGeneration: pod.Generation,
	}
	if ok {
		c.Status, c.Reason = corev1.ConditionTrue, ""
	}
	at := slices.IndexFunc(*all, func(old corev1.PodCondition) bool { return old.Type == kind })
	if at < 0 {
		*all = append(*all, c)
		return
	}
	if old := (*all)[at]; old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	(*all)[at] = c
}

// report patches the pod's status if it has changed.
func (r *podRunner) report(ctx context.Context, pod *corev1.Pod) {
	var statuses []corev1.ContainerStatus
	for _, c := range r.containers {
		statuses = append(statuses, c.currentStatus())
	}
	basis := pod.DeepCopy()
	basis.Status.ContainerStatuses = r.first.Status.ContainerStatuses
	if r.reported != nil {
		// The watch may be behind the status written last.
		basis.Status.StartTime = r.reported.StartTime
		for _, c := range r.reported.Conditions {
			setKnown(&basis.Status.Conditions, c)
		}
	}
	status := podStatus(basis, r.ip, statuses, r.problem, metav1.NewTime(r.node.clock.Now()))
	if r.reported != nil && apiequality.Semantic.DeepEqual(*r.reported, status) {
		return
	}
	if err := r.node.patchPodStatus(ctx, pod, &status); err != nil {
		if !apierrors.IsNotFound(err) && ctx.Err() == nil {
			r.node.log.Error(err, "cannot report a pod's status; it is tried again at its next change", "pod", pod.Name)
		}
		return
	}
	r.reported = &status
}

// setKnown puts one of the node's own conditions in place of what the watch
// shows; conditions that others set stay as the watch shows them.
func setKnown(all *[]corev1.PodCondition, c corev1.PodCondition) {
	switch c.Type {
	case corev1.PodScheduled, corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady:
	default:
		return
	}
	if at := slices.IndexFunc(*all, func(old corev1.PodCondition) bool { return old.Type == c.Type }); at >= 0 {
		(*all)[at] = c
		return
	}
	*all = append(*all, c)
}

// patchPodStatus writes the whole status. Except for readiness gates, the node is
// its only writer, so no version has to be compared.
func (n *Node) patchPodStatus(ctx context.Context, pod *corev1.Pod, status *corev1.PodStatus) error {
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID}, // fails if another pod of this name took its place
		"status":   status,
	})
	if err != nil {
		return err
	}
	_, err = n.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, body, metav1.PatchOptions{}, "status")
	return err
}

// confirmDeletion removes the pod's object: its processes are gone.
func (n *Node) confirmDeletion(ctx context.Context, pod *corev1.Pod) {
	err := n.client.CoreV1().Pods(pod.Namespace).Delete(context.WithoutCancel(ctx), pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64(0)),
		Preconditions:      &metav1.Preconditions{UID: &pod.UID},
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		n.log.Error(err, "cannot confirm a pod's deletion", "pod", pod.Name)
	}
}
