// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localkubelet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// claimPort is where a node listens to claim a block of addresses.
const claimPort = "10256"

// addresses assigns loopback addresses, one per pod: 127.1.B.2 to 127.1.B.254.
// A node claims its block B by listening on 127.1.B.1, so that several nodes on
// one machine (tests run in parallel) never share an address.
type addresses struct {
	claim net.Listener
	block int

	mu   sync.Mutex
	used map[int]bool
	last int
}

// claimAddresses takes the first free block.
func claimAddresses(ctx context.Context) (*addresses, error) {
	var config net.ListenConfig
	for block := range 255 {
		l, err := config.Listen(ctx, "tcp4", net.JoinHostPort(fmt.Sprintf("127.1.%d.1", block), claimPort))
		switch {
		case err == nil:
			return &addresses{claim: l, block: block, used: map[int]bool{}, last: 1}, nil
		case errors.Is(err, syscall.EADDRINUSE):
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			return nil, fmt.Errorf("claim loopback addresses for pods: address 127.1.%d.1 is not available "+
				"(Linux has all of 127.0.0.0/8; on macOS add them with: sudo ifconfig lo0 alias 127.1.0.N): %w", block, err)
		default:
			return nil, fmt.Errorf("claim loopback addresses for pods: %w", err)
		}
	}
	return nil, fmt.Errorf("all 255 blocks of 127.1.0.0/16 are claimed by other local nodes (port %s)", claimPort)
}

// take returns the next free address after the last one, so that a new pod does not
// get the sockets of the one that has just ended.
func (a *addresses) take() (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for range 253 {
		a.last++
		if a.last > 254 {
			a.last = 2
		}
		if !a.used[a.last] {
			a.used[a.last] = true
			return fmt.Sprintf("127.1.%d.%d", a.block, a.last), nil
		}
	}
	return "", errors.New("all 253 pod addresses of this node are in use")
}

func (a *addresses) give(ip string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var block, n int
	if _, err := fmt.Sscanf(ip, "127.1.%d.%d", &block, &n); err == nil && block == a.block {
		delete(a.used, n)
	}
}

// close releases the block.
func (a *addresses) close() error { return a.claim.Close() }
