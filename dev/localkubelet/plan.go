package localkubelet

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/rand"
)

// plan is what brings a Deployment's pods closer to its spec. The zero value
// means that nothing is to be done until something changes.
type plan struct {
	// create is how many pods of the current template are missing.
	create int
	// remove are the pods to delete, in this order.
	remove []*corev1.Pod
	// after is when to look again although nothing changed: a ready pod becomes
	// available by time alone. Zero means never.
	after time.Duration
}

// makePlan compares a Deployment with its pods. pods are all pods the
// Deployment controls, the terminating ones included; the same input always
// gives the same plan.
//
// It follows the Deployment controller's rules: terminating pods count as
// gone, at most maxSurge pods more than desired exist, and at least desired
// minus maxUnavailable stay available.
func makePlan(d *appsv1.Deployment, pods []*corev1.Pod, now time.Time) plan {
	g := group(d, pods, now)
	if d.DeletionTimestamp != nil {
		return plan{remove: slices.Concat(g.old, g.current)}
	}
	desired := int(replicas(d))
	p := plan{after: g.nextAvailable}

	switch {
	case d.Spec.Paused || len(g.old) == 0 && !g.recreating(d):
		live := slices.Concat(g.old, g.current)
		p.create = max(0, desired-len(live))
		p.remove = victims(live, len(live)-desired)
	case d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		p.remove = victims(g.old, len(g.old))
	default:
		surge, unavailable := rolloutBounds(d)
		total := len(g.old) + len(g.current)
		p.create = min(max(0, desired+surge-total), max(0, desired-len(g.current)))
		p.remove = victims(g.current, len(g.current)-desired)
		p.remove = append(p.remove, g.replaceable(desired-unavailable)...)
	}
	return p
}

// grouped are a Deployment's pods, sorted by what a rollout does with them.
type grouped struct {
	old, current  []*corev1.Pod // alive, of an older and of the current template
	terminating   []*corev1.Pod
	available     map[*corev1.Pod]bool
	nextAvailable time.Duration
}

func group(d *appsv1.Deployment, pods []*corev1.Pod, now time.Time) grouped {
	g := grouped{available: map[*corev1.Pod]bool{}}
	hash := templateHash(&d.Spec.Template)
	for _, pod := range pods {
		switch {
		case pod.DeletionTimestamp != nil:
			g.terminating = append(g.terminating, pod)
			continue
		case finished(pod):
			// A pod that ended for good is nobody's replica.
			continue
		case pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey] == hash:
			g.current = append(g.current, pod)
		default:
			g.old = append(g.old, pod)
		}
		since, ready := readySince(pod)
		if !ready {
			continue
		}
		wait := time.Duration(d.Spec.MinReadySeconds)*time.Second - now.Sub(since)
		if wait <= 0 {
			g.available[pod] = true
		} else if g.nextAvailable == 0 || wait < g.nextAvailable {
			g.nextAvailable = wait
		}
	}
	return g
}

// recreating says whether pods of an older template still hold up a Recreate
// rollout: its new pods come only when the last old one is gone.
func (g grouped) recreating(d *appsv1.Deployment) bool {
	if d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		return false
	}
	hash := templateHash(&d.Spec.Template)
	return slices.ContainsFunc(g.terminating, func(pod *corev1.Pod) bool {
		return pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey] != hash
	})
}

// replaceable are the old pods that may go now so that at least minAvailable
// pods stay available: those that do no work, then as many of the others as
// there are available pods to spare.
func (g grouped) replaceable(minAvailable int) []*corev1.Pod {
	spare := len(g.available) - minAvailable
	order := slices.Clone(g.old)
	sortVictims(order)
	var out []*corev1.Pod
	for _, pod := range order {
		if g.available[pod] {
			if spare <= 0 {
				continue
			}
			spare--
		}
		out = append(out, pod)
	}
	return out
}

