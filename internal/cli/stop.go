// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"os"
	"sync"
	"syscall"

	"github.com/go-logr/logr"
)

// stop turns signals into steps: the first one ends a context, the second one calls a function if there is one, and
// the next one ends the process.
type stop struct {
	log     logr.Logger
	cancel  context.CancelFunc
	exit    func(code int)
	done    chan struct{} // closed by close
	handled sync.WaitGroup

	mu     sync.Mutex
	second func()
}

// newStop handles the signals of the command until close. The context ends with the first one.
func newStop(c Command, sys System, log logr.Logger) (context.Context, *stop) {
	wanted := c.Signals
	if len(wanted) == 0 {
		wanted = []os.Signal{os.Interrupt, syscall.SIGTERM}
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &stop{log: log, cancel: cancel, exit: sys.Exit, done: make(chan struct{})}
	signals := make(chan os.Signal, 3) // one per step: a burst must not lose one
	unsubscribe := sys.Notify(signals, wanted...)
	s.handled.Go(func() {
		defer unsubscribe()
		s.handle(signals)
	})
	return ctx, s
}

// handle returns when the process is to end or close was called.
func (s *stop) handle(signals <-chan os.Signal) {
	for n := 1; ; n++ {
		select {
		case sig := <-signals:
			if !s.step(n, sig) {
				s.exit(ExitFailure)
				return
			}
		case <-s.done:
			return
		}
	}
}

// step handles the n-th signal. It returns false if the process is to end.
func (s *stop) step(n int, sig os.Signal) bool {
	second := s.secondStep()
	switch {
	case n == 1:
		s.log.Info("stopping", "signal", sig.String())
		s.cancel()
		return true
	case n == 2 && second != nil:
		s.log.Info("stopping at once", "signal", sig.String())
		second()
		return true
	}
	s.log.Info("exiting before the stop is complete", "signal", sig.String())
	return false
}

func (s *stop) onSecond(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.second = f
}

func (s *stop) secondStep() func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.second
}

// close ends the context and gives the signals their usual effect again.
func (s *stop) close() {
	s.cancel()
	close(s.done)
	s.handled.Wait()
}
