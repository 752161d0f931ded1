package localnode

import "time"

// RestartBackoff spaces the restarts of a container that keeps ending: the
// first restart is immediate, the next waits Initial, each further one twice as
// long up to Max. A container that ran for twice Max starts over.
type RestartBackoff struct {
	Initial, Max time.Duration
}

// KubeletBackoff is the kubelet's spacing: 10 s doubling to 5 min.
var KubeletBackoff = RestartBackoff{Initial: 10 * time.Second, Max: 5 * time.Minute}

// restartDelay holds one container's place in its backoff.
type restartDelay struct {
	RestartBackoff
	current time.Duration
}

// next is how long to wait before restarting a container that ran for so long.
func (r *restartDelay) next(ran time.Duration) time.Duration {
	if ran >= 2*r.Max {
		r.current = 0
	}
	wait := r.current
	r.current = min(max(r.Initial, 2*r.current), r.Max)
	return wait
}
