// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localkubelet

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	toolswatch "k8s.io/client-go/tools/watch"
)

// patience is how long a test waits for an event before it is a failure. It
// decides no test: what is waited for comes as soon as it can.
const patience = time.Minute

// fixture is a node in a namespace of its own.
type fixture struct {
	*testing.T
	client    kubernetes.Interface
	namespace string
	node      *Node
	logs      string
	state     string // $STATE_DIR of the pods
	stop      func()
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	config, err := apiServer()
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	ns, err := client.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "node-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{T: t, client: client, namespace: ns.Name, logs: t.TempDir(), state: t.TempDir()}
	f.setHealth("ready", "ok")
	f.setHealth("live", "ok")
	f.start(filepath.Join(t.TempDir(), "pods"))
	return f
}

// start runs a node; a second call is the node's next life.
func (f *fixture) start(dir string) {
	f.Helper()
	config, err := apiServer()
	if err != nil {
		f.Fatal(err)
	}
	f.node, err = New(config, Options{
		Namespace: f.namespace, RootFS: filepath.Dir(os.Args[0]), Dir: dir, LogDir: f.logs,
		RestartBackoff: RestartBackoff{Initial: time.Millisecond, Max: time.Second},
		Log:            testr.New(f.T),
	})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(f.Context()))
	ended := make(chan error, 1)
	go func() { ended <- f.node.Run(ctx) }()
	stopped := false
	f.stop = func() {
		f.Helper()
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			f.Errorf("node: %v", err)
		}
	}
	f.Cleanup(f.stop)
}

func (f *fixture) setHealth(probe, state string) {
	f.Helper()
	if err := os.WriteFile(filepath.Join(f.state, probe), []byte(state), 0o600); err != nil {
		f.Fatal(err)
	}
}

// deployment creates one whose pods run the role.
func (f *fixture) deployment(role string, replicas int32, change ...func(d *appsv1.Deployment)) *appsv1.Deployment {
	f.Helper()
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "workers", Namespace: f.namespace},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "workers"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "workers"}},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: new(int64(20)),
					Containers: []corev1.Container{{
						Name: "main", Image: "test", Command: []string{"/" + filepath.Base(os.Args[0])},
						Ports: []corev1.ContainerPort{{Name: "health", ContainerPort: 8081}},
						Env: []corev1.EnvVar{
							{Name: roleEnv, Value: role},
							{Name: "STATE_DIR", Value: f.state},
							{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
							{Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
							{Name: "LISTEN", Value: "$(POD_IP):8081"},
						},
					}},
				},
			},
		},
	}
	if role == "serve" {
		get := func(path string) *corev1.Probe {
			return &corev1.Probe{
				ProbeHandler:     corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("health")}},
				PeriodSeconds:    1,
				FailureThreshold: 1,
			}
		}
		d.Spec.Template.Spec.Containers[0].ReadinessProbe = get("/ready")
		d.Spec.Template.Spec.Containers[0].StartupProbe = get("/ready")
		d.Spec.Template.Spec.Containers[0].StartupProbe.FailureThreshold = 60
	}
	for _, c := range change {
		c(d)
	}
	d, err := f.client.AppsV1().Deployments(f.namespace).Create(f.Context(), d, metav1.CreateOptions{})
	if err != nil {
		f.Fatal(err)
	}
	return d
}

// await waits until an object of the kind, existing or changing, is as wanted.
func await[T runtime.Object](f *fixture, what string, client rest.Interface, resource string, kind T, want func(T) bool) T {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	lw := cache.NewListWatchFromClient(client, resource, f.namespace, fields.Everything())
	var last T
	_, err := toolswatch.UntilWithSync(ctx, lw, kind, nil, func(event watch.Event) (bool, error) {
		obj, ok := event.Object.(T)
		if !ok || event.Type == watch.Deleted {
			return false, nil
		}
		last = obj
		return want(obj), nil
	})
	if err != nil {
		f.Fatalf("waiting for %s: %v; last seen: %+v", what, err, last)
	}
	return last
}

func (f *fixture) awaitDeployment(what string, want func(d *appsv1.Deployment) bool) *appsv1.Deployment {
	f.Helper()
	return await(f, what, f.client.AppsV1().RESTClient(), "deployments", &appsv1.Deployment{}, want)
}

