package localkubelet

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	clocktesting "k8s.io/utils/clock/testing"
)

var testNow = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// aDeployment wants n pods; change it with the functions.
func aDeployment(n int32, change ...func(d *appsv1.Deployment)) *appsv1.Deployment {
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "d", Namespace: "ns", Generation: 4},
		Spec: appsv1.DeploymentSpec{
			Replicas: &n,
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "new"}}}},
		},
	}
	for _, c := range change {
		c(d)
	}
	return d
}

func strategy(surge, unavailable intstr.IntOrString) func(d *appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		d.Spec.Strategy = appsv1.DeploymentStrategy{
			Type:          appsv1.RollingUpdateDeploymentStrategyType,
			RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &unavailable},
		}
	}
}

func recreate(d *appsv1.Deployment) {
	d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType
}

// aPod is a running, ready pod of the current template of aDeployment.
func aPod(name string, change ...func(p *corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, CreationTimestamp: metav1.NewTime(testNow.Add(-time.Hour)),
			Labels: map[string]string{appsv1.DefaultDeploymentUniqueLabelKey: templateHash(&aDeployment(0).Spec.Template)},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning,
			Conditions: []corev1.PodCondition{{
				Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(testNow.Add(-time.Minute)),
			}},
		},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func old(p *corev1.Pod) { p.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = "old" }

func unready(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }

func pending(p *corev1.Pod) { unready(p); p.Status.Phase = corev1.PodPending }

func terminating(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: testNow} }

func failed(p *corev1.Pod) { unready(p); p.Status.Phase = corev1.PodFailed }

func cost(n int) func(p *corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.PodDeletionCost: strconv.Itoa(n)} }
}

func readyFor(d time.Duration) func(p *corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(testNow.Add(-d)) }
}

func age(d time.Duration) func(p *corev1.Pod) {
	return func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(testNow.Add(-d)) }
}

func restarted(n int32) func(p *corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: n}} }
}

