// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package workerpool

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// WorkerDefaults are the settings of worker pods that do not come from a WorkerPool.
type WorkerDefaults struct {
	// Image is the workers' image.
	Image string
	// ServiceAccountName is the workers' service account.
	ServiceAccountName string
	// DefaultEndpoint is the provider's base URL for budgets that name none.
	DefaultEndpoint string
	// KnowledgeConfigMap is the ConfigMap with the knowledge pack; empty for the built-in pack.
	KnowledgeConfigMap string
}

// annotationApplied holds a digest of the applied Deployment, so that an unchanged one is not applied again.
const annotationApplied = v1alpha1.GroupName + "/applied"

// Paths and ports inside a worker's container.
const (
	keysDir      = "/var/run/scan-operator/keys"
	knowledgeDir = "/etc/scan-operator/knowledge"
	healthPort   = 8081
	workerUser   = 65532
)

// stopMargin is how many seconds before the end of the grace period a stopping worker releases the runs that it could not
// finish.
const stopMargin = 5

// poolLabels select a pool's pods.
func poolLabels(pool *v1alpha1.WorkerPool) map[string]string {
	return map[string]string{
		"app.kubernetes.io/name":       "scan-worker",
		"app.kubernetes.io/managed-by": "scan-operator",
		v1alpha1.LabelPool:             pool.Name,
	}
}

// workerDeployment builds the Deployment of a worker group, with only the fields that this operator owns.
func workerDeployment(pool *v1alpha1.WorkerPool, g workerGroup, budgets map[string]*v1alpha1.TokenBudget, defaults WorkerDefaults) (*appsv1ac.DeploymentApplyConfiguration, error) {
	labels := g.labels(pool)
	d := appsv1ac.Deployment(g.name, pool.Namespace).
		WithLabels(labels).
		WithOwnerReferences(metav1ac.OwnerReference().
			WithAPIVersion(v1alpha1.GroupVersion.String()).WithKind("WorkerPool").
			WithName(pool.Name).WithUID(pool.UID).WithController(true).WithBlockOwnerDeletion(true)).
		WithSpec(appsv1ac.DeploymentSpec().
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(labels)).
			WithStrategy(appsv1ac.DeploymentStrategy().WithRollingUpdate(appsv1ac.RollingUpdateDeployment().
				WithMaxUnavailable(intstr.FromInt32(0)).WithMaxSurge(intstr.FromString("25%")))).
			WithTemplate(workerPod(pool, g, budgets, defaults)))
	digest, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("digest Deployment %q: %w", g.name, err)
	}
	sum := sha256.Sum256(digest)
	d.WithAnnotations(map[string]string{annotationApplied: hex.EncodeToString(sum[:8])})
	d.Spec.WithReplicas(g.replicas)
	return d, nil
}

// workerPod builds the pod template: the defaults, overridden by the group's template.
func workerPod(pool *v1alpha1.WorkerPool, g workerGroup, budgets map[string]*v1alpha1.TokenBudget, defaults WorkerDefaults) *corev1ac.PodTemplateSpecApplyConfiguration {
	labels := g.labels(pool)
	grace := gracePeriod(pool, g.template)
	container := workerContainer(pool, g, defaults, grace)
	pod := corev1ac.PodSpec().
		WithServiceAccountName(defaults.ServiceAccountName).
		WithTerminationGracePeriodSeconds(grace).
		WithSecurityContext(corev1ac.PodSecurityContext().
			WithRunAsNonRoot(true).WithRunAsUser(workerUser).WithRunAsGroup(workerUser).WithFSGroup(workerUser).
			WithSeccompProfile(corev1ac.SeccompProfile().WithType(corev1.SeccompProfileTypeRuntimeDefault)))
	for _, ref := range pool.Spec.Budgets {
		b := budgets[ref.Name]
		if b == nil {
			continue // mounted when it is created: budgets are watched
		}
		volume := "key-" + ref.Name
		pod.WithVolumes(corev1ac.Volume().WithName(volume).WithSecret(corev1ac.SecretVolumeSource().
			WithSecretName(b.Spec.SecretRef.Name).WithOptional(true). // a missing Secret holds the budget back, not the worker
			WithItems(corev1ac.KeyToPath().WithKey(b.Spec.SecretRef.Key).WithPath("key"))))
		container.WithVolumeMounts(corev1ac.VolumeMount().WithName(volume).WithMountPath(keysDir + "/" + ref.Name).WithReadOnly(true))
	}
	if name := defaults.KnowledgeConfigMap; name != "" {
		pod.WithVolumes(corev1ac.Volume().WithName("knowledge").WithConfigMap(corev1ac.ConfigMapVolumeSource().WithName(name)))
		container.WithVolumeMounts(corev1ac.VolumeMount().WithName("knowledge").WithMountPath(knowledgeDir).WithReadOnly(true))
	}
	template := corev1ac.PodTemplateSpec().WithLabels(labels)
	podParts{template: template, pod: pod, container: container, selector: labels}.override(g.template)
	if pod.Affinity == nil {
		pod.WithTopologySpreadConstraints(corev1ac.TopologySpreadConstraint().
			WithMaxSkew(1).WithTopologyKey(corev1.LabelHostname).WithWhenUnsatisfiable(corev1.ScheduleAnyway).
			WithLabelSelector(metav1ac.LabelSelector().WithMatchLabels(labels)))
	}
	return template.WithSpec(pod.WithContainers(container))
}