// rolloutBounds are maxSurge and maxUnavailable in pods. As in the API, a
// percentage is rounded up for the surge and down for the unavailable, the
// default is 25 % each, and not both are 0: the rollout would never move.
func rolloutBounds(d *appsv1.Deployment) (surge, unavailable int) {
	quarter := intstr.FromString("25%")
	maxSurge, maxUnavailable := &quarter, &quarter
	if r := d.Spec.Strategy.RollingUpdate; r != nil {
		maxSurge = cmp.Or(r.MaxSurge, maxSurge)
		maxUnavailable = cmp.Or(r.MaxUnavailable, maxUnavailable)
	}
	desired := int(replicas(d))
	// The API server has validated both; a value that cannot be scaled is 0.
	surge, _ = intstr.GetScaledValueFromIntOrPercent(maxSurge, desired, true)
	unavailable, _ = intstr.GetScaledValueFromIntOrPercent(maxUnavailable, desired, false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, unavailable
}

// victims are the n pods to give up first; none when n is not positive.
func victims(pods []*corev1.Pod, n int) []*corev1.Pod {
	if n <= 0 {
		return nil
	}
	order := slices.Clone(pods)
	sortVictims(order)
	return order[:min(n, len(order))]
}

// sortVictims puts the pods that cost least to lose first, in the order of the
// ReplicaSet controller: not yet running, not ready, lowest
// controller.kubernetes.io/pod-deletion-cost, ready for the shortest time, most
// restarts, youngest.
func sortVictims(pods []*corev1.Pod) {
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int {
		sinceA, readyA := readySince(a)
		sinceB, readyB := readySince(b)
		return cmp.Or(
			cmpFalseFirst(a.Status.Phase == corev1.PodRunning, b.Status.Phase == corev1.PodRunning),
			cmpFalseFirst(readyA, readyB),
			cmp.Compare(deletionCost(a), deletionCost(b)),
			sinceB.Compare(sinceA),
			cmp.Compare(restarts(b), restarts(a)),
			b.CreationTimestamp.Compare(a.CreationTimestamp.Time),
			cmp.Compare(a.Name, b.Name),
		)
	})
}

func cmpFalseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// deletionCost is the pod's annotation, or 0 if it has none or a broken one.
func deletionCost(pod *corev1.Pod) int32 {
	cost, err := strconv.ParseInt(pod.Annotations[corev1.PodDeletionCost], 10, 32)
	if err != nil {
		return 0
	}
	return int32(cost)
}

func restarts(pod *corev1.Pod) (n int32) {
	for i := range pod.Status.ContainerStatuses {
		n = max(n, pod.Status.ContainerStatuses[i].RestartCount)
	}
	return n
}

// readySince is when the pod became ready; ok is false if it is not.
func readySince(pod *corev1.Pod) (since time.Time, ok bool) {
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time, true
		}
	}
	return time.Time{}, false
}

func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// replicas is the wanted number of pods; the API's default is 1.
func replicas(d *appsv1.Deployment) int32 {
	if d.Spec.Replicas == nil {
		return 1
	}
	return *d.Spec.Replicas
}

// templateHash names a pod template: equal templates have equal hashes.
func templateHash(template *corev1.PodTemplateSpec) string {
	data, err := json.Marshal(template)
	if err != nil {
		// A template that came from the API server can go back to it.
		panic(fmt.Sprintf("encode a pod template: %v", err))
	}
	h := fnv.New32a()
	_, _ = h.Write(data) // a hash takes every write
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}

// newPod is a pod of the Deployment's current template, bound to the node.
func newPod(d *appsv1.Deployment, node string) *corev1.Pod {
	template := d.Spec.Template.DeepCopy()
	hash := templateHash(&d.Spec.Template)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName:    d.Name + "-" + hash + "-",
			Namespace:       d.Namespace,
			Labels:          template.Labels,
			Annotations:     template.Annotations,
			Finalizers:      template.Finalizers,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment"))},
		},
		Spec: template.Spec,
	}
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	pod.Spec.NodeName = node
	pod.Spec.ServiceAccountName = serviceAccount(pod) // as the admission plug-in of a cluster does
	return pod
}
