package tracing

import (
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/utils/clock"
)

// logEvery is the shortest time between two log lines about spans that were lost. A collector that is away is an
// error of every batch.
const logEvery = time.Minute

// errorLog logs the first error of the SDK in a minute, and how many came before it.
type errorLog struct {
	log   logr.Logger
	clock clock.PassiveClock

	mu         sync.Mutex
	logged     time.Time
	suppressed int
}

func (l *errorLog) handle(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	if !l.logged.IsZero() && now.Sub(l.logged) < logEvery {
		l.suppressed++
		return
	}
	l.log.Error(err, "Traces are lost", "suppressed", l.suppressed)
	l.logged, l.suppressed = now, 0
}
