package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/eco2-team/scan-operator/dev/localstack"
)

// manifests are a budget and one pool each for photos and answers, with room for all calls.
const manifests = `apiVersion: scan.growbin.app/v1alpha1
kind: TokenBudget
metadata: {name: account}
spec:
  secretRef: {name: account, key: api-key}
  models: [gpt-5.1]
  tokensPerMinute: %[1]d
  requestsPerMinute: 1000000
---
apiVersion: scan.growbin.app/v1alpha1
kind: WorkerPool
metadata: {name: vision}
spec:
  stages: [vision, rule]
  budgets: [{name: account}]
  concurrencyPerWorker: 2000
  minReplicas: 1
  maxReplicas: 4
  stageDefaults: {timeoutSeconds: 60, maxOutputTokens: 300}
---
apiVersion: scan.growbin.app/v1alpha1
kind: WorkerPool
metadata: {name: answer}
spec:
  stages: [answer, reward]
  budgets: [{name: account}]
  concurrencyPerWorker: 2000
  minReplicas: 1
  maxReplicas: 4
  stageDefaults: {timeoutSeconds: 60, maxOutputTokens: 800}
`

// world is a stack with one or two replicas of the API.
type world struct {
	stack    *localstack.Stack
	replicas []*replica
	second   *exec.Cmd // nil with one replica
	cleanup  func()
}

// replica is one server of the API.
type replica struct {
	address string
	down    atomic.Bool
}

func startWorld(ctx context.Context, o options) (*world, error) {
	dir, cleanup := o.dir, func() {}
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "scan-apiload-"); err != nil {
			return nil, err
		}
		cleanup = func() { _ = os.RemoveAll(dir) }
	}
	objects := filepath.Join(dir, "manifests")
	if err := os.MkdirAll(objects, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(objects, "stack.yaml"), fmt.Appendf(nil, manifests, o.tokensPerMinute), 0o600); err != nil {
		return nil, err
	}
	stack, err := localstack.Start(ctx, localstack.Options{
		Dir: filepath.Join(dir, "state"), K8sDir: o.k8sDir, BinDir: o.binDir, ConfigDir: o.configDir, ManifestsDir: objects,
		Speed: o.speed, TokensPerMinute: o.tokensPerMinute, RequestsPerMinute: 1_000_000,
		APIArgs: apiArgs, Progress: os.Stderr,
	})
	if err != nil {
		cleanup()
		return nil, err
	}
	w := &world{stack: stack, cleanup: cleanup}
	w.replicas = append(w.replicas, &replica{address: strings.TrimPrefix(stack.APIURL(), "http://")})
	if o.replicas == 2 {
		if err := w.startSecond(ctx, o, filepath.Join(dir, "state")); err != nil {
			w.stop()
			return nil, err
		}
	}
	return w, nil
}

// apiArgs turn nobody away: what is measured is what is served.
var apiArgs = []string{"--max-estimated-wait=0", "--max-unfinished=0", "--zap-log-level=error"}

func (w *world) startSecond(ctx context.Context, o options, state string) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(state, "log", "api-2.log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own
	args := append([]string{
		"--kubeconfig=" + filepath.Join(state, "pki", "api.kubeconfig"), "--namespace=" + w.stack.Namespace(),
		"--bind-address=" + address, "--queue-urls=" + strings.Join(w.stack.QueueURLs(), ","),
	}, apiArgs...)
	w.second = exec.Command(filepath.Join(o.binDir, "api"), args...) //nolint:noctx // stop ends it
	w.second.Stdout, w.second.Stderr = log, log
	if err := w.second.Start(); err != nil {
		w.second = nil
		return fmt.Errorf("start the second replica: %w", err)
	}
	r := &replica{address: address}
	w.replicas = append(w.replicas, r)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if status, err := get(ctx, "http://"+address+"/readyz"); err == nil && status == 200 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.New("the second replica is not ready after a minute")
}

// killSecond ends the second replica as a crash would.
func (w *world) killSecond() error {
	if w.second == nil {
		return nil
	}
	w.replicas[1].down.Store(true)
	err := w.second.Process.Kill()
	_ = w.second.Wait() // it was killed, which is what it says
	w.second = nil
	return err
}

func (w *world) stop() {
	_ = w.killSecond()
	w.stack.Hurry()
	w.stack.Stop()
	w.cleanup()
}

// dialer connects to the replicas in turn, leaving out those that refuse: it stands for a Service.
func (w *world) dialer() func(ctx context.Context, network, address string) (net.Conn, error) {
	var turn atomic.Uint64
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		first := turn.Add(1)
		var errs []error
		for i := range uint64(len(w.replicas)) {
			r := w.replicas[(first+i)%uint64(len(w.replicas))]
			if r.down.Load() {
				continue
			}
			c, err := (&net.Dialer{}).DialContext(ctx, network, r.address)
			if err == nil {
				return c, nil
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}
}
