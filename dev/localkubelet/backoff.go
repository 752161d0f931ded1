// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localkubelet

import "time"

// RestartBackoff spaces the restarts of a container that keeps ending: the
// first restart is immediate, the next waits Initial, each further one twice as
// long up to Max. A container that ran for twice Max starts over.
type RestartBackoff struct {
	Initial, Max time.Duration
}

// KubeletBackoff is the kubelet's spacing: 10 s doubling to 5 min.
var KubeletBackoff = RestartBackoff{Initial: 10 * time.Second, Max: 5 * time.Minute}

// RestartDelay is the place of one program in its backoff.
type RestartDelay struct {
	backoff RestartBackoff
	current time.Duration
}

// NewRestartDelay is the place of a program that has not ended yet.
func NewRestartDelay(b RestartBackoff) *RestartDelay { return &RestartDelay{backoff: b} }

// Next is how long to wait before restarting a program that ran for so long.
func (r *RestartDelay) Next(ran time.Duration) time.Duration {
	if ran >= 2*r.backoff.Max {
		r.current = 0
	}
	wait := r.current
	r.current = min(max(r.backoff.Initial, 2*r.current), r.backoff.Max)
	return wait
}
