// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package queuestatus carries what the scheduler knows of waiting scans, from its memory: their position in the queue
// and how long they will probably wait. The leader serves it (package server), the HTTP API requests it; none of it is
// stored. This package has the wire types and the client, and imports nothing of this module.
package queuestatus

// MaxNames bounds the names of one request.
const MaxNames = 1000

// ReasonSuspended is the reason of a scan that its owner has suspended: it has no place in the queue. It is the
// reason that the scan's own condition has.
const ReasonSuspended = "Suspended"

// Path is the path of the positions of a namespace's scans on a manager's queue server. It takes POST.
func Path(namespace string) string { return "/v1/namespaces/" + namespace + "/positions" }

// Request asks for the positions of scans of one namespace.
type Request struct {
	// Names are at most MaxNames names of scans.
	Names []string `json:"names"`
}

// Response has the positions of those scans that wait, and the estimated wait of a new one.
type Response struct {
	// Scans has an entry for each requested scan that waits.
	Scans map[string]QueuePosition `json:"scans"`
	// NewScanWaitSeconds is the estimated wait of a scan that would be created now; absent where unknown.
	NewScanWaitSeconds *float64 `json:"newScanWaitSeconds,omitempty"`
}

// QueuePosition is the place of one scan in the queue.
type QueuePosition struct {
	// Ahead is the number of scans that go first.
	Ahead int `json:"ahead"`
	// TokensAhead is the number of tokens that those scans reserve.
	TokensAhead int64 `json:"tokensAhead"`
	// WaitSeconds is the estimated time until the scan is assigned; absent where unknown.
	WaitSeconds *float64 `json:"waitSeconds,omitempty"`
	// Reason and Message say why the scan waits.
	Reason  string `json:"reason"`
	Message string `json:"message"`
}