func (f *fixture) awaitPod(what string, want func(p *corev1.Pod) bool) *corev1.Pod {
	f.Helper()
	return await(f, what, f.client.CoreV1().RESTClient(), "pods", &corev1.Pod{}, want)
}

// awaitGone waits until the pod's object does not exist any more.
func (f *fixture) awaitGone(name string) {
	f.Helper()
	awaitGone(f, f.client.CoreV1().RESTClient(), "pods", &corev1.Pod{}, name)
}

func awaitGone(f *fixture, client rest.Interface, resource string, kind runtime.Object, name string) {
	f.Helper()
	awaitGoneIn(f, f.namespace, client, resource, kind, name)
}

func awaitGoneIn(f *fixture, namespace string, client rest.Interface, resource string, kind runtime.Object, name string) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	lw := cache.NewListWatchFromClient(client, resource, namespace, fields.OneTermEqualSelector("metadata.name", name))
	_, err := toolswatch.UntilWithSync(ctx, lw, kind,
		func(store cache.Store) (bool, error) { return len(store.List()) == 0, nil },
		func(event watch.Event) (bool, error) { return event.Type == watch.Deleted, nil })
	if err != nil {
		f.Fatalf("waiting for %s %s to go: %v", resource, name, err)
	}
}

func (f *fixture) pods() []corev1.Pod {
	f.Helper()
	list, err := f.client.CoreV1().Pods(f.namespace).List(f.Context(), metav1.ListOptions{})
	if err != nil {
		f.Fatal(err)
	}
	return list.Items
}

func (f *fixture) change(change func(d *appsv1.Deployment)) {
	f.Helper()
	d, err := f.client.AppsV1().Deployments(f.namespace).Get(f.Context(), "workers", metav1.GetOptions{})
	if err != nil {
		f.Fatal(err)
	}
	// The node writes the status only, but that moves the version too.
	d.ResourceVersion = ""
	change(d)
	if _, err := f.client.AppsV1().Deployments(f.namespace).Update(f.Context(), d, metav1.UpdateOptions{}); err != nil {
		f.Fatal(err)
	}
}

// ask fetches a path from the pod's program.
func (f *fixture) ask(pod *corev1.Pod, path string) string {
	f.Helper()
	request, err := http.NewRequestWithContext(f.Context(), http.MethodGet, "http://"+pod.Status.PodIP+":8081"+path, http.NoBody)
	if err != nil {
		f.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		f.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		f.Fatal(err)
	}
	return string(body)
}

// pid is the process id of the pod's container.
func pid(t *testing.T, pod *corev1.Pod) int {
	t.Helper()
	var n int
	if _, err := fmt.Sscanf(pod.Status.ContainerStatuses[0].ContainerID, "local://%d", &n); err != nil {
		t.Fatalf("container id %q: %v", pod.Status.ContainerStatuses[0].ContainerID, err)
	}
	return n
}

func processExists(pid int) bool { return syscall.Kill(pid, 0) == nil }

func complete(n int32) func(d *appsv1.Deployment) bool {
	return func(d *appsv1.Deployment) bool {
		s := &d.Status
		return s.ObservedGeneration == d.Generation && s.Replicas == n && s.UpdatedReplicas == n &&
			s.ReadyReplicas == n && s.AvailableReplicas == n && s.UnavailableReplicas == 0
	}
}

func isReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func TestPodsRunWithAddressesEnvironmentVolumesAndCredentials(t *testing.T) {
	f := newFixture(t)
	if _, err := f.client.CoreV1().ServiceAccounts(f.namespace).Create(t.Context(),
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "worker"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	f.deployment("serve", 3, func(d *appsv1.Deployment) {
		spec := &d.Spec.Template.Spec
		spec.ServiceAccountName = "worker"
		spec.Volumes = []corev1.Volume{{Name: "key", VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: "provider"},
		}}}
		c := &spec.Containers[0]
		c.VolumeMounts = []corev1.VolumeMount{{Name: "key", MountPath: "/keys"}}
		c.Args = []string{"--key-file=/keys/api-key", "--name=$(POD_NAME)"}
	})

	waiting := f.awaitPod("a pod that waits for its Secret", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].State.Waiting != nil
	})
	if got, want := waiting.Status.ContainerStatuses[0].State.Waiting.Message, `Secret "provider" not found`; !strings.Contains(got, want) {
		t.Errorf("waiting message = %q, want it to contain %q", got, want)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "provider"}, StringData: map[string]string{"api-key": "one"}}
	if _, err := f.client.CoreV1().Secrets(f.namespace).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	f.awaitDeployment("three available pods", complete(3))

	ips := map[string]bool{}
	for _, pod := range f.pods() {
		ips[pod.Status.PodIP] = true
		env, args := f.ask(&pod, "/env"), f.ask(&pod, "/args")
		if !strings.Contains(env, "POD_NAME="+pod.Name+"\n") {
			t.Errorf("pod %s: environment lacks its name:\n%s", pod.Name, env)
		}
		if want := "--name=" + pod.Name; !strings.Contains(args, want) {
			t.Errorf("pod %s: arguments %q lack %q", pod.Name, args, want)
		}
		_, rest, _ := strings.Cut(args, "--key-file=")
		keyFile, _, _ := strings.Cut(rest, "\n")
		if data, err := os.ReadFile(keyFile); err != nil || string(data) != "one" {
			t.Errorf("pod %s: key file holds %q (%v), want \"one\"", pod.Name, data, err)
		}
	}
	if len(ips) != 3 {
		t.Errorf("pod IPs = %v, want three different ones", ips)
	}

	pod := f.pods()[0]
	_, rest, _ := strings.Cut(f.ask(&pod, "/env"), "KUBECONFIG=")
	kubeconfig, _, _ := strings.Cut(rest, "\n")
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	asPod, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	self, err := asPod.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want := "system:serviceaccount:" + f.namespace + ":worker"; self.Status.UserInfo.Username != want {
		t.Errorf("the pod's user = %q, want %q", self.Status.UserInfo.Username, want)
	}
	if got := self.Status.UserInfo.Extra["authentication.kubernetes.io/pod-name"]; !slices.Equal(got, authenticationv1.ExtraValue{pod.Name}) {
		t.Errorf("the token is bound to pods %v, want %s", got, pod.Name)
	}
}

func TestRotatedSecretReachesRunningPods(t *testing.T) {
	f := newFixture(t)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "provider"}, StringData: map[string]string{"ready": "ok"}}
	if _, err := f.client.CoreV1().Secrets(f.namespace).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	f.deployment("serve", 1, func(d *appsv1.Deployment) {
		spec := &d.Spec.Template.Spec
		spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: "provider"},
		}}}
		c := &spec.Containers[0]
		c.VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/state"}}
		for i := range c.Env {
			if c.Env[i].Name == "STATE_DIR" {
				c.Env[i].Value = "/state"
			}
		}
	})
	f.awaitDeployment("an available pod", complete(1))
	before := f.pods()[0]

	secret.StringData = map[string]string{"ready": "rotated"}
	if _, err := f.client.CoreV1().Secrets(f.namespace).Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	after := f.awaitPod("the pod to see the new content", func(p *corev1.Pod) bool { return !isReady(p) })
	if after.UID != before.UID || after.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Errorf("pod %s restarted %d times, want the same pod %s with the same process",
			after.Name, after.Status.ContainerStatuses[0].RestartCount, before.Name)
	}
}

func TestScaleDownTakesTheCheapestPod(t *testing.T) {
	f := newFixture(t)
	f.deployment("serve", 3)
	f.awaitDeployment("three available pods", complete(3))
	pods := f.pods()
	for i, cost := range []string{"10", "-5", "7"} {
		patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, corev1.PodDeletionCost, cost)
		if _, err := f.client.CoreV1().Pods(f.namespace).Patch(t.Context(), pods[i].Name, "application/merge-patch+json", []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	gone := pid(t, &pods[1])
	f.change(func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(2)) })
	f.awaitGone(pods[1].Name)
	f.awaitDeployment("two available pods", complete(2))
	var left []string
	for _, pod := range f.pods() {
		left = append(left, pod.Name)
	}
	want := []string{pods[0].Name, pods[2].Name}
	slices.Sort(left)
	slices.Sort(want)
	if !slices.Equal(left, want) {
		t.Errorf("left = %v, want %v", left, want)
	}
	if processExists(gone) {
		t.Errorf("process %d of the removed pod still runs", gone)
	}
	f.change(func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(0)) })
	f.awaitDeployment("no pods", complete(0))
}

