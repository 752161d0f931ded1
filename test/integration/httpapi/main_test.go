// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package httpapi_test runs the HTTP API against a real API server, with the rights that config/rbac gives it.
package httpapi_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	kube "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/httpapi"
	"github.com/eco2-team/scan-operator/pkg/client"
	"github.com/eco2-team/scan-operator/test/testenv"
)

var controlPlane *testenv.ControlPlane

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctrl.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard())
	var err error
	if controlPlane, err = testenv.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := controlPlane.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func newScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return scheme
}

func newAdmin(t *testing.T) kube.Client {
	t.Helper()
	admin, err := kube.New(controlPlane.Config, kube.Options{Scheme: newScheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	return admin
}

// replica is one server of the API.
type replica struct {
	address string
	// requests counts what the replica asked of the API server, the watches included.
	requests atomic.Int64
	stop     func()
}

// startReplica starts a server and returns when it is ready. It stops with the test, or before by stop.
func startReplica(t *testing.T, namespace string) *replica {
	t.Helper()
	r := &replica{}
	config := controlPlane.As(namespace, testenv.AccountAPI)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(request *http.Request) (*http.Response, error) {
			r.requests.Add(1)
			return next.RoundTrip(request)
		})
	})
	backend, err := httpapi.NewBackend(config, newScheme(t), namespace)
	if err != nil {
		t.Fatal(err)
	}
	server, err := httpapi.New(httpapi.Options{
		Namespace: namespace, Scans: backend, Models: backend, Synced: backend.Synced, MetricsRegistry: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.address = listener.Addr().String()

	serving, stopServing := context.WithCancel(context.WithoutCancel(t.Context()))
	watching, stopWatching := context.WithCancel(context.WithoutCancel(t.Context()))
	served, watched := make(chan error, 1), make(chan error, 1)
	go func() { served <- server.Serve(serving, listener, httpapi.ServeOptions{}) }()
	go func() { watched <- backend.Run(watching, server.WatchHandler()) }()
	var stopped atomic.Bool
	r.stop = func() {
		if stopped.Swap(true) {
			return
		}
		stopServing()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		stopWatching()
		if err := <-watched; err != nil {
			t.Errorf("watch: %v", err)
		}
	}
	t.Cleanup(r.stop)
	eventually(t, "the replica is ready", func() bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.address+"/readyz", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return false
		}
		return answer.Body.Close() == nil && answer.StatusCode == http.StatusOK
	})
	return r
}

// clientOf returns a client for user "kim" whose connections go to whichever replica is returned.
func clientOf(t *testing.T, choose func() *replica) *client.Client {
	t.Helper()
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, choose().address)
		},
		MaxIdleConnsPerHost: 100,
	}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := client.New("http://scan.example.com", client.WithUser("kim"), client.WithHTTPClient(&http.Client{Transport: transport}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func only(r *replica) func() *replica { return func() *replica { return r } }

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// eventually waits at most a minute for an effect of another process.
func eventually(t *testing.T, what string, reached func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for !reached() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("not true after a minute: %s", what)
		}
	}
}
