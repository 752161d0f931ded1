// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// poolHistory is how the pools changed.
type poolHistory struct {
	stop    context.CancelFunc
	stopped chan error

	mu      sync.Mutex
	begun   time.Time
	changes []poolState
}

// poolState is a pool's state after a change.
type poolState struct {
	at                             time.Duration // since the beginning of the load
	pool                           string
	desired, ready, flight, queued int32
	limitedBy                      v1alpha1.PoolLimit
}

// watchPools follows the pools, whose status is updated every five seconds, and their Deployments, which change at once.
func watchPools(ctx context.Context, h *harness) (*poolHistory, error) {
	objects, err := cache.New(h.config, cache.Options{
		Scheme: h.client.Scheme(), DefaultNamespaces: map[string]cache.Config{h.namespace: {}},
	})
	if err != nil {
		return nil, fmt.Errorf("watch pools: %w", err)
	}
	p := &poolHistory{stopped: make(chan error, 1)}
	for _, kind := range []client.Object{&v1alpha1.WorkerPool{}, &appsv1.Deployment{}} {
		informer, err := objects.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("watch %T: %w", kind, err)
		}
		if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc: p.observe, UpdateFunc: func(_, obj any) { p.observe(obj) },
		}); err != nil {
			return nil, fmt.Errorf("watch %T: %w", kind, err)
		}
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	p.stop = stop
	go func() { p.stopped <- objects.Start(watching) }()
	if !objects.WaitForCacheSync(ctx) {
		return nil, errors.Join(errors.New("watch pools: the watch does not start"), p.close())
	}
	return p, nil
}

func (p *poolHistory) close() error {
	p.stop()
	return <-p.stopped
}

// begin sets the time from which changes count.
func (p *poolHistory) begin(at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = at
}

func (p *poolHistory) observe(obj any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var now poolState
	switch o := obj.(type) {
	case *v1alpha1.WorkerPool:
		now = p.lastLocked(o.Name)
		now.queued, now.flight, now.limitedBy = ptr.Deref(o.Status.Queued, 0), ptr.Deref(o.Status.InFlight, 0), o.Status.LimitedBy
	case *appsv1.Deployment:
		now = p.lastLocked(o.Labels[v1alpha1.LabelPool])
		now.ready = o.Status.ReadyReplicas
		if o.Spec.Replicas != nil {
			now.desired = *o.Spec.Replicas
		}
	}
	if !p.begun.IsZero() {
		now.at = time.Since(p.begun)
	}
	p.changes = append(p.changes, now)
}

// lastLocked is a pool's newest state.
func (p *poolHistory) lastLocked(pool string) poolState {
	for _, s := range slices.Backward(p.changes) {
		if s.pool == pool {
			return s
		}
	}
	return poolState{pool: pool}
}

// of returns the states of one pool, oldest first.
func (p *poolHistory) of(pool string) []poolState {
	p.mu.Lock()
	defer p.mu.Unlock()
	var states []poolState
	for _, s := range p.changes {
		if s.pool == pool {
			states = append(states, s)
		}
	}
	return states
}
