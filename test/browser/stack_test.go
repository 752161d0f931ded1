// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The programs, from this directory. make test-browser builds them.
var (
	root   = filepath.Join("..", "..")
	binDir = filepath.Join(root, "bin")
)

// freeAddress returns a free address of this machine.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// program is a process of the product.
type program struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	output bytes.Buffer
	once   sync.Once
}

// start starts a program, which ends with the test.
func start(t *testing.T, name string, args ...string) *program {
	t.Helper()
	p := &program{t: t, name: name}
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(binDir, name), args...)
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%v: build the programs with make build k8s", err)
	}
	t.Cleanup(p.stop)
	return p
}

// stop ends the program gracefully and waits for its end.
func (p *program) stop() {
	p.once.Do(func() {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			p.t.Errorf("stop %s: %v", p.name, err)
		}
		if err := p.cmd.Wait(); err != nil || p.t.Failed() {
			p.t.Logf("%s ended: %v\n%s", p.name, err, p.output.Bytes())
		}
	})
}

// eventually waits for an effect of another process.
func eventually(t *testing.T, what string, reached func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(3 * time.Minute)
	defer limit.Stop()
	for !reached() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("not true after three minutes: %s", what)
		}
	}
}

// answers says whether a URL answers with status 200.
func answers(t *testing.T, target string) func() bool {
	t.Helper()
	return func() bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(request)
		return err == nil && answer.Body.Close() == nil && answer.StatusCode == http.StatusOK
	}
}

// replicas starts a whole local stack and two servers of the API, which pages of the origin may call. It returns
// where the servers are.
func replicas(t *testing.T, origin string) (first, second *program, addresses [2]string) {
	t.Helper()
	dir := t.TempDir()
	own := freeAddress(t)
	start(t, "local", "--dir="+dir, "--bin-dir="+binDir, "--k8s-dir="+filepath.Join(binDir, "k8s"),
		"--config="+filepath.Join(root, "config"), "--manifests="+filepath.Join(root, "config", "samples"),
		"--api-address="+own, "--sim-address="+freeAddress(t), "--speed=2")
	eventually(t, "the stack is up", answers(t, "http://"+own+"/readyz"))
	var programs [2]*program
	for i := range programs {
		addresses[i] = freeAddress(t)
		programs[i] = start(t, "api", "--kubeconfig="+filepath.Join(dir, "pki", "api.kubeconfig"), "--namespace=scans",
			"--bind-address="+addresses[i], "--allowed-origins="+origin, "--drain-delay=0s")
		eventually(t, fmt.Sprintf("replica %d is ready", i), answers(t, "http://"+addresses[i]+"/readyz"))
	}
	return programs[0], programs[1], addresses
}

// gateway is a proxy between the browser and the replicas: it turns the session's cookie into the user's header.
type gateway struct {
	proxy  *httputil.ReverseProxy
	target atomic.Pointer[string]

	mu      sync.Mutex
	lastIDs []string // the Last-Event-ID of each request for a stream
}

func newGateway(address string) *gateway {
	g := &gateway{}
	g.target.Store(&address)
	g.proxy = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: *g.target.Load()})
		r.Out.Header.Del("X-User-ID")
		if session, err := r.In.Cookie("session"); err == nil {
			r.Out.Header.Set("X-User-ID", session.Value)
		}
	}}
	return g
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Accept") == "text/event-stream" {
		g.mu.Lock()
		g.lastIDs = append(g.lastIDs, r.Header.Get("Last-Event-ID"))
		g.mu.Unlock()
	}
	g.proxy.ServeHTTP(w, r)
}

func (g *gateway) reconnects() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.lastIDs...)
}