func TestMakePlan(t *testing.T) {
	none := intstr.FromInt32(0)
	for name, tc := range map[string]struct {
		deployment *appsv1.Deployment
		pods       []*corev1.Pod
		wantCreate int
		wantRemove []string
		wantAfter  time.Duration
	}{
		"nothing yet":        {deployment: aDeployment(2), wantCreate: 2},
		"as wanted":          {deployment: aDeployment(1), pods: []*corev1.Pod{aPod("a")}},
		"one by default":     {deployment: aDeployment(0, func(d *appsv1.Deployment) { d.Spec.Replicas = nil }), wantCreate: 1},
		"zero":               {deployment: aDeployment(0)},
		"one gone":           {deployment: aDeployment(2), pods: []*corev1.Pod{aPod("a"), aPod("b", terminating)}, wantCreate: 1},
		"one ended for good": {deployment: aDeployment(2), pods: []*corev1.Pod{aPod("a"), aPod("b", failed)}, wantCreate: 1},
		"to zero":            {deployment: aDeployment(0), pods: []*corev1.Pod{aPod("a"), aPod("b")}, wantRemove: []string{"a", "b"}},
		"terminating pods are not removed again": {
			deployment: aDeployment(0), pods: []*corev1.Pod{aPod("a", terminating)},
		},
		"being deleted": {
			deployment: aDeployment(2, func(d *appsv1.Deployment) { d.DeletionTimestamp = &metav1.Time{Time: testNow} }),
			pods:       []*corev1.Pod{aPod("a"), aPod("b", old), aPod("c", terminating)}, wantRemove: []string{"b", "a"},
		},

		"victims: not running before not ready": {
			deployment: aDeployment(1), pods: []*corev1.Pod{aPod("a"), aPod("b", unready), aPod("c", pending)}, wantRemove: []string{"c", "b"},
		},
		"victims: not ready before cheap": {
			deployment: aDeployment(1), pods: []*corev1.Pod{aPod("a", cost(-10)), aPod("b", unready, cost(10))}, wantRemove: []string{"b"},
		},
		"victims: cheapest": {
			deployment: aDeployment(1), pods: []*corev1.Pod{aPod("a"), aPod("b", cost(5)), aPod("c", cost(-5))}, wantRemove: []string{"c", "a"},
		},
		"victims: a broken cost counts as none": {
			deployment: aDeployment(1),
			pods: []*corev1.Pod{aPod("a", cost(-1)), aPod("b", func(p *corev1.Pod) {
				p.Annotations = map[string]string{corev1.PodDeletionCost: "cheap"}
			})},
			wantRemove: []string{"a"},
		},
		"victims: ready for the shortest time": {
			deployment: aDeployment(1), pods: []*corev1.Pod{aPod("a", readyFor(time.Hour)), aPod("b", readyFor(time.Second))}, wantRemove: []string{"b"},
		},
		"victims: most restarts": {
			deployment: aDeployment(1), pods: []*corev1.Pod{aPod("a"), aPod("b", restarted(3))}, wantRemove: []string{"b"},
		},
		"victims: youngest": {
			deployment: aDeployment(1), pods: []*corev1.Pod{aPod("a"), aPod("b", age(time.Minute))}, wantRemove: []string{"b"},
		},

		"rollout: surges first": { // 4 pods: surge 1, unavailable 1
			deployment: aDeployment(4),
			pods:       []*corev1.Pod{aPod("a", old), aPod("b", old), aPod("c", old), aPod("d", old)},
			wantCreate: 1, wantRemove: []string{"a"},
		},
		"rollout: waits for the new one": {
			deployment: aDeployment(4),
			pods:       []*corev1.Pod{aPod("a", old), aPod("b", old), aPod("c", old), aPod("n", pending)},
			wantCreate: 1,
		},
		"rollout: goes on when it is available": {
			deployment: aDeployment(4),
			pods:       []*corev1.Pod{aPod("a", old), aPod("b", old), aPod("c", old), aPod("n")},
			wantCreate: 1, wantRemove: []string{"a"},
		},
		"rollout: broken old pods go at once": {
			deployment: aDeployment(2, strategy(none, intstr.FromInt32(1))),
			pods:       []*corev1.Pod{aPod("a", old, unready), aPod("b", old)}, wantRemove: []string{"a"},
		},
		"rollout: without surge room is made first": {
			deployment: aDeployment(2, strategy(none, intstr.FromInt32(1))),
			pods:       []*corev1.Pod{aPod("a", old), aPod("b", old)}, wantRemove: []string{"a"},
		},
		"rollout: without unavailable one is added first": {
			deployment: aDeployment(1, strategy(intstr.FromString("25%"), none)),
			pods:       []*corev1.Pod{aPod("a", old)}, wantCreate: 1,
		},
		"rollout: both zero still moves": {
			deployment: aDeployment(1, strategy(none, none)), pods: []*corev1.Pod{aPod("a", old)}, wantRemove: []string{"a"},
		},
		"rollout: last old one": {
			deployment: aDeployment(1, strategy(intstr.FromString("25%"), none)),
			pods:       []*corev1.Pod{aPod("a", old), aPod("n")}, wantRemove: []string{"a"},
		},
		"rollout: scaled down meanwhile": {
			deployment: aDeployment(1, strategy(intstr.FromInt32(1), none)),
			pods:       []*corev1.Pod{aPod("a", old), aPod("m", cost(1)), aPod("n")}, wantRemove: []string{"n", "a"},
		},

		"recreate: all old ones first": {
			deployment: aDeployment(2, recreate), pods: []*corev1.Pod{aPod("a", old), aPod("b", old)}, wantRemove: []string{"a", "b"},
		},
		"recreate: none before the last is gone": {
			deployment: aDeployment(2, recreate), pods: []*corev1.Pod{aPod("a", old, terminating)},
		},
		"recreate: then all": {deployment: aDeployment(2, recreate), wantCreate: 2},

		"paused: keeps old pods": {
			deployment: aDeployment(2, func(d *appsv1.Deployment) { d.Spec.Paused = true }),
			pods:       []*corev1.Pod{aPod("a", old), aPod("b", old)},
		},
		"minReadySeconds: looks again": {
			deployment: aDeployment(2, strategy(intstr.FromInt32(1), none), func(d *appsv1.Deployment) { d.Spec.MinReadySeconds = 90 }),
			pods:       []*corev1.Pod{aPod("a", old, readyFor(time.Hour)), aPod("b", old, readyFor(time.Hour)), aPod("n", readyFor(time.Minute))},
			wantAfter:  30 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			clk := clocktesting.NewFakePassiveClock(testNow)
			got := makePlan(tc.deployment, tc.pods, clk.Now())
			var removed []string
			for _, p := range got.remove {
				removed = append(removed, p.Name)
			}
			if got.create != tc.wantCreate || got.after != tc.wantAfter {
				t.Errorf("create %d, look again after %s; want %d and %s", got.create, got.after, tc.wantCreate, tc.wantAfter)
			}
			if diff := cmp.Diff(tc.wantRemove, removed); diff != "" {
				t.Errorf("removed (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRolloutsEnd runs every plan to its end: whatever the bounds, a rollout
// finishes, never exceeds the surge and never goes below the minimum.
func TestRolloutsEnd(t *testing.T) {
	for n := int32(1); n <= 6; n++ {
		for surge := range int32(3) {
			for unavailable := range int32(3) {
				d := aDeployment(n, strategy(intstr.FromInt32(surge), intstr.FromInt32(unavailable)))
				var pods []*corev1.Pod
				for i := range n {
					pods = append(pods, aPod("old"+strconv.Itoa(int(i)), old))
				}
				maxSurge, maxUnavailable := rolloutBounds(d)
				rounds := 0
				for ; ; rounds++ {
					p := makePlan(d, pods, testNow)
					if p.create == 0 && len(p.remove) == 0 {
						break
					}
					if rounds > 20 {
						t.Fatalf("n=%d surge=%d unavailable=%d: no end in sight", n, surge, unavailable)
					}
					pods = without(pods, p.remove)
					if got := len(pods); got < int(n)-maxUnavailable {
						t.Errorf("n=%d surge=%d unavailable=%d: %d available", n, surge, unavailable, got)
					}
					for i := range p.create {
						pods = append(pods, aPod("new"+strconv.Itoa(rounds)+"-"+strconv.Itoa(i)))
					}
					if got := len(pods); got > int(n)+maxSurge {
						t.Errorf("n=%d surge=%d unavailable=%d: %d pods", n, surge, unavailable, got)
					}
				}
				if got := group(d, pods, testNow); len(got.old) != 0 || len(got.current) != int(n) {
					t.Errorf("n=%d surge=%d unavailable=%d: ended with %d old and %d new pods", n, surge, unavailable, len(got.old), len(got.current))
				}
			}
		}
	}
}

func without(pods, gone []*corev1.Pod) []*corev1.Pod {
	names := map[string]bool{}
	for _, p := range gone {
		names[p.Name] = true
	}
	var out []*corev1.Pod
	for _, p := range pods {
		if !names[p.Name] {
			out = append(out, p)
		}
	}
	return out
}

func TestDeploymentStatus(t *testing.T) {
	progressing := func(reason string, since time.Duration) func(d *appsv1.Deployment) {
		return func(d *appsv1.Deployment) {
			d.Status = appsv1.DeploymentStatus{
				ObservedGeneration: 4, Replicas: 1, UpdatedReplicas: 1,
				Conditions: []appsv1.DeploymentCondition{{
					Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: reason,
					LastUpdateTime: metav1.NewTime(testNow.Add(-since)), LastTransitionTime: metav1.NewTime(testNow.Add(-time.Hour)),
				}},
			}
		}
	}
	for name, tc := range map[string]struct {
		deployment *appsv1.Deployment
		pods       []*corev1.Pod
		want       appsv1.DeploymentStatus
		// wantReasons are those of Available and Progressing.
		wantReasons []string
	}{
		"complete": {
			deployment:  aDeployment(2),
			pods:        []*corev1.Pod{aPod("a"), aPod("b")},
			want:        appsv1.DeploymentStatus{Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2},
			wantReasons: []string{"MinimumReplicasAvailable", "NewReplicaSetAvailable"},
		},
		"starting": {
			deployment:  aDeployment(2),
			pods:        []*corev1.Pod{aPod("a", pending)},
			want:        appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, UnavailableReplicas: 2},
			wantReasons: []string{"MinimumReplicasUnavailable", "ReplicaSetUpdated"},
		},
		"rolling over, one terminating": {
			deployment:  aDeployment(2),
			pods:        []*corev1.Pod{aPod("a", old), aPod("b"), aPod("c", terminating)},
			want:        appsv1.DeploymentStatus{Replicas: 2, UpdatedReplicas: 1, ReadyReplicas: 2, AvailableReplicas: 2, TerminatingReplicas: new(int32(1))},
			wantReasons: []string{"MinimumReplicasAvailable", "ReplicaSetUpdated"},
		},
		"ready but not yet available": {
			deployment:  aDeployment(1, func(d *appsv1.Deployment) { d.Spec.MinReadySeconds = 90 }),
			pods:        []*corev1.Pod{aPod("a")},
			want:        appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, UnavailableReplicas: 1},
			wantReasons: []string{"MinimumReplicasUnavailable", "ReplicaSetUpdated"},
		},
		"stuck": {
			deployment:  aDeployment(1, progressing("ReplicaSetUpdated", 601*time.Second)),
			pods:        []*corev1.Pod{aPod("a", unready)},
			want:        appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, UnavailableReplicas: 1},
			wantReasons: []string{"ProgressDeadlineExceeded", "MinimumReplicasUnavailable"},
		},
		"not stuck yet": {
			deployment:  aDeployment(1, progressing("ReplicaSetUpdated", 599*time.Second)),
			pods:        []*corev1.Pod{aPod("a", unready)},
			want:        appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, UnavailableReplicas: 1},
			wantReasons: []string{"ReplicaSetUpdated", "MinimumReplicasUnavailable"},
		},
		"lost a pod long after its rollout": {
			deployment:  aDeployment(1, progressing("NewReplicaSetAvailable", 24*time.Hour)),
			pods:        []*corev1.Pod{aPod("a", unready)},
			want:        appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, UnavailableReplicas: 1},
			wantReasons: []string{"ReplicaSetUpdated", "MinimumReplicasUnavailable"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := deploymentStatus(tc.deployment, tc.pods, testNow)
			var reasons []string
			for _, c := range got.Conditions {
				reasons = append(reasons, c.Reason)
			}
			if diff := cmp.Diff(tc.wantReasons, reasons); diff != "" {
				t.Errorf("reasons (-want +got):\n%s", diff)
			}
			again := tc.deployment.DeepCopy()
			again.Status = got
			if diff := cmp.Diff(got, deploymentStatus(again, tc.pods, testNow)); diff != "" {
				t.Errorf("the same pods give another status the second time (-first +second):\n%s", diff)
			}
			tc.want.ObservedGeneration, tc.want.Conditions = 4, got.Conditions
			if tc.want.TerminatingReplicas == nil {
				tc.want.TerminatingReplicas = new(int32(0))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTransitionTimesStayWhenNothingChanges(t *testing.T) {
	d := aDeployment(1)
	d.Status = deploymentStatus(d, []*corev1.Pod{aPod("a")}, testNow)
	later := deploymentStatus(d, []*corev1.Pod{aPod("a")}, testNow.Add(time.Hour))
	if diff := cmp.Diff(d.Status, later); diff != "" {
		t.Errorf("an hour later (-before +after):\n%s", diff)
	}
}

func TestNewPod(t *testing.T) {
	d := aDeployment(1)
	d.UID = "uid"
	p := newPod(d, "local")
	if got := p.Labels[appsv1.DefaultDeploymentUniqueLabelKey]; got != templateHash(&d.Spec.Template) {
		t.Errorf("hash label = %q, want the template's hash", got)
	}
	if ref := metav1.GetControllerOf(p); ref == nil || ref.UID != "uid" || ref.Kind != "Deployment" {
		t.Errorf("controller = %v, want the Deployment", ref)
	}
	if p.Spec.NodeName != "local" || p.Spec.ServiceAccountName != "default" {
		t.Errorf("node %q, service account %q; want local, default", p.Spec.NodeName, p.Spec.ServiceAccountName)
	}
	if d.Spec.Template.Labels != nil {
		t.Error("making a pod changed the Deployment")
	}
}

func TestRestartDelay(t *testing.T) {
	r := NewRestartDelay(RestartBackoff{Initial: 10 * time.Second, Max: time.Minute})
	for i, step := range []struct{ ran, want time.Duration }{
		{0, 0},
		{time.Second, 10 * time.Second},
		{time.Second, 20 * time.Second},
		{119 * time.Second, 40 * time.Second},
		{time.Second, time.Minute},
		{time.Second, time.Minute},
		{2 * time.Minute, 0}, // ran for twice the maximum: starts over
		{time.Second, 10 * time.Second},
	} {
		if got := r.Next(step.ran); got != step.want {
			t.Errorf("restart %d after running %s: wait %s, want %s", i, step.ran, got, step.want)
		}
	}
}

func TestVerdict(t *testing.T) {
	for name, tc := range map[string]struct {
		probe     corev1.Probe
		initially bool
		results   string // + and -
		want      string // per result: H or U for the state, with ! when it is decided
	}{
		"ready at the first success":      {results: "+", want: "H!"},
		"unready after three failures":    {probe: corev1.Probe{FailureThreshold: 3}, initially: true, results: "---", want: "H H U!"},
		"a success starts the row over":   {probe: corev1.Probe{FailureThreshold: 2}, initially: true, results: "-+--", want: "H H! H U!"},
		"two successes":                   {probe: corev1.Probe{SuccessThreshold: 2}, results: "++", want: "U H!"},
		"every further failure decides":   {initially: true, results: "--", want: "U! U!"},
		"a failure starts successes over": {probe: corev1.Probe{SuccessThreshold: 2}, results: "+-++", want: "U U! U H!"},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVerdict(&tc.probe, tc.initially)
			got := ""
			for _, r := range tc.results {
				healthy, decided := v.observe(r == '+')
				if got != "" {
					got += " "
				}
				if healthy {
					got += "H"
				} else {
					got += "U"
				}
				if decided {
					got += "!"
				}
			}
			if got != tc.want {
				t.Errorf("results %s: %s, want %s", tc.results, got, tc.want)
			}
		})
	}
}
