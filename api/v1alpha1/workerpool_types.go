// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BudgetReference names a TokenBudget in the same namespace.
type BudgetReference struct {
	// name is the TokenBudget's name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name,omitempty"`

	// weight is the budget's share of the calls, relative to the pool's other budgets that have room.
	// 1 to 1000, default 1.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +kubebuilder:default=1
	// +optional
	Weight int32 `json:"weight,omitempty"`
}

// StageDefaults are the settings of the pool's stages, where the scan does not set them.
//
// +kubebuilder:validation:MinProperties=1
type StageDefaults struct {
	// timeoutSeconds is how long one call may take. 1 to 3600, default 60.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=3600
	// +kubebuilder:default=60
	// +optional
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`

	// maxAttempts limits the attempts of a stage. 1 to 20, default 5. Rate limiting and lost workers do not count.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=20
	// +kubebuilder:default=5
	// +optional
	MaxAttempts int32 `json:"maxAttempts,omitempty"`

	// maxOutputTokens is the output limit sent with each call, and the part of the reservation that covers the
	// output. 16 to 131072, default 800.
	// +kubebuilder:validation:Minimum=16
	// +kubebuilder:validation:Maximum=131072
	// +kubebuilder:default=800
	// +optional
	MaxOutputTokens int32 `json:"maxOutputTokens,omitempty"`

	// model is the model to call. Default: the first model of the first budget.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +optional
	Model string `json:"model,omitempty"`

	// imageDetail is how closely the model looks at the image. Default low, which costs least.
	// +kubebuilder:default=low
	// +optional
	ImageDetail ImageDetail `json:"imageDetail,omitempty"`
}

// WorkerTemplate overrides parts of the workers' pods.
//
// +kubebuilder:validation:MinProperties=0
type WorkerTemplate struct {
	// labels are added to the pods.
	// +kubebuilder:validation:MinProperties=0
	// +kubebuilder:validation:MaxProperties=32
	// +optional
	Labels map[string]string `json:"labels,omitempty"`

	// annotations are added to the pods.
	// +kubebuilder:validation:MinProperties=0
	// +kubebuilder:validation:MaxProperties=32
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`

	// image is the workers' image. Default: the manager's --worker-image.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Image string `json:"image,omitempty"`

	// imagePullPolicy is when the image is pulled.
	// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
	// +optional
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`

	// imagePullSecrets are the Secrets with the registry's credentials.
	// +kubebuilder:validation:MinItems=0
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	// +optional
	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets,omitempty"`

	// resources are the worker container's requests and limits.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`

	// env are environment variables added to the worker container.
	// +kubebuilder:validation:MinItems=0
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=name
	// +optional
	Env []corev1.EnvVar `json:"env,omitempty"`

	// nodeSelector selects the nodes the workers run on.
	// +kubebuilder:validation:MinProperties=0
	// +kubebuilder:validation:MaxProperties=32
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`

	// tolerations are the taints the workers tolerate.
	// +kubebuilder:validation:MinItems=0
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +optional
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// affinity replaces the default, which spreads the workers over the nodes.
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`

	// priorityClassName is the pods' priority class.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	PriorityClassName string `json:"priorityClassName,omitempty"`

	// serviceAccountName is the account the workers run as. Default: the manager's --worker-service-account.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	ServiceAccountName string `json:"serviceAccountName,omitempty"`

	// terminationGracePeriodSeconds is how long a stopping worker may finish its calls. 1 to 3600. Default: the
	// stages' timeout and ten seconds more.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=3600
	// +optional
	TerminationGracePeriodSeconds int64 `json:"terminationGracePeriodSeconds,omitempty"`
}

