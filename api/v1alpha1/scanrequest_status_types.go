// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ScanPhase is the state of a scan in one word, derived from its conditions, assignment and finishedAt. Conditions are
// the contract; the phase is kept because it can be selected and printed. Selectable fields and printer columns are
// simple paths, which cannot reach into a list of conditions: `kubectl get scan --field-selector status.phase=Failed`
// and the watches of unfinished scans need one field. Its values are closed: a new state becomes a reason of a condition,
// not a phase.
//
// +kubebuilder:validation:Enum=Queued;Running;Succeeded;Failed
type ScanPhase string

// The phases of a scan.
const (
	// ScanQueued means that the scan waits for tokens, a worker or the end of a backoff.
	ScanQueued ScanPhase = "Queued"
	// ScanRunning means that a worker has the scan.
	ScanRunning ScanPhase = "Running"
	// ScanSucceeded is terminal: the status has the result.
	ScanSucceeded ScanPhase = "Succeeded"
	// ScanFailed is terminal: the Finished condition says why.
	ScanFailed ScanPhase = "Failed"
)

// ImageDetail is how closely the model looks at the image, which decides what the image costs.
//
// +kubebuilder:validation:Enum=low;high;auto
type ImageDetail string

// The levels of image detail.
const (
	ImageDetailLow  ImageDetail = "low"
	ImageDetailHigh ImageDetail = "high"
	ImageDetailAuto ImageDetail = "auto"
)

// Assignment lets one worker run a stage. Its id is the fencing token of that run: an outcome that does not carry the
// id of the current assignment is dropped.
type Assignment struct {
	// id is unique for each assignment.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +required
	ID string `json:"id,omitempty"`

	// stage is the stage to run. The worker continues with the next stages of its pool that need no tokens.
	// +required
	Stage StageName `json:"stage,omitempty"`

	// worker is the identity of the worker: pod name and start nonce, the name of its Lease.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Worker string `json:"worker,omitempty"`

	// pool is the WorkerPool the worker belongs to.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Pool string `json:"pool,omitempty"`

	// budget is the TokenBudget that pays. Empty for a stage that needs no tokens.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Budget string `json:"budget,omitempty"`

	// model is the model to call. Empty for a stage that needs no tokens.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +optional
	Model string `json:"model,omitempty"`

	// attempt is the number of this attempt of the stage, from 1. Rate limiting and lost workers do not count.
	// +kubebuilder:validation:Minimum=1
	// +required
	Attempt int32 `json:"attempt,omitempty"`

	// reservedTokens is what was taken from the budget for this call: prompt, image and maxOutputTokens.
	// +kubebuilder:validation:Minimum=1
	// +optional
	ReservedTokens int64 `json:"reservedTokens,omitempty"`

	// maxOutputTokens is the output limit to send with the call.
	// +kubebuilder:validation:Minimum=1
	// +optional
	MaxOutputTokens int32 `json:"maxOutputTokens,omitempty"`

	// imageDetail is the detail level to send with the image.
	// +optional
	ImageDetail ImageDetail `json:"imageDetail,omitempty"`

	// maxAttempts limits the attempts of the stage.
	// +kubebuilder:validation:Minimum=1
	// +optional
	MaxAttempts int32 `json:"maxAttempts,omitempty"`

	// assignedAt is when the scheduler chose the worker.
	// +optional
	AssignedAt metav1.MicroTime `json:"assignedAt,omitzero"`

	// deadline is when the run is canceled: after its timeout, or at the scan's deadline if that is earlier.
	// +required
	Deadline metav1.MicroTime `json:"deadline,omitzero"`
}

// StageState is the state of one stage.
//
// +kubebuilder:validation:Enum=Running;Waiting;Succeeded;Failed;Skipped
type StageState string

// The states of a stage. A stage that has not begun is not listed.
const (
	// StageRunning means that a worker has the stage.
	StageRunning StageState = "Running"
	// StageWaiting means that the stage began and waits for its next run.
	StageWaiting StageState = "Waiting"
	// StageSucceeded is final: the stage is never run again.
	StageSucceeded StageState = "Succeeded"
	// StageFailed is final: the scan has failed.
	StageFailed StageState = "Failed"
	// StageSkipped is final: the stage had nothing to do.
	StageSkipped StageState = "Skipped"
)

