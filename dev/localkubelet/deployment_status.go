package localkubelet

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// deploymentStatus is what the Deployment's status should say, given its pods.
// It is a pure function: times change only where a condition does.
func deploymentStatus(d *appsv1.Deployment, pods []*corev1.Pod, now time.Time) appsv1.DeploymentStatus {
	g := group(d, pods, now)
	status := appsv1.DeploymentStatus{
		ObservedGeneration:  d.Generation,
		Replicas:            int32(len(g.old) + len(g.current)),
		UpdatedReplicas:     int32(len(g.current)),
		AvailableReplicas:   int32(len(g.available)),
		TerminatingReplicas: new(int32(len(g.terminating))),
		CollisionCount:      d.Status.CollisionCount,
		Conditions:          d.Status.DeepCopy().Conditions,
	}
	for _, pod := range pods {
		if _, ready := readySince(pod); ready && pod.DeletionTimestamp == nil && !finished(pod) {
			status.ReadyReplicas++
		}
	}
	status.UnavailableReplicas = max(0, max(status.Replicas, replicas(d))-status.AvailableReplicas)

	status.Conditions = setDeploymentCondition(status.Conditions, availability(d, &status), now)
	status.Conditions = setDeploymentCondition(status.Conditions, progress(d, &status, now), now)
	return status
}

func availability(d *appsv1.Deployment, status *appsv1.DeploymentStatus) appsv1.DeploymentCondition {
	_, unavailable := rolloutBounds(d)
	need := max(0, replicas(d)-int32(unavailable))
	if status.AvailableReplicas >= need {
		return appsv1.DeploymentCondition{
			Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue, Reason: "MinimumReplicasAvailable",
			Message: "Deployment has minimum availability.",
		}
	}
	return appsv1.DeploymentCondition{
		Type: appsv1.DeploymentAvailable, Status: corev1.ConditionFalse, Reason: "MinimumReplicasUnavailable",
		Message: fmt.Sprintf("%d of at least %d pods are available.", status.AvailableReplicas, need),
	}
}

// progress says whether the rollout is complete, under way, or has made no
// headway for spec.progressDeadlineSeconds.
func progress(d *appsv1.Deployment, status *appsv1.DeploymentStatus, now time.Time) appsv1.DeploymentCondition {
	condition := appsv1.DeploymentCondition{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue}
	complete := status.UpdatedReplicas == replicas(d) && status.Replicas == replicas(d) &&
		status.AvailableReplicas == replicas(d)
	previous := deploymentCondition(d.Status.Conditions, appsv1.DeploymentProgressing)
	switch {
	case complete:
		condition.Reason = "NewReplicaSetAvailable" // the reason kubectl rollout status and others look for
		condition.Message = "The current template's pods are all available."
	case previous == nil || moved(&d.Status, status) || previous.Reason == "NewReplicaSetAvailable":
		condition.Reason = "ReplicaSetUpdated"
		condition.Message = fmt.Sprintf("%d of %d pods are of the current template.", status.UpdatedReplicas, replicas(d))
		condition.LastUpdateTime = metav1.NewTime(now)
	case now.Sub(previous.LastUpdateTime.Time) >= progressDeadline(d) && !d.Spec.Paused:
		condition.Status = corev1.ConditionFalse
		condition.Reason = "ProgressDeadlineExceeded"
		condition.Message = fmt.Sprintf("No progress for %s; kubectl describe pod shows why.", progressDeadline(d))
	default:
		return *previous
	}
	return condition
}

// moved says whether a rollout came closer to its end between two statuses.
func moved(before, after *appsv1.DeploymentStatus) bool {
	return before.ObservedGeneration != after.ObservedGeneration ||
		after.UpdatedReplicas > before.UpdatedReplicas ||
		after.Replicas-after.UpdatedReplicas < before.Replicas-before.UpdatedReplicas ||
		after.ReadyReplicas > before.ReadyReplicas ||
		after.AvailableReplicas > before.AvailableReplicas
}

func progressDeadline(d *appsv1.Deployment) time.Duration {
	return time.Duration(ptr.Deref(d.Spec.ProgressDeadlineSeconds, 600)) * time.Second
}

// untilProgressDeadline is when an unfinished rollout counts as stuck, so that
// somebody looks then; 0 if that is past or does not matter.
func untilProgressDeadline(d *appsv1.Deployment, status *appsv1.DeploymentStatus, now time.Time) time.Duration {
	c := deploymentCondition(status.Conditions, appsv1.DeploymentProgressing)
	if c == nil || c.Reason != "ReplicaSetUpdated" {
		return 0
	}
	return max(0, progressDeadline(d)-now.Sub(c.LastUpdateTime.Time))
}

func deploymentCondition(all []appsv1.DeploymentCondition, kind appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range all {
		if all[i].Type == kind {
			return &all[i]
		}
	}
	return nil
}

// setDeploymentCondition puts the condition in place of the one of its type and
// keeps the times of what did not change.
func setDeploymentCondition(all []appsv1.DeploymentCondition, c appsv1.DeploymentCondition, now time.Time) []appsv1.DeploymentCondition {
	previous := deploymentCondition(all, c.Type)
	if previous == nil {
		c.LastTransitionTime, c.LastUpdateTime = metav1.NewTime(now), metav1.NewTime(now)
		return append(all, c)
	}
	c.LastTransitionTime = previous.LastTransitionTime
	if previous.Status != c.Status {
		c.LastTransitionTime = metav1.NewTime(now)
	}
	if c.LastUpdateTime.IsZero() {
		c.LastUpdateTime = previous.LastUpdateTime
		if previous.Status != c.Status || previous.Reason != c.Reason || previous.Message != c.Message {
			c.LastUpdateTime = metav1.NewTime(now)
		}
	}
	*previous = c
	return all
}
