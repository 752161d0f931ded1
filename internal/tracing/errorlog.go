// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/utils/clock"
)

// logEvery is the minimum interval between two log lines about lost spans. While a collector is away, each batch is an
// error.
const logEvery = time.Minute

// errorLog logs at most one error of the SDK per logEvery, with the number of errors suppressed since the last.
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
	l.log.Error(err, "spans lost", "suppressed", l.suppressed)
	l.logged, l.suppressed = now, 0
}
