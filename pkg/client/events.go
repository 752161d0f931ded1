// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// maxEventBytes bounds one line of a stream.
const maxEventBytes = 1 << 20

// Events follows a scan until its last event. Each event is yielded once and in order: after a broken connection the
// stream resumes after the last event, on any replica. An error ends the sequence: it is ctx's, or one that a retry would
// meet too.
//
//	for event, err := range c.Events(ctx, job.JobID) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(event.Stage, event.Status)
//	}
func (c *Client) Events(ctx context.Context, jobID string) iter.Seq2[*scanapi.Event, error] {
	return func(yield func(*scanapi.Event, error) bool) {
		s := stream{client: c, jobID: jobID, last: -1, retry: defaultRetryAfter}
		for {
			ended, err := s.read(ctx, yield)
			if ended {
				return
			}
			if err != nil && !isTemporary(err) {
				yield(nil, fmt.Errorf("follow scan %s: %w", jobID, err))
				return
			}
			if err := c.pause(ctx, s.retry); err != nil {
				yield(nil, fmt.Errorf("follow scan %s: %w", jobID, err))
				return
			}
		}
	}
}

// stream is the state of a scan's stream across connections.
type stream struct {
	client *Client
	jobID  string
	last   int // the id of the last event that was yielded; -1 before the first
	retry  time.Duration
}

// read reads one connection. It returns true after the last event, or if the consumer has stopped.
func (s *stream) read(ctx context.Context, yield func(*scanapi.Event, error) bool) (ended bool, err error) {
	r, err := s.client.request(ctx, http.MethodGet, scanapi.EventsPath(url.PathEscape(s.jobID)), http.NoBody)
	if err != nil {
		return false, err
	}
	r.Header.Set("Accept", "text/event-stream")
	if s.last >= 0 {
		r.Header.Set(scanapi.LastEventIDHeader, strconv.Itoa(s.last))
	}
	response, err := s.client.http.Do(r)
	if err != nil {
		return false, err
	}
	defer func() { _ = response.Body.Close() }()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNoContent:
		return true, nil
	default:
		body, err := io.ReadAll(io.LimitReader(response.Body, maxResponseBytes))
		if err != nil {
			return false, &url.Error{Op: r.Method, URL: r.URL.String(), Err: err}
		}
		return false, problemOf(response.StatusCode, body)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(make([]byte, 0, 4096), maxEventBytes)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "retry":
			if ms, err := strconv.Atoi(value); err == nil && ms >= 0 {
				s.retry = time.Duration(ms) * time.Millisecond
			}
		case "data":
			if done, err := s.take(value, yield); done || err != nil {
				return done, err
			}
		}
	}
	// The next connection resumes after the last event, however this one ended.
	return false, ctx.Err()
}

// take yields an event unless it was yielded before. The data of this API's events is always one line.
func (s *stream) take(data string, yield func(*scanapi.Event, error) bool) (ended bool, err error) {
	event := &scanapi.Event{}
	if err := json.Unmarshal([]byte(data), event); err != nil {
		return false, fmt.Errorf("decode event %q: %w", data, err)
	}
	if event.Seq <= s.last {
		return false, nil
	}
	s.last = event.Seq
	last := event.Stage == scanapi.EventDone || event.Stage == scanapi.EventError
	return !yield(event, nil) || last, nil
}