func TestTemplateChangeRollsOver(t *testing.T) {
	f := newFixture(t)
	f.deployment("serve", 2)
	f.awaitDeployment("two available pods", complete(2))
	before := f.pods()
	f.change(func(d *appsv1.Deployment) {
		d.Spec.Template.Annotations = map[string]string{"restarted": "yes"}
	})
	f.awaitDeployment("two pods of the new template", complete(2))
	for _, pod := range before {
		f.awaitGone(pod.Name)
	}
	for _, pod := range f.pods() {
		if pod.Annotations["restarted"] != "yes" {
			t.Errorf("pod %s is of the old template", pod.Name)
		}
	}
}

func TestKilledProcessIsRestartedInItsPod(t *testing.T) {
	f := newFixture(t)
	f.deployment("serve", 1)
	f.awaitDeployment("an available pod", complete(1))
	before := f.pods()[0]
	if err := f.node.Signal(before.Name, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	after := f.awaitPod("a restart", func(p *corev1.Pod) bool {
		return isReady(p) && p.Status.ContainerStatuses[0].RestartCount == 1
	})
	last := after.Status.ContainerStatuses[0].LastTerminationState.Terminated
	if after.UID != before.UID || last == nil || last.ExitCode != 137 || last.Signal != 9 {
		t.Errorf("pod %s, last termination %+v; want pod %s ended by signal 9", after.Name, last, before.Name)
	}
	if err := f.node.Signal("no-such-pod", syscall.SIGKILL); err == nil {
		t.Error("signal to an unknown pod: no error")
	}
}

func TestCrashingContainerBacksOff(t *testing.T) {
	f := newFixture(t)
	f.deployment("crash", 1)
	pod := f.awaitPod("a crash loop", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].State.Waiting != nil &&
			p.Status.ContainerStatuses[0].State.Waiting.Reason == "CrashLoopBackOff"
	})
	if last := pod.Status.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.ExitCode != 7 {
		t.Errorf("last termination = %+v, want exit code 7", last)
	}
	if pod.Status.Phase != corev1.PodRunning {
		t.Errorf("phase = %s, want Running, as in a cluster", pod.Status.Phase)
	}
	d := f.awaitDeployment("an unavailable replica", func(d *appsv1.Deployment) bool { return d.Status.UnavailableReplicas == 1 })
	if d.Status.ReadyReplicas != 0 {
		t.Errorf("ready replicas = %d, want 0", d.Status.ReadyReplicas)
	}
}

func TestFailedLivenessRestarts(t *testing.T) {
	f := newFixture(t)
	f.deployment("serve", 1, func(d *appsv1.Deployment) {
		c := &d.Spec.Template.Spec.Containers[0]
		c.LivenessProbe = c.ReadinessProbe.DeepCopy()
		c.LivenessProbe.HTTPGet.Path = "/live"
	})
	f.awaitDeployment("an available pod", complete(1))
	f.setHealth("live", "no")
	f.awaitPod("a restart", func(p *corev1.Pod) bool { return p.Status.ContainerStatuses[0].RestartCount > 0 })
	f.setHealth("live", "ok")
	f.awaitPod("a ready pod", isReady)
}

func TestDeletedPodEndsGracefullyAndIsReplaced(t *testing.T) {
	f := newFixture(t)
	f.deployment("wait", 1)
	f.awaitDeployment("an available pod", complete(1))
	pod := f.pods()[0]
	f.awaitLog(&pod, "ready")
	if err := f.client.CoreV1().Pods(f.namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	f.awaitGone(pod.Name)
	f.awaitLog(&pod, "terminated")
	replacement := f.awaitPod("a replacement", isReady)
	if replacement.UID == pod.UID {
		t.Errorf("pod %s is still there", pod.Name)
	}
}

func TestStubbornProcessIsKilledAfterItsGracePeriod(t *testing.T) {
	f := newFixture(t)
	f.deployment("stubborn", 1)
	f.awaitDeployment("an available pod", complete(1))
	pod := f.pods()[0]
	f.awaitLog(&pod, "ready")
	if err := f.client.CoreV1().Pods(f.namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(1))}); err != nil {
		t.Fatal(err)
	}
	f.awaitGone(pod.Name)
	if processExists(pid(t, &pod)) {
		t.Error("the process outlived its pod")
	}
	f.node.Hurry() // the replacement is as stubborn
}

