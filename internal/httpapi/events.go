// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// Event is one event of a scan's stream.
type Event struct {
	scanapi.Event
	// payload becomes Event.Result when the event is sent; nil for none.
	payload any
}

// Last says whether the event ends the stream.
func (e Event) Last() bool {
	return e.Stage == scanapi.EventDone || e.Stage == scanapi.EventError
}

// stageProgress is the progress in percent after each stage.
var stageProgress = map[v1alpha1.StageName]int{
	v1alpha1.StageVision: 25, v1alpha1.StageRule: 50, v1alpha1.StageAnswer: 75, v1alpha1.StageReward: 100,
}

// Events are the events of a scan up to now. They are a function of the status alone, so that any replica can
// replay them from any point.
//
// The sequence is the same for every scan and its order is that of the stages, not that of the writes: queued,
// then "started" and "completed" of each stage, then done. It ends at the scan's current state. A stage that is
// retried has one "started": the event keeps its place, only its time is that of the latest attempt. A scan that fails
// ends with "failed" of the stage that failed, if one had begun, and error. Hence the events of an older status are a
// prefix of those of a newer one, and an event's index is an id that never changes.
func Events(scan *v1alpha1.ScanRequest) []Event {
	s := eventSequence{jobID: scan.Name, events: make([]Event, 0, 2*len(pipeline.Stages)+2)}
	status := &scan.Status

	s.add(scanapi.EventQueued, scanapi.EventStarted, acceptedAt(scan), nil)
	for _, name := range pipeline.Stages {
		record := pipeline.Stage(status, name)
		if record == nil && status.Phase != v1alpha1.ScanSucceeded {
			break
		}
		if record == nil {
			// The scan succeeded without this stage's record: it had nothing to do.
			record = &v1alpha1.StageStatus{Name: name, State: v1alpha1.StageSkipped}
		}
		s.add(string(name), scanapi.EventStarted, record.StartedAt.Time, nil)
		if record.State == v1alpha1.StageFailed {
			s.add(string(name), scanapi.EventFailed, record.FinishedAt.Time, failureOf(scan))
			break
		}
		if !isCompleted(record.State) {
			break
		}
		s.progress = stageProgress[name]
		s.add(string(name), scanapi.EventCompleted, record.FinishedAt.Time, stageResult(status.Result, name))
	}
	switch status.Phase {
	case v1alpha1.ScanSucceeded:
		s.progress = 100
		s.add(scanapi.EventDone, scanapi.EventCompleted, status.FinishedAt.Time, resultOf(scan))
	case v1alpha1.ScanFailed:
		s.add(scanapi.EventError, scanapi.EventFailed, status.FinishedAt.Time, failureOf(scan))
	}
	return s.events
}

// canceled is the event that ends the stream of a scan that was deleted before it finished. It does not come from a
// status: the scan does not exist any more.
func canceled(jobID string, now time.Time, previous []Event) Event {
	s := eventSequence{jobID: jobID, events: previous}
	if n := len(previous); n > 0 {
		s.progress = previous[n-1].Progress
	}
	s.add(scanapi.EventError, scanapi.EventFailed, now, scanapi.Failure{
		Code: "CANCELED", Message: "The scan was canceled.",
	})
	return s.events[len(s.events)-1]
}

type eventSequence struct {
	jobID    string
	progress int
	events   []Event
}

// add appends an event. An event without a recorded time gets that of the one before it.
func (s *eventSequence) add(stage, status string, at time.Time, payload any) {
	seq := len(s.events)
	if at.IsZero() && seq > 0 {
		at = s.events[seq-1].TS
	}
	s.events = append(s.events, Event{
		Event: scanapi.Event{
			JobID: s.jobID, Stage: stage, Status: status, Seq: seq,
			TS: at.UTC(), Progress: s.progress,
		},
		payload: payload,
	})
}

// encode is the event's data.
func (e Event) encode() ([]byte, error) {
	if e.payload != nil {
		result, err := json.Marshal(e.payload)
		if err != nil {
			return nil, fmt.Errorf("encode the result of event %d: %w", e.Seq, err)
		}
		e.Result = result
	}
	data, err := json.Marshal(e.Event)
	if err != nil {
		return nil, fmt.Errorf("encode event %d: %w", e.Seq, err)
	}
	return data, nil
}

func isCompleted(state v1alpha1.StageState) bool {
	return state == v1alpha1.StageSucceeded || state == v1alpha1.StageSkipped
}

// acceptedAt is the time at which the scan was stored, as precisely as it is recorded.
func acceptedAt(scan *v1alpha1.ScanRequest) time.Time {
	if at := scan.Status.AcceptedAt.Time; !at.IsZero() {
		return at
	}
	return scan.CreationTimestamp.Time
}

// stageResult is the part of the result that a stage produced.
func stageResult(result *v1alpha1.ScanResult, stage v1alpha1.StageName) any {
	if result == nil {
		result = &v1alpha1.ScanResult{}
	}
	switch stage {
	case v1alpha1.StageVision:
		if found := classificationResultOf(result); found != nil {
			return found
		}
		return nil
	case v1alpha1.StageRule:
		return scanapi.DisposalRulesResult{DisposalRules: disposalRulesOf(result.DisposalRules)}
	case v1alpha1.StageAnswer:
		return scanapi.FinalAnswerResult{FinalAnswer: finalAnswerOf(result.Answer)}
	default:
		return scanapi.RewardResult{Reward: rewardOf(result.Reward)}
	}
}
