// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"sync"
	"time"

	"github.com/eco2-team/scan-operator/dev/load"
)

// samples collects what the clients see while recording is on.
type samples struct {
	mu          sync.Mutex
	recording   bool
	times       map[string][]time.Duration
	failures    map[string]int
	finished    map[string]int // by status
	predictions load.Predictions
}

func newSamples() *samples {
	return &samples{times: map[string][]time.Duration{}, failures: map[string]int{}, finished: map[string]int{}}
}

func (s *samples) record(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recording = on
}

// whileRecording runs change if recording is on.
func (s *samples) whileRecording(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recording {
		change()
	}
}

func (s *samples) add(kind string, took time.Duration) {
	s.whileRecording(func() { s.times[kind] = append(s.times[kind], took) })
}

// fail counts an error that a client saw, whether another try succeeded or not.
func (s *samples) fail(kind string, err error) {
	text := err.Error()
	s.whileRecording(func() { s.failures[kind+": "+text[max(len(text)-90, 0):]]++ })
}

func (s *samples) finish(status string) {
	s.whileRecording(func() { s.finished[status]++ })
}

func (s *samples) predict(p load.Prediction, began time.Time) {
	s.whileRecording(func() { s.predictions.Add(p, began) })
}

// quantiles formats P50, P95, P99 and the longest of one kind.
func (s *samples) quantiles(kind string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return load.Quantiles(s.times[kind])
}

func (s *samples) predicted() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.predictions.String()
}

func (s *samples) results() (finished map[string]int, total int, failures map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.finished {
		total += n
	}
	return maps.Clone(s.finished), total, maps.Clone(s.failures)
}
