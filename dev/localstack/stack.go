// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localstack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/eco2-team/scan-operator/dev/localkubelet"
	"github.com/eco2-team/scan-operator/dev/localkubelet/process"
	"github.com/eco2-team/scan-operator/internal/queuestatus"
)

// simulatedKey is the provider key the simulator is used with; it takes any.
const simulatedKey = "sk-local-simulator"

// workersWithin is how long Start waits for the first workers. It continues
// without them: kubectl shows why there are none.
const workersWithin = 30 * time.Second

// Stack is a running product. Its methods may be called from any goroutine.
type Stack struct {
	opts     Options
	progress *progress
	lock     *os.File
	hurry    chan struct{} // closed to end everything at once
	hurried  sync.Once

	kubeURL, apiURL, simURL string
	queueURLs, metricsURLs  []string
	admin                   keyPair
	config                  *rest.Config

	components []*component // in the order of their start
	node       *localkubelet.Node
	stopNode   context.CancelFunc
	nodeEnded  chan error

	failed  chan error // holds the first failure of a part
	stopped sync.Once
}

// Start starts everything, and returns when scans can be submitted. If a part
// does not start, the error names it, the cause, and the end of its log, and what
// was started is stopped again. ctx bounds the start only: Stop ends the stack.
func Start(ctx context.Context, opts Options) (*Stack, error) {
	opts.setDefaults()
	if err := opts.resolve(); err != nil {
		return nil, err
	}
	s := &Stack{
		opts: opts, progress: newProgress(opts.Progress, opts.Clock),
		hurry: make(chan struct{}), failed: make(chan error, 1),
	}
	if err := s.start(ctx); err != nil {
		s.Hurry()
		s.Stop()
		return nil, err
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context) error {
	if err := s.prepareDir(); err != nil {
		return err
	}
	if err := s.startControlPlane(ctx); err != nil {
		return err
	}
	if err := s.install(ctx); err != nil {
		return err
	}
	if err := s.startControllers(ctx); err != nil {
		return err
	}
	if err := s.startProduct(ctx); err != nil {
		return err
	}
	if err := s.startNode(); err != nil {
		return err
	}
	s.awaitWorkers(ctx)
	return ctx.Err()
}

// prepareDir creates the state's directory, empty unless Keep is set, and locks it
// for this stack.
func (s *Stack) prepareDir() error {
	if err := os.MkdirAll(s.opts.Dir, 0o700); err != nil {
		return fmt.Errorf("create the state's directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(s.opts.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("claim the state's directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return fmt.Errorf("%s is in use by another local stack: stop that one, or choose another directory: %w", s.opts.Dir, err)
	}
	s.lock = lock
	if !s.opts.Keep {
		entries, err := os.ReadDir(s.opts.Dir)
		if err != nil {
			return fmt.Errorf("remove the old state: %w", err)
		}
		for _, entry := range entries {
			if entry.Name() == "lock" {
				continue
			}
			if err := os.RemoveAll(filepath.Join(s.opts.Dir, entry.Name())); err != nil {
				return fmt.Errorf("remove the old state: %w", err)
			}
		}
	}
	for _, dir := range []string{s.LogDir(), s.pkiDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("create the state's directory: %w", err)
		}
	}
	return nil
}

func (s *Stack) startControlPlane(ctx context.Context) error {
	pki, err := newAuthority(s.pkiDir(), s.opts.Clock.Now())
	if err != nil {
		return err
	}
	etcd, etcdURL, err := s.etcdComponent(ctx, pki)
	if err != nil {
		return err
	}
	if err := s.launch(ctx, etcd, etcdURL); err != nil {
		return err
	}
	server, err := s.apiServerComponent(ctx, pki, etcdURL)
	if err != nil {
		return err
	}
	if err := s.launch(ctx, server, s.kubeURL); err != nil {
		return err
	}
	if err := writeKubeconfig(s.Kubeconfig(), s.kubeURL, pki.caFile(), s.opts.Namespace, s.admin); err != nil {
		return err
	}
	controllers, err := pki.client(controllersName, "system:kube-controller-manager")
	if err != nil {
		return err
	}
	err = writeKubeconfig(s.componentKubeconfig(controllersName), s.kubeURL, pki.caFile(), s.opts.Namespace, controllers)
	if err != nil {
		return err
	}
	for _, name := range []string{"manager", "api"} {
		account := "scan-" + name
		pair, err := pki.client(name, "system:serviceaccount:"+s.opts.Namespace+":"+account,
			"system:serviceaccounts", "system:serviceaccounts:"+s.opts.Namespace)
		if err != nil {
			return err
		}
		if err := writeKubeconfig(s.componentKubeconfig(name), s.kubeURL, pki.caFile(), s.opts.Namespace, pair); err != nil {
			return err
		}
	}
	s.config, err = clientcmd.BuildConfigFromFlags("", s.Kubeconfig())
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	s.config.QPS = -1 // the API server limits its clients itself
	return nil
}

// install puts types, rights and the objects to start with into the API server.
func (s *Stack) install(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	i, err := newInstaller(s.config, s.opts.Namespace)
	if err != nil {
		return err
	}
	if err := s.progress.step("types, namespace and rights", s.opts.ConfigDir, func() error {
		if err := i.createNamespace(ctx); err != nil {
			return err
		}
		if err := i.installTypes(ctx, s.opts.ConfigDir); err != nil {
			return err
		}
		_, err := i.applyDirectory(ctx, filepath.Join(s.opts.ConfigDir, "rbac"))
		return err
	}); err != nil {
		return err
	}
	key := s.opts.ProviderKey
	if s.opts.simulated() {
		key = simulatedKey
	}
	names, err := i.applyStart(ctx, s.opts.ManifestsDir, key)
	if err != nil {
		return err
	}
	s.progress.line("objects to start with: %s", strings.Join(names, ", "))
	return nil
}

func (s *Stack) startNode() error {
	node, err := localkubelet.New(s.config, localkubelet.Options{
		Namespace: s.opts.Namespace, RootFS: s.opts.BinDir,
		Dir: filepath.Join(s.opts.Dir, "pods"), LogDir: s.LogDir(),
		RestartBackoff: s.opts.RestartBackoff, Clock: s.opts.Clock, Log: s.opts.Log,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.node, s.stopNode, s.nodeEnded = node, cancel, make(chan error, 1)
	go func() {
		err := node.Run(ctx)
		s.nodeEnded <- err
		if err != nil {
			s.fail(err)
		}
	}()
	return nil
}

// awaitWorkers reports when the first workers are ready. It is no error if there
// are none.
func (s *Stack) awaitWorkers(ctx context.Context) {
	i, err := newInstaller(s.config, s.opts.Namespace)
	if err != nil {
		return
	}
	objects, err := readManifests(s.opts.ManifestsDir)
	if err != nil {
		return
	}
	pools := 0
	for _, object := range objects {
		if object.GetKind() == "WorkerPool" {
			pools++
		}
	}
	if pools == 0 {
		return
	}
	err = s.progress.step("workers", fmt.Sprintf("%d pools", pools), func() error {
		return i.awaitWorkers(ctx, pools, workersWithin)
	})
	if err != nil && ctx.Err() == nil {
		s.progress.line("no workers yet: kubectl get workerpools,deployments,pods shows why")
	}
}

// launch starts a component and waits until it is ready.
func (s *Stack) launch(ctx context.Context, c *component, where string) error {
	return s.progress.step(c.name, where, func() error {
		if err := c.start(); err != nil {
			return err
		}
		s.components = append(s.components, c)
		return c.awaitReady(ctx)
	})
}

// reportEnd reports a component that ended by itself.
func (s *Stack) reportEnd(c *component, exit process.Exit, again time.Duration) {
	if c.essential {
		s.progress.line("%s ended: %s; log: %s", c.name, exit, c.spec.LogFile)
		s.fail(fmt.Errorf("%s ended: %s; the end of its log (%s):\n%s", c.name, exit, c.spec.LogFile, tail(c.spec.LogFile)))
		return
	}
	s.progress.line("%s ended: %s; starting it again in %s; log: %s", c.name, exit, again, c.spec.LogFile)
}

func (s *Stack) fail(err error) {
	select {
	case s.failed <- err:
	default: // only the first failure is kept
	}
}

// Failed delivers the error of a part without which the stack cannot continue.
// Stop must still be called.
func (s *Stack) Failed() <-chan error { return s.failed }

// Hurry makes Stop immediate: grace periods end now.
func (s *Stack) Hurry() {
	s.hurried.Do(func() {
		close(s.hurry)
		if s.node != nil {
			s.node.Hurry()
		}
	})
}

// Stop ends everything and leaves no process behind: the workers finish their
// calls, then api, manager, simulator, Kubernetes' controllers, kube-apiserver and
// etcd end. It may take as long as the workers' grace period; Hurry shortens it.
func (s *Stack) Stop() {
	s.stopped.Do(func() {
		if s.node != nil {
			_ = s.progress.step("stopping workers", "they finish their calls", func() error {
				s.stopNode()
				return <-s.nodeEnded
			})
		}
		for _, c := range slices.Backward(s.components) {
			_ = s.progress.step("stopping "+c.name, "", func() error {
				c.close()
				return nil
			})
		}
		if s.lock != nil {
			_ = s.lock.Close() // releases the lock
		}
	})
}

// Kubeconfig is the path of the administrator's kubeconfig.
func (s *Stack) Kubeconfig() string { return filepath.Join(s.opts.Dir, "kubeconfig") }

// RESTConfig is the administrator's access to the API server.
func (s *Stack) RESTConfig() *rest.Config { return rest.CopyConfig(s.config) }

// Namespace is where everything is.
func (s *Stack) Namespace() string { return s.opts.Namespace }

// APIURL is the base URL of the HTTP API, without a slash at the end.
func (s *Stack) APIURL() string { return s.apiURL }

// SimURL is the base URL of the simulated provider; its control interface is
// below /sim. It is empty with a real provider.
func (s *Stack) SimURL() string { return s.simURL }

// QueueURLs are the base URLs of the managers' queue servers. Only the leader's
// answers.
func (s *Stack) QueueURLs() []string { return s.queueURLs }

// MetricsURLs are where the managers serve their metrics. Only the leader has
// those of the scheduler.
func (s *Stack) MetricsURLs() []string { return s.metricsURLs }

// LogDir has a log file per component and per pod.
func (s *Stack) LogDir() string { return filepath.Join(s.opts.Dir, "log") }

func (s *Stack) pkiDir() string { return filepath.Join(s.opts.Dir, "pki") }

func (s *Stack) componentKubeconfig(name string) string {
	return filepath.Join(s.pkiDir(), name+".kubeconfig")
}

// Leader is the name of the manager that leads: it alone serves the queue. It is empty if none answers.
func (s *Stack) Leader(ctx context.Context) string {
	for i, address := range s.queueURLs {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost,
			address+queuestatus.Path(s.opts.Namespace), strings.NewReader("{}"))
		if err != nil {
			return ""
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			continue
		}
		_ = response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return managerNames[i]
		}
	}
	return ""
}

// find is the component of that name.
func (s *Stack) find(name string) (*component, error) {
	var names []string
	for _, c := range s.components {
		if c.name == name {
			return c, nil
		}
		names = append(names, c.name)
	}
	return nil, fmt.Errorf("unknown component %q: choose among %s", name, strings.Join(names, ", "))
}

// Kill ends a component (etcd, kube-apiserver, kube-controllers, openai-sim,
// manager, api) as a crash would. It is started again at once.
func (s *Stack) Kill(name string) error {
	c, err := s.find(name)
	if err != nil {
		return err
	}
	return c.kill(false)
}

// Crash ends a component as a crash would and keeps it down until Resume, as if
// its machine were gone.
func (s *Stack) Crash(name string) error {
	c, err := s.find(name)
	if err != nil {
		return err
	}
	return c.kill(true)
}

// Restart ends a component gracefully, starts it again and waits until it is
// ready.
func (s *Stack) Restart(ctx context.Context, name string) error {
	c, err := s.find(name)
	if err != nil {
		return err
	}
	if err := c.end(false); err != nil {
		return err
	}
	return c.awaitReady(ctx)
}

// Halt ends a component gracefully and keeps it down until Resume.
func (s *Stack) Halt(name string) error {
	c, err := s.find(name)
	if err != nil {
		return err
	}
	return c.end(true)
}

// Resume starts a halted component and waits until it is ready.
func (s *Stack) Resume(ctx context.Context, name string) error {
	c, err := s.find(name)
	if err != nil {
		return err
	}
	c.resume()
	return c.awaitReady(ctx)
}

// AwaitReady waits until the component is ready, for example after Kill.
func (s *Stack) AwaitReady(ctx context.Context, name string) error {
	c, err := s.find(name)
	if err != nil {
		return err
	}
	return c.awaitReady(ctx)
}

// Signal sends a signal to a component or, as "pod/NAME", to a pod's main
// process: SIGSTOP freezes it, SIGCONT continues it.
func (s *Stack) Signal(name string, sig syscall.Signal) error {
	if pod, ok := strings.CutPrefix(name, "pod/"); ok {
		if s.node == nil {
			return errors.New("the local node is not running")
		}
		return s.node.Signal(pod, sig)
	}
	c, err := s.find(name)
	if err != nil {
		return err
	}
	p, err := c.current()
	if err != nil {
		return err
	}
	return p.Signal(sig)
}
