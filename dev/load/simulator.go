// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/eco2-team/scan-operator/dev/openaisim"
)

// Simulator is the control interface of a running simulated provider.
type Simulator struct {
	// URL is its base URL, without a slash at the end.
	URL string
}

// Stats reads the counters.
func (s Simulator) Stats(ctx context.Context) (*openaisim.Stats, error) {
	stats := &openaisim.Stats{}
	if err := s.call(ctx, http.MethodGet, "/sim/stats", nil, stats); err != nil {
		return nil, err
	}
	return stats, nil
}

// SetFaults replaces the active faults; none removes all of them.
func (s Simulator) SetFaults(ctx context.Context, faults ...openaisim.Fault) error {
	document := struct {
		Faults []openaisim.Fault `json:"faults"`
	}{faults}
	return s.call(ctx, http.MethodPatch, "/sim/config", document, nil)
}

// Configure changes settings: document is that of a PATCH of /sim/config.
func (s Simulator) Configure(ctx context.Context, document string) error {
	return s.call(ctx, http.MethodPatch, "/sim/config", json.RawMessage(document), nil)
}

// call sends a document and reads the answer, where these are not nil.
func (s Simulator) call(ctx context.Context, method, path string, document, answer any) error {
	body := []byte{}
	if document != nil {
		encoded, err := json.Marshal(document)
		if err != nil {
			return fmt.Errorf("simulated provider: %w", err)
		}
		body = encoded
	}
	request, err := http.NewRequestWithContext(ctx, method, s.URL+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("simulated provider: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("simulated provider: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("simulated provider: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("simulated provider: %s %s: %s: %s", method, path, response.Status, content)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(content, answer); err != nil {
		return fmt.Errorf("simulated provider: %s %s: %w", method, path, err)
	}
	return nil
}