// StageStatus is the record of one stage.
type StageStatus struct {
	// name is the stage.
	// +required
	Name StageName `json:"name,omitempty"`

	// state is where the stage stands.
	// +required
	State StageState `json:"state,omitempty"`

	// attempts counts the tries that were the stage's own fault or success. Rate limiting and lost workers do
	// not count.
	// +kubebuilder:validation:Minimum=1
	// +optional
	Attempts int32 `json:"attempts,omitempty"`

	// losses counts the workers that were lost while running the stage. A stage with three losses runs alone on a
	// worker; a fourth one ends the scan.
	// +kubebuilder:validation:Minimum=1
	// +optional
	Losses int32 `json:"losses,omitempty"`

	// assignmentID is the id of the latest assignment of the stage. An assignment whose id is here and which is not
	// the current one has ended.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +optional
	AssignmentID string `json:"assignmentID,omitempty"`

	// startedAt is when the latest run began.
	// +optional
	StartedAt metav1.MicroTime `json:"startedAt,omitzero"`

	// finishedAt is when the latest run ended.
	// +optional
	FinishedAt metav1.MicroTime `json:"finishedAt,omitzero"`

	// worker is the identity of the worker of the latest run.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Worker string `json:"worker,omitempty"`

	// budget is the TokenBudget that paid for the latest run.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Budget string `json:"budget,omitempty"`

	// model is the model of the latest run.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +optional
	Model string `json:"model,omitempty"`

	// tokens is what the stage reserved and used.
	// +optional
	Tokens TokenUsage `json:"tokens,omitzero"`

	// rateLimit is what the provider's headers showed in the latest run.
	// +optional
	RateLimit *RateLimitObservation `json:"rateLimit,omitempty"`

	// failure is the latest failure of the stage.
	// +optional
	Failure *StageFailure `json:"failure,omitempty"`

	// message describes how the latest run ended, in at most 512 bytes.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Message string `json:"message,omitempty"`
}

// Classification is what the vision stage saw, in terms of the knowledge pack's taxonomy.
type Classification struct {
	// majorCategory is the class of waste.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +required
	MajorCategory string `json:"majorCategory,omitempty"`

	// middleCategory is the material or kind within the class. Empty where the class has none.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +optional
	MiddleCategory string `json:"middleCategory,omitempty"`

	// minorCategory is the thing itself, in the model's words.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +optional
	MinorCategory string `json:"minorCategory,omitempty"`
}

// DisposalRules is the entry of the knowledge pack the answer is grounded in.
type DisposalRules struct {
	// id is the entry's identifier in the knowledge pack.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +required
	ID string `json:"id,omitempty"`

	// title is the entry's name for people.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +optional
	Title string `json:"title,omitempty"`

	// steps are the disposal steps, in order.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=12
	// +kubebuilder:validation:items:MinLength=0
	// +kubebuilder:validation:items:MaxLength=512
	// +listType=atomic
	// +optional
	Steps []string `json:"steps,omitempty"`

	// exclusions are the things that look alike but belong elsewhere.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=12
	// +kubebuilder:validation:items:MinLength=0
	// +kubebuilder:validation:items:MaxLength=512
	// +listType=atomic
	// +optional
	Exclusions []string `json:"exclusions,omitempty"`
}

// Answer is the advice.
//
// +kubebuilder:validation:MinProperties=0
type Answer struct {
	// disposalSteps are the steps to take, in order.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=12
	// +kubebuilder:validation:items:MinLength=0
	// +kubebuilder:validation:items:MaxLength=512
	// +listType=atomic
	// +optional
	DisposalSteps []string `json:"disposalSteps,omitempty"`

	// insufficiencies are what the photo shows to be missing before the thing may be thrown away.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=12
	// +kubebuilder:validation:items:MinLength=0
	// +kubebuilder:validation:items:MaxLength=512
	// +listType=atomic
	// +optional
	Insufficiencies []string `json:"insufficiencies,omitempty"`

	// userAnswer is the advice in the user's language, at most 2000 characters.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2000
	// +optional
	UserAnswer string `json:"userAnswer,omitempty"`
}

// Reward is the collectible character that was matched.
type Reward struct {
	// name is the character's name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +required
	Name string `json:"name,omitempty"`

	// dialog is what the character says.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Dialog string `json:"dialog,omitempty"`

	// matchReason says why this character was matched.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +optional
	MatchReason string `json:"matchReason,omitempty"`

	// type is the character's kind.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Type string `json:"type,omitempty"`
}