// gracePeriod is how long a stopping worker may take, in seconds: the stage's timeout, and the time to store the
// outcome.
func gracePeriod(pool *v1alpha1.WorkerPool, t *v1alpha1.WorkerTemplate) int64 {
	if t != nil && t.TerminationGracePeriodSeconds > 0 {
		return t.TerminationGracePeriodSeconds
	}
	return int64(pool.Spec.StageDefaults.TimeoutSeconds) + 2*stopMargin
}

func workerContainer(pool *v1alpha1.WorkerPool, g workerGroup, defaults WorkerDefaults, grace int64) *corev1ac.ContainerApplyConfiguration {
	args := []string{
		"--namespace=$(POD_NAMESPACE)", "--pod-name=$(POD_NAME)", "--pod-uid=$(POD_UID)",
		"--pool=" + pool.Name,
		"--track=" + g.track,
		"--stages=" + stageList(pool),
		"--capacity=" + strconv.Itoa(int(pool.Spec.ConcurrencyPerWorker)),
		"--keys-dir=" + keysDir,
		"--drain-timeout=" + strconv.FormatInt(max(grace-stopMargin, 0), 10) + "s",
		"--health-probe-bind-address=$(POD_IP):" + strconv.Itoa(healthPort),
	}
	if defaults.DefaultEndpoint != "" {
		args = append(args, "--default-endpoint="+defaults.DefaultEndpoint)
	}
	if defaults.KnowledgeConfigMap != "" {
		args = append(args, "--knowledge-dir="+knowledgeDir)
	}
	return corev1ac.Container().
		WithName("worker").WithImage(defaults.Image).WithCommand("/worker").WithArgs(args...).
		WithEnv(fieldEnv("POD_NAME", "metadata.name"), fieldEnv("POD_NAMESPACE", "metadata.namespace"),
			fieldEnv("POD_UID", "metadata.uid"), fieldEnv("POD_IP", "status.podIP")).
		WithPorts(corev1ac.ContainerPort().WithName("health").WithContainerPort(healthPort).WithProtocol(corev1.ProtocolTCP)).
		WithLivenessProbe(probe("/healthz", 10, 6)).
		WithReadinessProbe(probe("/readyz", 2, 2)).
		WithSecurityContext(corev1ac.SecurityContext().
			WithAllowPrivilegeEscalation(false).WithReadOnlyRootFilesystem(true).
			WithCapabilities(corev1ac.Capabilities().WithDrop("ALL")))
}

// stageList is the pool's stages, joined by commas.
func stageList(pool *v1alpha1.WorkerPool) string {
	stages := make([]string, len(pool.Spec.Stages))
	for i, s := range pool.Spec.Stages {
		stages[i] = string(s)
	}
	return strings.Join(stages, ",")
}

func fieldEnv(name, path string) *corev1ac.EnvVarApplyConfiguration {
	return corev1ac.EnvVar().WithName(name).WithValueFrom(corev1ac.EnvVarSource().
		WithFieldRef(corev1ac.ObjectFieldSelector().WithAPIVersion("v1").WithFieldPath(path)))
}

// probe checks the worker's own state. Neither the provider nor load can fail it.
func probe(path string, period, failures int32) *corev1ac.ProbeApplyConfiguration {
	return corev1ac.Probe().
		WithHTTPGet(corev1ac.HTTPGetAction().WithPath(path).WithPort(intstr.FromString("health"))).
		WithPeriodSeconds(period).WithFailureThreshold(failures).WithTimeoutSeconds(5)
}