// CanaryWorkers are a part of a pool's workers that run with other settings, to be compared with the rest: metrics of
// stages carry the label track, which is stable or canary.
type CanaryWorkers struct {
	// weightPercent is the share of the pool's work that these workers are given. 0 to 100; 0 stops them.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +required
	WeightPercent *int32 `json:"weightPercent,omitempty"`

	// template overrides parts of these workers' pods, on top of spec.template.
	// +optional
	Template *WorkerTemplate `json:"template,omitempty"`
}

// WorkerPoolSpec is what the workers of a pool do and how many there may be.
//
// +kubebuilder:validation:XValidation:rule="self.minReplicas <= self.maxReplicas",message="minReplicas must not be greater than maxReplicas"
// +kubebuilder:validation:XValidation:rule="self.stages.join(',') in ['vision','rule','answer','reward','vision,rule','rule,answer','answer,reward','vision,rule,answer','rule,answer,reward','vision,rule,answer,reward']",message="stages must be consecutive and in order: vision, rule, answer, reward"
// +kubebuilder:validation:XValidation:rule="!(self.stages.exists(s, s in ['vision', 'answer'])) || size(self.budgets) > 0",message="a pool with stage vision or answer needs at least one budget"
type WorkerPoolSpec struct {
	// stages are the stages the pool's workers run: consecutive ones, in the order vision, rule, answer, reward.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=4
	// +listType=atomic
	// +required
	Stages []StageName `json:"stages,omitempty"`

	// budgets are the TokenBudgets that pay for the pool's calls. At most 16.
	// +kubebuilder:validation:MinItems=0
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:default={}
	// +listType=map
	// +listMapKey=name
	// +optional
	Budgets []BudgetReference `json:"budgets,omitempty"`

	// concurrencyPerWorker is the number of scans one worker runs at a time. 1 to 5000, default 100.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=5000
	// +kubebuilder:default=100
	// +optional
	ConcurrencyPerWorker int32 `json:"concurrencyPerWorker,omitempty"`

	// replicas is the number of workers while autoscaling is off: minReplicas equals maxReplicas, or the
	// annotation scan.growbin.app/autoscaling is "paused". The scale subresource writes here.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// minReplicas is the least number of workers. 0 lets an idle pool stop all of them. Default 1.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	// +kubebuilder:default=1
	// +optional
	MinReplicas *int32 `json:"minReplicas,omitempty"`

	// maxReplicas is the greatest number of workers.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	// +required
	MaxReplicas int32 `json:"maxReplicas,omitempty"`

	// behavior says how fast the pool may grow and shrink, with the meaning it has in a
	// HorizontalPodAutoscaler.
	// +optional
	Behavior *autoscalingv2.HorizontalPodAutoscalerBehavior `json:"behavior,omitempty"`

	// stageDefaults are the settings of the pool's stages, where the scan does not set them.
	// ---
	// The default names one field, as it must not be empty; the fields' own defaults add the others.
	// +kubebuilder:default={imageDetail: low}
	// +optional
	StageDefaults StageDefaults `json:"stageDefaults,omitzero"`

	// template overrides parts of the workers' pods.
	// +optional
	Template *WorkerTemplate `json:"template,omitempty"`

	// canary gives a share of the pool's work to workers with other settings, such as a new image. Each of the two
	// groups has enough workers for its share, so that there may be one worker more than without a canary.
	// +optional
	Canary *CanaryWorkers `json:"canary,omitempty"`
}

// PoolLimit names the term that decided the number of workers.
//
// +kubebuilder:validation:Enum=Demand;TokenBudget;MaxReplicas;MinReplicas;Quota;Manual
type PoolLimit string

// The terms that decide the number of workers.
const (
	// LimitedByDemand: there is no more work.
	LimitedByDemand PoolLimit = "Demand"
	// LimitedByTokenBudget: the tokens feed no more workers.
	LimitedByTokenBudget PoolLimit = "TokenBudget"
	// LimitedByMaxReplicas: spec.maxReplicas.
	LimitedByMaxReplicas PoolLimit = "MaxReplicas"
	// LimitedByMinReplicas: spec.minReplicas.
	LimitedByMinReplicas PoolLimit = "MinReplicas"
	// LimitedByQuota: the budgets' quotas are used up.
	LimitedByQuota PoolLimit = "Quota"
	// LimitedByManual: spec.replicas, while autoscaling is off.
	LimitedByManual PoolLimit = "Manual"
)

