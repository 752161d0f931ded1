// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localstack

import (
	"fmt"
	"io"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// stillEvery is how often a long step reports that it is still running.
const stillEvery = 5 * time.Second

// progress prints what happens, one line per step, with the seconds since the
// start.
type progress struct {
	clock clock.WithTicker
	begun time.Time

	mu  sync.Mutex
	out io.Writer
}

func newProgress(out io.Writer, clk clock.WithTicker) *progress {
	return &progress{clock: clk, begun: clk.Now(), out: out}
}

// line writes one line.
func (p *progress) line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// A failed print must not stop the work.
	_, _ = fmt.Fprintf(p.out, "%6.1fs  %s\n", p.clock.Since(p.begun).Seconds(), fmt.Sprintf(format, args...))
}

// step does the work and prints how long it took. Long work is reported in
// between.
func (p *progress) step(what, where string, work func() error) error {
	begun := p.clock.Now()
	ticker := p.clock.NewTicker(stillEvery)
	defer ticker.Stop()
	done := make(chan error, 1)
	go func() { done <- work() }()
	for {
		select {
		case err := <-done:
			took := p.clock.Since(begun).Seconds()
			switch {
			case err != nil:
				p.line("%s: failed after %.1f s", what, took)
			case where != "":
				p.line("%s: done in %.1f s (%s)", what, took, where)
			default:
				p.line("%s: done in %.1f s", what, took)
			}
			return err
		case <-ticker.C():
			p.line("%s: still running after %.0f s", what, p.clock.Since(begun).Seconds())
		}
	}
}
