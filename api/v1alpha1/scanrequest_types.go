// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// StageName is one of the four stages of a scan, in this order: vision, rule, answer, reward.
//
// +kubebuilder:validation:Enum=vision;rule;answer;reward
type StageName string

// The stages of a scan, in the order they run.
const (
	// StageVision classifies the image with a language model. It spends tokens.
	StageVision StageName = "vision"
	// StageRule looks the class up in the knowledge pack.
	StageRule StageName = "rule"
	// StageAnswer writes the advice with a language model. It spends tokens.
	StageAnswer StageName = "answer"
	// StageReward matches a collectible character.
	StageReward StageName = "reward"
)

// ScanRequestSpec is what is to be scanned and how. All of it but suspend is immutable: a changed photo is
// another scan.
//
// +kubebuilder:validation:XValidation:rule="self.imageURL == oldSelf.imageURL",message="imageURL is immutable; create another ScanRequest"
// +kubebuilder:validation:XValidation:rule="has(self.userInput) == has(oldSelf.userInput) && (!has(self.userInput) || self.userInput == oldSelf.userInput)",message="userInput is immutable; create another ScanRequest"
// +kubebuilder:validation:XValidation:rule="has(self.model) == has(oldSelf.model) && (!has(self.model) || self.model == oldSelf.model)",message="model is immutable; create another ScanRequest"
// +kubebuilder:validation:XValidation:rule="has(self.userID) == has(oldSelf.userID) && (!has(self.userID) || self.userID == oldSelf.userID)",message="userID is immutable; create another ScanRequest"
// +kubebuilder:validation:XValidation:rule="self.priority == oldSelf.priority",message="priority is immutable; create another ScanRequest"
// +kubebuilder:validation:XValidation:rule="self.deadlineSeconds == oldSelf.deadlineSeconds",message="deadlineSeconds is immutable; create another ScanRequest"
// +kubebuilder:validation:XValidation:rule="self.ttlSecondsAfterFinished == oldSelf.ttlSecondsAfterFinished",message="ttlSecondsAfterFinished is immutable; create another ScanRequest"
type ScanRequestSpec struct {
	// imageURL is where the provider fetches the photo: an absolute http or https URL of at most 2048 characters.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHost() != ''",message="imageURL must be an absolute http or https URL"
	// +required
	ImageURL string `json:"imageURL,omitempty"`

	// userInput is what the user asked about the photo, at most 4000 characters.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4000
	// +optional
	UserInput string `json:"userInput,omitempty"`

	// model is the model to call in both language model stages. Default: the model of the pool that runs the stage.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9][A-Za-z0-9._:/-]*$`
	// +optional
	Model string `json:"model,omitempty"`

	// userID is the user the scan is run for, at most 128 characters. Tokens are shared fairly between users.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +optional
	UserID string `json:"userID,omitempty"`

	// priority is compared before anything else: a scan of a higher priority is sent first. 0 to 1000.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	// +kubebuilder:default=0
	// +optional
	Priority *int32 `json:"priority,omitempty"`

	// deadlineSeconds is how long after its creation the scan may take. A scan that takes longer ends as Failed
	// with reason DeadlineExceeded. 1 to 86400, default 300.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=86400
	// +kubebuilder:default=300
	// +optional
	DeadlineSeconds int32 `json:"deadlineSeconds,omitempty"`

	// ttlSecondsAfterFinished is how long after it has finished the object is deleted. 0 to 2592000 (30 days),
	// default 3600. An unfinished scan is never deleted.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2592000
	// +kubebuilder:default=3600
	// +optional
	TTLSecondsAfterFinished *int32 `json:"ttlSecondsAfterFinished,omitempty"`

	// suspend holds the scan: it is not sent while true. A stage that already runs is finished. The deadline
	// still counts.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// ScanRequest is one scan: one photo of a thing to throw away, turned into disposal advice.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=scan;scans,categories=growbin
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Stage",type=string,JSONPath=`.status.summary.stage`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.summary.reason`
// +kubebuilder:printcolumn:name="Category",type=string,JSONPath=`.status.summary.category`
// +kubebuilder:printcolumn:name="Tokens",type=integer,JSONPath=`.status.summary.tokens`
// +kubebuilder:printcolumn:name="Wait-ms",type=integer,JSONPath=`.status.waitedMilliseconds`
// +kubebuilder:printcolumn:name="Duration-ms",type=integer,JSONPath=`.status.summary.durationMilliseconds`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Worker",type=string,JSONPath=`.status.assignment.worker`,priority=1
// +kubebuilder:printcolumn:name="User",type=string,JSONPath=`.spec.userID`,priority=1
// +kubebuilder:printcolumn:name="Retry-After",type=string,JSONPath=`.status.retry.after`,priority=1
// +kubebuilder:selectablefield:JSONPath=`.status.phase`
// +kubebuilder:selectablefield:JSONPath=`.status.assignment.worker`
// +kubebuilder:selectablefield:JSONPath=`.spec.userID`
type ScanRequest struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata. The name is the job id of the HTTP API.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is what is to be scanned and how.
	// +required
	Spec ScanRequestSpec `json:"spec,omitzero"`

	// status is where the scan stands.
	// ---
	// It is written by patches of the scheduler, the workers and the controllers, never by server-side apply, and is
	// atomic: the API server would otherwise store the owner of each of its about 170 fields in every version of the
	// object, which was 40 % of its size, and of the work of the API server and of all watches.
	// +structType=atomic
	// +kubebuilder:default={phase: Queued}
	// +optional
	Status ScanRequestStatus `json:"status,omitzero"`
}

// ScanRequestList is a list of scans.
//
// +kubebuilder:object:root=true
type ScanRequestList struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitzero"`

	// items are the scans.
	Items []ScanRequest `json:"items"`
}