// WorkerPoolStatus is where the pool stands.
//
// +kubebuilder:validation:MinProperties=1
type WorkerPoolStatus struct {
	// conditions are Ready, Progressing and ScalingLimited.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that this status describes.
	// +kubebuilder:validation:Minimum=1
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// replicas is the number of workers that exist.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// readyReplicas is the number of workers that take work.
	// +kubebuilder:validation:Minimum=0
	// +optional
	ReadyReplicas *int32 `json:"readyReplicas,omitempty"`

	// desiredReplicas is the number of workers wanted.
	// +kubebuilder:validation:Minimum=0
	// +optional
	DesiredReplicas *int32 `json:"desiredReplicas,omitempty"`

	// canaryReplicas is the number of workers, of those that exist, that run with spec.canary's settings.
	// +kubebuilder:validation:Minimum=1
	// +optional
	CanaryReplicas int32 `json:"canaryReplicas,omitempty"`

	// tokensLastMinute is the number of tokens that the pool's budgets were charged in the last 60 seconds, by all pools
	// that share them.
	// +kubebuilder:validation:Minimum=1
	// +optional
	TokensLastMinute int64 `json:"tokensLastMinute,omitempty"`

	// tokensPerMinute is the sum of the token limits of the pool's budgets.
	// +kubebuilder:validation:Minimum=1
	// +optional
	TokensPerMinute int64 `json:"tokensPerMinute,omitempty"`

	// queued is the number of scans that wait for a stage of this pool.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Queued *int32 `json:"queued,omitempty"`

	// inFlight is the number of scans the pool's workers have.
	// +kubebuilder:validation:Minimum=0
	// +optional
	InFlight *int32 `json:"inFlight,omitempty"`

	// limitedBy is the term that decided desiredReplicas.
	// +optional
	LimitedBy PoolLimit `json:"limitedBy,omitempty"`

	// selector selects the pool's pods, as the scale subresource shows it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Selector string `json:"selector,omitempty"`
}

// WorkerPool is a set of like workers that run stages.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:resource:shortName=wp,categories=growbin
// +kubebuilder:printcolumn:name="Stages",type=string,JSONPath=`.spec.stages`
// +kubebuilder:printcolumn:name="Ready",type=integer,JSONPath=`.status.readyReplicas`
// +kubebuilder:printcolumn:name="Desired",type=integer,JSONPath=`.status.desiredReplicas`
// +kubebuilder:printcolumn:name="Queued",type=integer,JSONPath=`.status.queued`
// +kubebuilder:printcolumn:name="In-Flight",type=integer,JSONPath=`.status.inFlight`
// +kubebuilder:printcolumn:name="Limited-By",type=string,JSONPath=`.status.limitedBy`
// +kubebuilder:printcolumn:name="Used",type=integer,JSONPath=`.status.tokensLastMinute`
// +kubebuilder:printcolumn:name="TPM",type=integer,JSONPath=`.status.tokensPerMinute`
// +kubebuilder:printcolumn:name="Canary",type=integer,JSONPath=`.status.canaryReplicas`,priority=1
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type WorkerPool struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is what the workers do and how many there may be.
	// +required
	Spec WorkerPoolSpec `json:"spec,omitzero"`

	// status is where the pool stands.
	// +optional
	Status WorkerPoolStatus `json:"status,omitzero"`
}

// WorkerPoolList is a list of pools.
//
// +kubebuilder:object:root=true
type WorkerPoolList struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitzero"`

	// items are the pools.
	Items []WorkerPool `json:"items"`
}
