// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	clocktesting "k8s.io/utils/clock/testing"
)

func TestErrorLog(t *testing.T) {
	var lines []string
	clock := clocktesting.NewFakePassiveClock(time.Unix(1000, 0))
	l := &errorLog{clock: clock, log: funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{})}
	for range 3 {
		l.handle(errors.New("collector is away"))
	}
	if len(lines) != 1 {
		t.Fatalf("lines after three errors at once: %q, want one", lines)
	}
	clock.SetTime(clock.Now().Add(logEvery))
	l.handle(errors.New("still away"))
	if len(lines) != 2 || !strings.Contains(lines[1], `"suppressed"=2`) {
		t.Errorf("lines a minute later: %q, want a second one that counts two", lines)
	}
}
