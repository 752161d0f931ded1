// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package scanapi has the documents, paths and headers of the HTTP API. The server and its clients share them, and the
// OpenAPI document is generated from them: the doc tag is a field's description, the other tags are the JSON Schema
// keywords of the same name.
package scanapi

import (
	"encoding/json"
	"time"
)

// The paths of the API. Those with an id have a function of their own.
const (
	// SubmitPath takes a POST of a SubmitRequest.
	SubmitPath = "/api/v1/scan"
	// CategoriesPath returns a list of Category.
	CategoriesPath = SubmitPath + "/categories"
)

// ScanPath is where a scan is deleted.
func ScanPath(jobID string) string { return SubmitPath + "/" + jobID }

// ResultPath is where a scan's result is fetched.
func ResultPath(jobID string) string { return ScanPath(jobID) + "/result" }

// EventsPath is where a scan's events are streamed.
func EventsPath(jobID string) string { return ScanPath(jobID) + "/events" }

// The headers of the API.
const (
	// UserIDHeader names the user a request is made for. The gateway sets it.
	UserIDHeader = "X-User-ID"
	// IdempotencyKeyHeader makes a retried submit return the first scan.
	IdempotencyKeyHeader = "X-Idempotency-Key"
	// MaxIdempotencyKeyBytes bounds its value, which is visible ASCII.
	MaxIdempotencyKeyBytes = 256
	// RequestIDHeader names the request in the access log.
	RequestIDHeader = "X-Request-ID"
	// LastEventIDHeader is the id of the last event that a reconnecting client has seen.
	LastEventIDHeader = "Last-Event-ID"
)

// The values of Result.Status, Processing.Status and SubmitResponse.Status.
const (
	StatusQueued     = "queued"
	StatusProcessing = "processing"
	StatusCompleted  = "completed"
	StatusFailed     = "failed"
)

// SubmitRequest asks for a scan.
type SubmitRequest struct {
	ImageURL  string `json:"image_url" doc:"Where the photo is: an absolute http or https URL without credentials." format:"uri" minLength:"1" maxLength:"2048"`
	UserInput string `json:"user_input,omitempty" doc:"What the user asks about the photo." maxLength:"4000" nullable:"true"`
	Model     string `json:"model,omitempty" doc:"The model to use. Default: the operator's choice." maxLength:"128" pattern:"^([A-Za-z0-9][A-Za-z0-9._:/-]*)?$" nullable:"true"`
}

// SubmitResponse says that a scan was accepted.
type SubmitResponse struct {
	JobID     string `json:"job_id" doc:"The scan's id."`
	StreamURL string `json:"stream_url" doc:"Where its events are streamed."`
	ResultURL string `json:"result_url" doc:"Where its result is fetched."`
	Status    string `json:"status" enum:"queued"`
}

// Classification is what the photo shows, in terms of the taxonomy.
type Classification struct {
	MajorCategory  string `json:"major_category" doc:"The class of waste."`
	MiddleCategory string `json:"middle_category" doc:"The material within the class; empty if the class has none."`
	MinorCategory  string `json:"minor_category" doc:"The thing itself."`
}

// ClassificationResult is the outcome of the vision stage.
type ClassificationResult struct {
	Classification Classification `json:"classification"`
	SituationTags  []string       `json:"situation_tags" doc:"The state of the thing in the photo."`
}

// DisposalRules is the rule the answer is grounded in, the outcome of the rule stage.
type DisposalRules struct {
	ID         string   `json:"id" doc:"The rule's identifier."`
	Title      string   `json:"title" doc:"The rule's name."`
	Steps      []string `json:"steps" doc:"The disposal steps, in order."`
	Exclusions []string `json:"exclusions" doc:"Things that look alike but belong elsewhere."`
}

// FinalAnswer is the advice, the outcome of the answer stage.
type FinalAnswer struct {
	DisposalSteps   []string `json:"disposal_steps" doc:"The steps to take, in order."`
	Insufficiencies []string `json:"insufficiencies" doc:"What has to be done before the thing may be thrown away."`
	UserAnswer      string   `json:"user_answer" doc:"The advice in the user's language."`
}

// PipelineResult has the results of the stages; null for a stage that has not run.
type PipelineResult struct {
	ClassificationResult *ClassificationResult `json:"classification_result"`
	DisposalRules        *DisposalRules        `json:"disposal_rules"`
	FinalAnswer          *FinalAnswer          `json:"final_answer"`
}

