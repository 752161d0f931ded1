// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/eco2-team/scan-operator/dev/load"
	"github.com/eco2-team/scan-operator/dev/localkubelet/process"
)

// apiReplicas are one or two servers of the API.
type apiReplicas struct {
	all    []*apiReplica
	second *process.Process // nil with one replica
}

type apiReplica struct {
	address string
	down    atomic.Bool
}

// usage is what a replica has used.
type usage struct {
	cpuSeconds, resident, goroutines, apiRequests float64
}

// startReplicas adds a second server to that of the stack, if two are wanted.
func startReplicas(ctx context.Context, h *harness, o options) (*apiReplicas, error) {
	r := &apiReplicas{all: []*apiReplica{{address: strings.TrimPrefix(h.stack.APIURL(), "http://")}}}
	if o.replicas < 2 {
		return r, nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a port for the second replica: %w", err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return nil, fmt.Errorf("find a port for the second replica: %w", err)
	}
	r.second, err = process.Start(process.Spec{
		Path: filepath.Join(o.binDir, "api"), Env: os.Environ(), LogFile: filepath.Join(h.stack.LogDir(), "api-2.log"),
		Args: append([]string{
			"--kubeconfig=" + filepath.Join(h.stateDir(), "pki", "api.kubeconfig"), "--namespace=" + h.namespace,
			"--bind-address=" + address, "--queue-urls=" + strings.Join(h.stack.QueueURLs(), ","),
		}, apiArgs...),
	})
	if err != nil {
		return nil, fmt.Errorf("start the second replica: %w", err)
	}
	r.all = append(r.all, &apiReplica{address: address})
	err = wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		return answersOK(ctx, "http://"+address+"/readyz"), nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wait for the second replica: %w", err), r.close())
	}
	return r, nil
}

func answersOK(ctx context.Context, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	return response.Body.Close() == nil && response.StatusCode == http.StatusOK
}

// killSecond ends the second replica as a crash would.
func (r *apiReplicas) killSecond() error {
	r.all[1].down.Store(true)
	if err := r.second.Signal(syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill the second replica: %w", err)
	}
	<-r.second.Done()
	return nil
}

func (r *apiReplicas) close() error {
	if r.second == nil || !r.second.Running() {
		return nil
	}
	return r.killSecond()
}

// dialer connects to the replicas in turn and skips those that are down: it stands for a Service.
func (r *apiReplicas) dialer() func(ctx context.Context, network, address string) (net.Conn, error) {
	var turn atomic.Uint64
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		first := turn.Add(1)
		var errs []error
		for i := range uint64(len(r.all)) {
			replica := r.all[(first+i)%uint64(len(r.all))]
			if replica.down.Load() {
				continue
			}
			c, err := (&net.Dialer{}).DialContext(ctx, network, replica.address)
			if err == nil {
				return c, nil
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}
}

// usage reads a replica's metrics; its process collector reads /proc.
func (r *apiReplicas) usage(ctx context.Context, i int) (u usage, streams float64, err error) {
	m, err := load.Scrape(ctx, http.DefaultClient, "http://"+r.all[i].address+"/api/v1/scan/metrics")
	if err != nil {
		return usage{}, 0, fmt.Errorf("read the metrics of replica %d: %w", i+1, err)
	}
	return usage{
		cpuSeconds: m.Sum("process_cpu_seconds_total"), resident: m.Sum("process_resident_memory_bytes"),
		goroutines: m.Sum("go_goroutines"), apiRequests: m.Sum("rest_client_requests_total"),
	}, m.Sum("scan_api_streams"), nil
}
