package httpapi

import (
	"sync"
	"time"
)

// QueueView answers from the scheduler's memory, at once. Its answers may be approximate and a few seconds old.
type QueueView interface {
	// Position returns the number of scans ahead of a waiting scan and the estimated time until its next stage
	// begins, nil where that is not known; ok is false where nothing is known of the scan.
	Position(namespace, name string) (position int, estimatedWait *time.Duration, ok bool)
	// EstimatedWait returns the time that a scan submitted at asOf would have waited; ok is false where that is
	// not known.
	EstimatedWait(namespace string) (wait time.Duration, asOf time.Time, ok bool)
}

// noQueueView knows nothing.
type noQueueView struct{}

func (noQueueView) Position(string, string) (int, *time.Duration, bool) { return 0, nil, false }

func (noQueueView) EstimatedWait(string) (time.Duration, time.Time, bool) {
	return 0, time.Time{}, false
}

// surge counts the scans that were admitted on the strength of one estimate, which does not know of them.
type surge struct {
	mu       sync.Mutex
	asOf     time.Time
	admitted int
}

// since returns the number of scans that were admitted since the estimate of that time was first used.
func (s *surge) since(asOf time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asOf.Equal(asOf) {
		s.asOf, s.admitted = asOf, 0
	}
	return s.admitted
}

// add counts a scan that was admitted.
func (s *surge) add() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admitted++
}
