// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localkubelet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	listersv1 "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
)

// Options say what the node runs and where.
type Options struct {
	// Namespace is the one whose pods the node runs.
	Namespace string
	// Name is the node's name in the pods' spec.nodeName; default "local".
	Name string
	// RootFS is the directory that stands for every image's root: a container
	// with the command /worker runs RootFS/worker.
	RootFS string
	// Dir is where the pods' volumes and credentials are written. It holds
	// secrets and is created for the owner alone.
	Dir string
	// LogDir receives one log file per container, NAME-OF-POD.log.
	LogDir string
	// RestartBackoff spaces restarts; the zero value means KubeletBackoff.
	RestartBackoff RestartBackoff
	// Clock is for tests; default the real one.
	Clock clock.WithTicker
	// Log receives the node's own errors. What happens to pods is in their events
	// and status.
	Log logr.Logger
}

// Node runs a namespace's pods as processes of this machine.
type Node struct {
	opts      Options
	config    *rest.Config
	client    kubernetes.Interface
	clock     clock.WithTicker
	log       logr.Logger
	objects   *objectSources
	addresses *addresses
	unbound   workqueue.TypedRateLimitingInterface[types.NamespacedName] // pods without a node
	recorder  record.EventRecorder

	// hurry ends the calls and grace periods of a node that stops.
	hurry  context.Context //nolint:containedctx // lives as long as the node; Hurry cancels it
	cancel context.CancelFunc

	mu       sync.Mutex
	runners  map[types.UID]*podRunner
	draining bool
	wg       sync.WaitGroup
}

// New prepares a node for the API server behind config, whose user must be
// allowed to bind, update and delete pods, to create events and tokens, and to
// read Secrets and ConfigMaps in the namespace. Run starts it.
func New(config *rest.Config, opts Options) (*Node, error) {
	if opts.Namespace == "" || opts.RootFS == "" || opts.Dir == "" || opts.LogDir == "" {
		return nil, errors.New("local node: Namespace, RootFS, Dir and LogDir must be set")
	}
	if opts.Name == "" {
		opts.Name = "local"
	}
	if opts.Clock == nil {
		opts.Clock = clock.RealClock{}
	}
	if opts.RestartBackoff == (RestartBackoff{}) {
		opts.RestartBackoff = KubeletBackoff
	}
	for _, dir := range []*string{&opts.Dir, &opts.LogDir, &opts.RootFS} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return nil, fmt.Errorf("local node: %w", err)
		}
		*dir = abs
	}
	for _, dir := range []string{opts.Dir, opts.LogDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("local node: %w", err)
		}
	}
	config = rest.CopyConfig(config)
	config.QPS = -1 // one node cannot flood the API server that runs beside it
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("local node: %w", err)
	}
	// The pods' kubeconfigs name the server and its CA.
	server := rest.CopyConfig(config)
	if err := rest.LoadTLSFiles(server); err != nil {
		return nil, fmt.Errorf("local node: read the API server's CA: %w", err)
	}
	hurry, cancel := context.WithCancel(context.Background())
	return &Node{
		opts: opts, config: server, client: client, clock: opts.Clock, log: opts.Log,
		unbound: workqueue.NewTypedRateLimitingQueue(
			workqueue.DefaultTypedControllerRateLimiter[types.NamespacedName]()),
		runners: map[types.UID]*podRunner{},
		hurry:   hurry, cancel: cancel,
	}, nil
}

// Run runs the namespace's pods until ctx ends, then stops every pod's processes
// gracefully, within their grace periods, and returns when all are gone. The
// pods' objects stay as they are.
func (n *Node) Run(ctx context.Context) error {
	defer n.cancel()
	var err error
	if n.addresses, err = claimAddresses(ctx); err != nil {
		return err
	}
	defer func() { _ = n.addresses.close() }()

	if err := n.ensureDefaultServiceAccount(ctx); err != nil {
		return err
	}
	broadcaster := record.NewBroadcaster()
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: n.client.CoreV1().Events(n.opts.Namespace)})
	n.recorder = broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "local-node", Host: n.opts.Name})

	factory := informers.NewSharedInformerFactoryWithOptions(n.client, 0, informers.WithNamespace(n.opts.Namespace))
	if err := n.watch(factory); err != nil {
		return err
	}
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	defer factory.Shutdown()
	defer stopWatching()
	factory.StartWithContext(watching)
	if result := factory.WaitForCacheSyncWithContext(ctx); result.Err != nil {
		return fmt.Errorf("local node: read the namespace's objects: %w", result.Err)
	}

	var scheduler sync.WaitGroup
	scheduler.Go(func() { n.runScheduler(ctx) })
	<-ctx.Done()
	n.unbound.ShutDown()
	scheduler.Wait()
	n.drain()
	return nil
}

