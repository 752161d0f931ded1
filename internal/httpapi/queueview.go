package httpapi

import "time"

// QueueView answers from the scheduler's memory. Its answers may be approximate and a few seconds old.
type QueueView interface {
	// Position returns the number of scans ahead of a waiting scan and the estimated time until its next stage
	// begins; ok is false where that is not known.
	Position(namespace, name string) (position int, estimatedWait time.Duration, ok bool)
	// EstimatedWait returns the time that a scan submitted now would wait in all; ok is false where that is not
	// known.
	EstimatedWait(namespace string) (wait time.Duration, ok bool)
}

// noQueueView knows nothing.
type noQueueView struct{}

func (noQueueView) Position(string, string) (int, time.Duration, bool) { return 0, 0, false }

func (noQueueView) EstimatedWait(string) (time.Duration, bool) { return 0, false }
