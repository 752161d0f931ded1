// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package server serves the positions of waiting scans from the scheduler's memory.
package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/internal/queuestatus"
	"github.com/eco2-team/scan-operator/internal/scheduler"
)

// maxBodyBytes bounds a request; one of 1000 names has some 40 kB.
const maxBodyBytes = 512 << 10

// Scheduler is the part of the scheduler that is read.
type Scheduler interface {
	// QueuePosition returns the position of a waiting scan; ok is false for a scan that does not wait.
	QueuePosition(name types.NamespacedName) (standing scheduler.QueuePosition, ok bool)
	// EstimateNewScanWait estimates the wait of a scan that would be created now; ok is false where that is not known.
	EstimateNewScanWait(namespace string) (wait time.Duration, ok bool)
}

// Handler serves POST requests on queuestatus.Path.
func Handler(s Scheduler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+queuestatus.Path("{namespace}"), func(w http.ResponseWriter, r *http.Request) {
		var request queuestatus.Request
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBodyBytes)).Decode(&request); err != nil {
			http.Error(w, "decode the request: "+err.Error(), http.StatusBadRequest)
			return
		}
		if len(request.Names) > queuestatus.MaxNames {
			http.Error(w, fmt.Sprintf("%d names; at most %d are allowed in one request", len(request.Names), queuestatus.MaxNames), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(respond(s, r.PathValue("namespace"), request)) // fails only if the client has left
	})
	return mux
}

func respond(s Scheduler, namespace string, request queuestatus.Request) queuestatus.Response {
	response := queuestatus.Response{Scans: make(map[string]queuestatus.QueuePosition, len(request.Names))}
	for _, name := range request.Names {
		if standing, ok := s.QueuePosition(types.NamespacedName{Namespace: namespace, Name: name}); ok {
			response.Scans[name] = positionOf(standing)
		}
	}
	if wait, ok := s.EstimateNewScanWait(namespace); ok {
		response.NewScanWaitSeconds = new(wait.Seconds())
	}
	return response
}

// positionOf converts the scheduler's type to the wire type.
func positionOf(standing scheduler.QueuePosition) queuestatus.QueuePosition {
	position := queuestatus.QueuePosition{
		Ahead: standing.Ahead, TokensAhead: standing.TokensAhead, Reason: standing.Reason, Message: standing.Message,
	}
	if standing.WaitKnown {
		position.WaitSeconds = new(standing.Wait.Seconds())
	}
	return position
}