// Reward is the collectible character that was matched, the outcome of the reward stage.
type Reward struct {
	Name        string `json:"name"`
	Dialog      string `json:"dialog" doc:"What the character says."`
	MatchReason string `json:"match_reason" doc:"Why this character was matched."`
	Type        string `json:"type" doc:"The character's kind."`
}

// Result is a finished scan.
type Result struct {
	TaskID         string          `json:"task_id" doc:"The scan's id."`
	Status         string          `json:"status" enum:"completed,failed"`
	Message        string          `json:"message" doc:"How the scan ended, as text for the user."`
	PipelineResult *PipelineResult `json:"pipeline_result" doc:"The results of the stages; null if the scan failed in the first one."`
	Reward         *Reward         `json:"reward" doc:"The character that was matched; null if none was."`
	Error          *string         `json:"error" doc:"Why the scan failed, as a code such as DEADLINE_EXCEEDED; null if it did not."`
}

// Processing is a scan that has not finished.
type Processing struct {
	Status               string `json:"status" enum:"processing"`
	Message              string `json:"message" doc:"What the scan does or waits for, as text for the user."`
	CurrentStage         string `json:"current_stage" enum:"queued,vision,rule,answer,reward" doc:"The stage that is running or next; queued until the first one has begun."`
	Progress             int    `json:"progress" doc:"Percent." minimum:"0" maximum:"100"`
	QueuePosition        *int   `json:"queue_position" doc:"The number of scans ahead; null if unknown or if the scan is not waiting." minimum:"0"`
	EstimatedWaitSeconds *int   `json:"estimated_wait_seconds" doc:"The estimated time until the next stage begins; null if unknown or if the scan is not waiting." minimum:"0"`
}

// The names of events, in their order. EventDone or EventError is the last one.
const (
	EventQueued = "queued"
	EventVision = "vision"
	EventRule   = "rule"
	EventAnswer = "answer"
	EventReward = "reward"
	EventDone   = "done"
	EventError  = "error"
)

// The values of Event.Status.
const (
	EventStarted   = "started"
	EventCompleted = "completed"
	EventFailed    = "failed"
)

// Event is the data of one server-sent event. The event's name is Stage, its id is Seq.
type Event struct {
	JobID    string          `json:"job_id" doc:"The scan's id."`
	Stage    string          `json:"stage" enum:"queued,vision,rule,answer,reward,done,error"`
	Status   string          `json:"status" enum:"started,completed,failed"`
	Seq      int             `json:"seq" doc:"The event's index in the stream, from 0; also its id." minimum:"0"`
	TS       time.Time       `json:"ts" doc:"When it happened, UTC."`
	Progress int             `json:"progress" doc:"Percent." minimum:"0" maximum:"100"`
	Result   json.RawMessage `json:"result,omitempty" doc:"The result of the stage: ClassificationResult for vision, DisposalRulesResult for rule, FinalAnswerResult for answer, RewardResult for reward, Result for done, Failure if the status is failed."`
}

// DisposalRulesResult is the result of a rule event.
type DisposalRulesResult struct {
	DisposalRules *DisposalRules `json:"disposal_rules" doc:"Null if there is no rule for the class."`
}

// FinalAnswerResult is the result of an answer event.
type FinalAnswerResult struct {
	FinalAnswer *FinalAnswer `json:"final_answer"`
}

// RewardResult is the result of a reward event.
type RewardResult struct {
	Reward *Reward `json:"reward" doc:"Null if none was matched."`
}

// Failure is the result of an event whose status is failed.
type Failure struct {
	Code    string `json:"code" doc:"The reason, as a code such as DEADLINE_EXCEEDED."`
	Message string `json:"message" doc:"The reason, as text for the user."`
}

// Category is one class of waste.
type Category struct {
	ID           int      `json:"id" doc:"The number of the class; it never changes."`
	Name         string   `json:"name" doc:"The name that classifications use."`
	DisplayName  string   `json:"display_name" doc:"The name to display."`
	Instructions []string `json:"instructions" doc:"How to dispose of such things, in order."`
}

// Health is the response of the health and readiness routes.
type Health struct {
	Status string `json:"status" enum:"ok,unavailable"`
	Reason string `json:"reason,omitempty" doc:"Why the server is not ready."`
}
