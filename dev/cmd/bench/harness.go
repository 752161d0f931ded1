// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/dev/load"
	"github.com/eco2-team/scan-operator/dev/localstack"
	"github.com/eco2-team/scan-operator/internal/queuestatus"
)

// harness is what a measurement runs on.
type harness struct {
	stack     *localstack.Stack // nil for one that ran already
	config    *rest.Config
	namespace string
	client    client.Client
	sim       load.Simulator // without a URL where there is none
	recorder  *load.Recorder // after watchScans
	dir       string         // removed at the end
}

// stackOptions are how a harness's own stack differs from the usual one.
type stackOptions struct {
	manifests       string
	tokensPerMinute int64
	speed           float64 // 0 leaves the simulator's latencies as they were measured
	apiArgs         []string
	progress        io.Writer
}

// startHarness starts a stack.
func startHarness(ctx context.Context, o options, s stackOptions) (*harness, error) {
	dir, err := os.MkdirTemp("", "scan-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the stack: %w", err)
	}
	h := &harness{dir: dir}
	objects := filepath.Join(dir, "manifests")
	if err := os.MkdirAll(objects, 0o700); err != nil {
		return nil, errors.Join(fmt.Errorf("write the manifests: %w", err), h.close())
	}
	if err := os.WriteFile(filepath.Join(objects, "stack.yaml"), []byte(s.manifests), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("write the manifests: %w", err), h.close())
	}
	h.stack, err = localstack.Start(ctx, localstack.Options{
		Dir: h.stateDir(), K8sDir: o.k8sDir, BinDir: o.binDir, ConfigDir: o.configDir, ManifestsDir: objects,
		Speed: s.speed, TokensPerMinute: s.tokensPerMinute, RequestsPerMinute: requestsPerMinute,
		APIArgs: s.apiArgs, Progress: s.progress,
	})
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	h.config, h.namespace, h.sim = h.stack.RESTConfig(), h.stack.Namespace(), load.Simulator{URL: h.stack.SimURL()}
	if err := h.connect(); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// attachHarness takes a stack, or a cluster, that runs already.
func attachHarness(o options) (*harness, error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", o.kubeconfig, err)
	}
	config.QPS = -1 // the API server limits its clients itself
	h := &harness{config: config, namespace: o.namespace, sim: load.Simulator{URL: o.simURL}}
	return h, h.connect()
}

func (h *harness) connect() error {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, appsv1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			return fmt.Errorf("make a client: %w", err)
		}
	}
	var err error
	if h.client, err = client.New(h.config, client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	return nil
}

// watchScans follows all scans. It costs the API server a watch, so it is for measurements that need it.
func (h *harness) watchScans(ctx context.Context) (err error) {
	h.recorder, err = load.Watch(ctx, h.config, h.namespace)
	return err
}

func (h *harness) stateDir() string { return filepath.Join(h.dir, "state") }

func (h *harness) close() error {
	var errs []error
	if h.recorder != nil {
		errs = append(errs, h.recorder.Close())
	}
	if h.stack != nil {
		h.stack.Hurry()
		h.stack.Stop()
	}
	if h.dir != "" {
		errs = append(errs, os.RemoveAll(h.dir))
	}
	return errors.Join(errs...)
}

// queuePositions starts a client of the managers' queue servers. The function it returns ends the client.
func (h *harness) queuePositions(ctx context.Context, addresses []string) (positions *queuestatus.Client, stop func(), err error) {
	o := queuestatus.ClientOptions{Namespace: h.namespace}
	for _, address := range addresses {
		u, err := url.Parse(strings.TrimSpace(address))
		if err != nil {
			return nil, nil, fmt.Errorf("address of a queue server: %w", err)
		}
		o.URLs = append(o.URLs, u)
	}
	if positions, err = queuestatus.NewClient(o); err != nil {
		return nil, nil, err
	}
	running, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { _ = positions.Run(running) }) // returns no error
	return positions, func() { cancel(); wg.Wait() }, nil
}