func TestDeletedDeploymentTakesItsPodsAlong(t *testing.T) {
	f := newFixture(t)
	f.deployment("serve", 2)
	f.awaitDeployment("two available pods", complete(2))
	pods := f.pods()
	if err := f.client.AppsV1().Deployments(f.namespace).Delete(t.Context(), "workers", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods {
		f.awaitGone(pod.Name)
	}
}

func TestObjectsGoWithTheirOwners(t *testing.T) {
	f := newFixture(t)
	owner, err := f.client.CoreV1().ConfigMaps(f.namespace).Create(t.Context(),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owner"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	owned := metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID}
	f.deployment("serve", 1, func(d *appsv1.Deployment) { d.OwnerReferences = []metav1.OwnerReference{owned} })
	leases := f.client.CoordinationV1().Leases(f.namespace)
	lease := func(name string, refs ...metav1.OwnerReference) {
		if _, err := leases.Create(t.Context(), &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: refs},
		}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	namesake := owned
	namesake.UID = "another"
	lease("without-owner")
	lease("of-the-owner", owned)
	lease("of-a-former-owner", namesake)
	f.awaitDeployment("an available pod", complete(1))
	pod := f.pods()[0]
	lease("of-the-pod", metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID})

	if err := f.client.CoreV1().ConfigMaps(f.namespace).Delete(t.Context(), "owner", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	f.awaitGone(pod.Name)
	for _, name := range []string{"of-the-owner", "of-a-former-owner", "of-the-pod"} {
		awaitGone(f, f.client.CoordinationV1().RESTClient(), "leases", &coordinationv1.Lease{}, name)
	}
	if _, err := leases.Get(t.Context(), "without-owner", metav1.GetOptions{}); err != nil {
		t.Errorf("a Lease without an owner: %v, want it to stay", err)
	}
}

func TestDeletedNamespaceGoesWithItsPods(t *testing.T) {
	f := newFixture(t)
	f.deployment("serve", 1)
	f.awaitDeployment("an available pod", complete(1))
	process := pid(t, &f.pods()[0])
	namespaces := f.client.CoreV1().Namespaces()
	if err := namespaces.Delete(t.Context(), f.namespace, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitGoneIn(f, metav1.NamespaceAll, f.client.CoreV1().RESTClient(), "namespaces", &corev1.Namespace{}, f.namespace)
	if processExists(process) {
		t.Errorf("process %d outlived its namespace", process)
	}
}

func TestStoppedNodeLeavesNoProcessAndTheNextOneCarriesOn(t *testing.T) {
	f := newFixture(t)
	f.deployment("serve", 2)
	f.awaitDeployment("two available pods", complete(2))
	before := f.pods()
	f.stop()
	for _, pod := range before {
		if processExists(pid(t, &pod)) {
			t.Errorf("process of pod %s outlived the node", pod.Name)
		}
	}
	if got := len(f.pods()); got != 2 {
		t.Fatalf("%d pods after the stop, want the same 2", got)
	}

	f.start(filepath.Join(t.TempDir(), "pods"))
	for _, pod := range before {
		f.awaitPod("the pod's next run", func(p *corev1.Pod) bool {
			return p.UID == pod.UID && isReady(p) && p.Status.ContainerStatuses[0].RestartCount == 1
		})
	}
}

// awaitLog waits until the pod's log has a line with the text.
func (f *fixture) awaitLog(pod *corev1.Pod, text string) {
	f.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		data, err := os.ReadFile(filepath.Join(f.logs, pod.Name+".log"))
		if err == nil && strings.Contains(string(data), text) {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			f.Fatalf("log of pod %s lacks %q: %q (%v)", pod.Name, text, data, err)
		}
	}
}
