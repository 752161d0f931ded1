// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestLoopSubmitsTheNextScanWhenTheLastHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		begun := time.Now()
		var mu sync.Mutex
		var submits []string
		l := &Loop{
			Clients: 2, RampUp: 2 * time.Second,
			Submit: func(_ context.Context, client, n int) (string, error) {
				mu.Lock()
				defer mu.Unlock()
				submits = append(submits, fmt.Sprintf("%s client %d scan %d", time.Since(begun), client, n))
				return fmt.Sprint(client, "-", n), nil
			},
			Follow: func(ctx context.Context, client, n int, name string) error {
				if want := fmt.Sprint(client, "-", n); name != want {
					t.Errorf("follows %s, want %s", name, want)
				}
				Sleep(ctx, 10*time.Second)
				return nil
			},
		}
		ended := make(chan error)
		go func() { ended <- l.Run(ctx) }()
		time.AfterFunc(15*time.Second, stop)
		if err := <-ended; err != nil {
			t.Errorf("the end of ctx is an error: %v", err)
		}
		want := []string{"0s client 0 scan 0", "1s client 1 scan 0", "10s client 0 scan 1", "11s client 1 scan 1"}
		if !slices.Equal(submits, want) {
			t.Errorf("submits: %q, want %q", submits, want)
		}
	})
}

func TestLoopBoundsSubmits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
		defer stop()
		var mu sync.Mutex
		now, most := 0, 0
		l := &Loop{
			Clients: 9, Submits: 3,
			Submit: func(ctx context.Context, _, _ int) (string, error) {
				mu.Lock()
				now++
				most = max(most, now)
				mu.Unlock()
				Sleep(ctx, time.Second)
				mu.Lock()
				now--
				mu.Unlock()
				return "", nil
			},
			Follow: func(context.Context, int, int, string) error { return nil },
		}
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
		if most != 3 {
			t.Errorf("%d submits at a time, want 3", most)
		}
	})
}

func TestLoopEndsWithItsFirstError(t *testing.T) {
	broken := errors.New("broken")
	l := &Loop{
		Clients: 3,
		Submit: func(_ context.Context, client, _ int) (string, error) {
			if client == 1 {
				return "", broken
			}
			return "", nil
		},
		Follow: func(ctx context.Context, _, _ int, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		},
	}
	if err := l.Run(t.Context()); !errors.Is(err, broken) || !strings.Contains(err.Error(), "client 1") {
		t.Errorf("error = %v, want that of client 1", err)
	}
}
