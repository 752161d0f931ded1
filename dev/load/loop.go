// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Loop is a closed loop: each client submits a scan, follows it to its end, and submits the next.
type Loop struct {
	// Clients is the number of clients, and so of unfinished scans.
	Clients int
	// RampUp is the time over which the clients start, evenly spread. 0 starts all at once.
	RampUp time.Duration
	// Submits bounds the submits at a time. 0 means no bound.
	Submits int
	// Submit submits the n-th scan of a client and returns its name.
	Submit func(ctx context.Context, client, n int) (name string, err error)
	// Follow returns when the n-th scan of a client has ended.
	Follow func(ctx context.Context, client, n int, name string) error
}

// Run runs the clients until ctx ends or one of them fails, and returns when all have stopped. The end of ctx is not
// an error. Scans may still be unfinished then.
func (l *Loop) Run(ctx context.Context) error {
	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	turns := make(chan struct{}, max(l.Submits, 1))
	var all sync.WaitGroup
	for i := range l.Clients {
		all.Go(func() {
			if !Sleep(running, l.RampUp*time.Duration(i)/time.Duration(l.Clients)) {
				return
			}
			for n := 0; running.Err() == nil; n++ {
				name, err := l.submit(running, turns, i, n)
				if err == nil {
					err = l.Follow(running, i, n, name)
				}
				if err != nil {
					fail(fmt.Errorf("client %d: %w", i, err)) // the first error is kept
					return
				}
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(running)
}

func (l *Loop) submit(ctx context.Context, turns chan struct{}, client, n int) (string, error) {
	if l.Submits > 0 {
		select {
		case turns <- struct{}{}:
			defer func() { <-turns }()
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	return l.Submit(ctx, client, n)
}

// Sleep waits. It returns false if ctx ends first.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
