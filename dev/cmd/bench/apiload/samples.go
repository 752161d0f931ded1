package main

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// samples collects what the clients see while recording is on.
type samples struct {
	mu        sync.Mutex
	recording bool
	times     map[string][]time.Duration
	failures  map[string]int
	finished  map[string]int // by status
	errors    []time.Duration
	bias      time.Duration
	waited    time.Duration
}

// prediction is an estimate of a wait.
type prediction struct {
	at   time.Time
	wait time.Duration
}

func newSamples() *samples {
	return &samples{times: map[string][]time.Duration{}, failures: map[string]int{}, finished: map[string]int{}}
}

func (s *samples) record(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recording = on
}

func (s *samples) add(kind string, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recording {
		s.times[kind] = append(s.times[kind], took)
	}
}

// fail counts an error that a client saw, whether it was made good by another try or not.
func (s *samples) fail(kind string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recording {
		text := err.Error()
		s.failures[kind+": "+text[max(len(text)-90, 0):]]++
	}
}

func (s *samples) finish(status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recording {
		s.finished[status]++
	}
}

func (s *samples) predict(p prediction, began time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.recording {
		return
	}
	actual := max(began.Sub(p.at), 0)
	s.errors = append(s.errors, (p.wait - actual).Abs())
	s.bias += p.wait - actual
	s.waited += actual
}

// quantiles says P50, P95, P99 and the longest of one kind.
func (s *samples) quantiles(kind string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return quantilesOf(s.times[kind])
}

func quantilesOf(d []time.Duration) string {
	if len(d) == 0 {
		return "none"
	}
	d = slices.Sorted(slices.Values(d))
	at := func(q float64) time.Duration { return d[int(q*float64(len(d)-1))].Round(100 * time.Microsecond) }
	return fmt.Sprintf("P50 %s  P95 %s  P99 %s  max %s  (%d)", at(0.5), at(0.95), at(0.99), at(1), len(d))
}

// predictions says how far the estimates were off.
func (s *samples) predictions() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := time.Duration(len(s.errors))
	if n == 0 {
		return "none"
	}
	return fmt.Sprintf("mean wait %s, bias %s, error %s", (s.waited / n).Round(time.Millisecond),
		(s.bias / n).Round(time.Millisecond), quantilesOf(s.errors))
}

func (s *samples) results() (finished map[string]int, total int, failures map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.finished {
		total += n
	}
	return maps.Clone(s.finished), total, maps.Clone(s.failures)
}