// ensureDefaultServiceAccount creates the account that pods use when they name
// none. A cluster's service account controller does it.
func (n *Node) ensureDefaultServiceAccount(ctx context.Context) error {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: n.opts.Namespace}}
	_, err := n.client.CoreV1().ServiceAccounts(n.opts.Namespace).Create(ctx, account, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("local node: create the default ServiceAccount of namespace %q: %w", n.opts.Namespace, err)
	}
	return nil
}

// Hurry ends the pods' processes at once when the node stops.
func (n *Node) Hurry() {
	n.cancel()
	n.nudgeAll()
}

// Signal sends a signal to the pod's main processes: what a crash (SIGKILL) or
// a freeze (SIGSTOP) would do to them.
func (n *Node) Signal(pod string, sig syscall.Signal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.runners {
		if r.name() == pod {
			return r.signal(sig)
		}
	}
	return fmt.Errorf("signal pod %q: it does not run on this node", pod)
}

// watch adds the handlers of the namespace's objects to the informers.
func (n *Node) watch(factory informers.SharedInformerFactory) error {
	secrets, configMaps := factory.Core().V1().Secrets(), factory.Core().V1().ConfigMaps()
	n.objects = &objectSources{
		secrets:    secrets.Lister().Secrets(n.opts.Namespace),
		configMaps: configMaps.Lister().ConfigMaps(n.opts.Namespace),
	}
	anyChange := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { n.nudgeAll() },
		UpdateFunc: func(any, any) { n.nudgeAll() },
		DeleteFunc: func(any) { n.nudgeAll() },
	}
	handlers := []struct {
		informer cache.SharedIndexInformer
		handler  cache.ResourceEventHandler
	}{
		{secrets.Informer(), anyChange},
		{configMaps.Informer(), anyChange},
		{factory.Core().V1().Pods().Informer(), cache.ResourceEventHandlerFuncs{
			AddFunc:    n.podChanged,
			UpdateFunc: func(_, obj any) { n.podChanged(obj) },
			DeleteFunc: n.podDeleted,
		}},
	}
	for _, h := range handlers {
		if _, err := h.informer.AddEventHandler(h.handler); err != nil {
			return fmt.Errorf("local node: watch the namespace: %w", err)
		}
	}
	return nil
}

func (n *Node) podChanged(obj any) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return
	}
	if unscheduled(pod) {
		n.unbound.Add(types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name})
	}
	if pod.Spec.NodeName != n.opts.Name {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if r, ok := n.runners[pod.UID]; ok {
		r.observe(pod)
		return
	}
	if n.draining || (finished(pod) && pod.DeletionTimestamp == nil) {
		return
	}
	r := newPodRunner(n, pod)
	n.runners[pod.UID] = r
	n.wg.Go(func() {
		r.run(n.hurry)
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.runners, pod.UID)
	})
}

func (n *Node) podDeleted(obj any) {
	if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = tombstone.Obj
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if r, ok := n.runners[pod.UID]; ok {
		r.vanish()
	}
}

func (n *Node) nudgeAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.runners {
		r.nudge()
	}
}

// drain stops all pods' processes and waits for their end.
func (n *Node) drain() {
	n.mu.Lock()
	n.draining = true
	for _, r := range n.runners {
		r.stop()
	}
	n.mu.Unlock()
	n.wg.Wait()
}

func (n *Node) event(pod *corev1.Pod, kind, reason, message string) {
	n.recorder.Event(pod, kind, reason, message)
}

// logFile is where the container's output goes.
func (n *Node) logFile(pod *corev1.Pod, container string) string {
	name := pod.Name
	if len(pod.Spec.Containers) > 1 {
		name += "-" + container
	}
	return filepath.Join(n.opts.LogDir, name+".log")
}

// objectSources reads Secrets and ConfigMaps from the node's watches.
type objectSources struct {
	secrets    listersv1.SecretNamespaceLister
	configMaps listersv1.ConfigMapNamespaceLister
}

func (s *objectSources) secret(name string) *corev1.Secret {
	secret, err := s.secrets.Get(name)
	if err != nil { // a lister has no other error than "not found"
		return nil
	}
	return secret
}

func (s *objectSources) configMap(name string) *corev1.ConfigMap {
	cm, err := s.configMaps.Get(name)
	if err != nil {
		return nil
	}
	return cm
}

// ignoreNotFound drops the errors of a call whose object is gone or replaced.
func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