// ScanResult is what the finished stages found. It grows stage by stage.
//
// +kubebuilder:validation:MinProperties=0
type ScanResult struct {
	// classification is the outcome of vision.
	// +optional
	Classification *Classification `json:"classification,omitempty"`

	// situationTags describe the state of the thing in the photo.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=0
	// +kubebuilder:validation:items:MaxLength=64
	// +listType=atomic
	// +optional
	SituationTags []string `json:"situationTags,omitempty"`

	// disposalRules is the outcome of rule. Absent where the knowledge pack has no entry for the class.
	// +optional
	DisposalRules *DisposalRules `json:"disposalRules,omitempty"`

	// answer is the outcome of answer.
	// +optional
	Answer *Answer `json:"answer,omitempty"`

	// reward is the outcome of reward. Absent where none was matched.
	// +optional
	Reward *Reward `json:"reward,omitempty"`
}

// RetryStatus says what is tried again, and when.
type RetryStatus struct {
	// stage is the stage of the next attempt.
	// +required
	Stage StageName `json:"stage,omitempty"`

	// count is the number of failed attempts so far.
	// +kubebuilder:validation:Minimum=1
	// +required
	Count int32 `json:"count,omitempty"`

	// after is the earliest instant of the next attempt, by the clock of the process that recorded the failure.
	// +required
	After metav1.MicroTime `json:"after,omitzero"`

	// delayMilliseconds is the time from the failure to after. It is what is waited, so that clocks may differ.
	// +kubebuilder:validation:Minimum=1
	// +optional
	DelayMilliseconds int64 `json:"delayMilliseconds,omitempty"`

	// since is when the first of these attempts failed.
	// +optional
	Since metav1.MicroTime `json:"since,omitzero"`
}

// Summary is what kubectl prints. It is derived from the rest of the status in one function.
//
// +kubebuilder:validation:MinProperties=1
type Summary struct {
	// stage is the stage that runs or is next. Empty when the scan has finished.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=16
	// +optional
	Stage string `json:"stage,omitempty"`

	// category is the class of waste, major and middle.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=260
	// +optional
	Category string `json:"category,omitempty"`

	// tokens is the number of tokens the provider reported for all stages together.
	// +kubebuilder:validation:Minimum=1
	// +optional
	Tokens int64 `json:"tokens,omitempty"`

	// durationMilliseconds is the time from acceptance to the end. Absent until the scan has finished.
	// +kubebuilder:validation:Minimum=1
	// +optional
	DurationMilliseconds int64 `json:"durationMilliseconds,omitempty"`

	// reason is the reason of the condition that matters now.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Reason string `json:"reason,omitempty"`
}

// ScanRequestStatus is where the scan stands. The API server itself keeps what is final: a finished scan stays
// as it ended, and a stage that is done stays done.
//
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.finishedAt) || (has(self.finishedAt) && self.finishedAt == oldSelf.finishedAt && self.phase == oldSelf.phase)",message="a finished scan is final"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.stages) || oldSelf.stages.all(o, !(o.state in ['Succeeded', 'Skipped']) || (has(self.stages) && self.stages.exists(s, s.name == o.name && s.state == o.state)))",message="a finished stage is never run again"
// +kubebuilder:validation:XValidation:rule="!(has(self.finishedAt) && has(self.assignment))",message="a finished scan has no assignment"
type ScanRequestStatus struct {
	// conditions are Admitted, VisionCompleted, RuleCompleted, AnswerCompleted, RewardCompleted and Finished.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// phase is the state in one word, for field selectors and printing. It is derived from the conditions, which are
	// what programs should read.
	// +optional
	Phase ScanPhase `json:"phase,omitempty"`

	// acceptedAt is when the API server stored the scan, to the precision known: the object's creation time has
	// whole seconds only.
	// +optional
	AcceptedAt metav1.MicroTime `json:"acceptedAt,omitzero"`

	// finishedAt is when the scan reached its terminal state. The time to live counts from here.
	// +optional
	FinishedAt metav1.MicroTime `json:"finishedAt,omitzero"`

	// waitedMilliseconds is the time the scan spent waiting for a worker so far, all stages together.
	// +kubebuilder:validation:Minimum=1
	// +optional
	WaitedMilliseconds int64 `json:"waitedMilliseconds,omitempty"`

	// assignment is the worker's order. Absent while the scan waits.
	// +optional
	Assignment *Assignment `json:"assignment,omitempty"`

	// stages are the records of the stages that have begun.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=4
	// +listType=map
	// +listMapKey=name
	// +optional
	Stages []StageStatus `json:"stages,omitempty"`

	// result is what the finished stages found.
	// +optional
	Result *ScanResult `json:"result,omitempty"`

	// retry is the next attempt, if one is due.
	// +optional
	Retry *RetryStatus `json:"retry,omitempty"`

	// summary is what kubectl prints.
	// +optional
	Summary Summary `json:"summary,omitzero"`
}
