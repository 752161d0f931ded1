// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rewardhook posts rewards to another service.
package rewardhook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// timeout bounds one request.
const timeout = 10 * time.Second

// maxAnswer bounds how much of a response is read so that its connection can be reused, in bytes.
const maxAnswer = 64 << 10

// Client posts rewards to one URL.
type Client struct {
	// URL is where to post.
	URL string
	// TokenFile has a bearer token, read for each request so that it can be rotated; empty for none.
	TokenFile string
	// HTTP sends the requests; nil means http.DefaultClient.
	HTTP *http.Client
}

// Event is the body of a request.
type Event struct {
	// ScanID is the name of the ScanRequest, which is the job id of the HTTP API.
	ScanID string `json:"scan_id"`
	// UserID is the user the scan was run for.
	UserID string `json:"user_id"`
	// Reward is the matched reward.
	Reward Reward `json:"reward"`
	// FinishedAt is when the scan finished.
	FinishedAt time.Time `json:"finished_at"`
}

// Reward is the matched character.
type Reward struct {
	Name        string `json:"name"`
	Type        string `json:"type"`
	Dialog      string `json:"dialog"`
	MatchReason string `json:"match_reason"`
}

// StatusError is an answer other than 2xx.
type StatusError struct {
	// Code is the HTTP status.
	Code int
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("the reward webhook answered %d %s", e.Code, http.StatusText(e.Code))
}

// Post posts a finished scan's reward. The Idempotency-Key is the scan's UID: a receiver that has seen it before answers
// 2xx and does nothing. The error is a *StatusError if the receiver answered.
func (c *Client) Post(ctx context.Context, scan *v1alpha1.ScanRequest) error {
	r := scan.Status.Result.Reward
	body, err := json.Marshal(Event{
		ScanID: scan.Name, UserID: scan.Spec.UserID, FinishedAt: scan.Status.FinishedAt.UTC(),
		Reward: Reward{Name: r.Name, Type: r.Type, Dialog: r.Dialog, MatchReason: r.MatchReason},
	})
	if err != nil {
		return fmt.Errorf("encode the reward: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make a request to the reward webhook: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", string(scan.UID))
	if c.TokenFile != "" {
		token, err := os.ReadFile(c.TokenFile)
		if err != nil {
			return fmt.Errorf("read the reward webhook's token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("post a reward: %w", err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	if err := resp.Body.Close(); err != nil {
		return fmt.Errorf("post a reward: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return &StatusError{Code: resp.StatusCode}
	}
	return nil
}
