// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
)

// logs keep the log lines of one test's parts, and print them if the test fails.
type logs struct {
	mu      sync.Mutex
	lines   []string
	changed chan struct{} // closed and replaced at every line
}

// shownLines is how much of the log a failed test shows.
const shownLines = 60

func newLogs(t *testing.T) *logs {
	t.Helper()
	l := &logs{changed: make(chan struct{})}
	t.Cleanup(func() {
		if t.Failed() {
			lines, _ := l.read()
			t.Logf("the log's end:\n%s", strings.Join(lines[max(len(lines)-shownLines, 0):], "\n"))
		}
	})
	return l
}

// logger returns a logger whose lines name their part.
func (l *logs) logger(part string) logr.Logger {
	return funcr.New(func(prefix, args string) { l.add(part + " " + prefix + " " + args) },
		funcr.Options{LogTimestamp: true, TimestampFormat: "15:04:05.000"})
}

func (l *logs) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	close(l.changed)
	l.changed = make(chan struct{})
}

// read returns all lines and a channel that is closed at the next one.
func (l *logs) read() (lines []string, next <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clip(l.lines), l.changed
}
