// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/controller-manager/pkg/clientbuilder"
	"k8s.io/controller-manager/pkg/informerfactory"
	"k8s.io/kubernetes/pkg/controller/deployment"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	"k8s.io/kubernetes/pkg/controller/namespace"
	"k8s.io/kubernetes/pkg/controller/replicaset"
)

const (
	// syncPeriod is how often the garbage collector looks for new kinds, and how
	// long it waits for the caches at start; kube-controller-manager has the same.
	syncPeriod = 30 * time.Second
	// namespaceResync is how often all namespaces are looked at again.
	namespaceResync = 5 * time.Minute
	// workers is how many objects each controller works on at a time.
	workers = 5
)

// runControllers is kube-controller-manager cut down to the four controllers
// that a cluster of Deployments needs. The whole program would add 378 packages
// to the build, mostly volumes, nodes and certificates; these add 72.
//
// As in a cluster each controller is a service account of kube-system, with the
// role that the API server has made for it.
func runControllers(args []string) int {
	flags := flag.NewFlagSet(args[0], flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "path of the kubeconfig of the user system:kube-controller-manager")
	address := flags.String("bind-address", "127.0.0.1:0", "address of /healthz and /readyz, as host:port")
	_ = flags.Parse(args[1:]) // exits on an error

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := serveControllers(ctx, *kubeconfig, *address); err != nil {
		fmt.Fprintln(os.Stderr, "kube-controllers:", err)
		return 1
	}
	return 0
}

// serveControllers runs the controllers and their health endpoints until ctx ends.
func serveControllers(ctx context.Context, kubeconfig, address string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	config.QPS = -1 // the API server limits its clients itself
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("serve health checks: %w", err)
	}
	m, err := newManager(ctx, config)
	if err != nil {
		_ = listener.Close()
		return err
	}
	server := &http.Server{Handler: m.health(), ReadHeaderTimeout: 10 * time.Second}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(listener) })
	m.run(ctx)
	_ = server.Close()
	wg.Wait()
	return nil
}

// manager holds the controllers and what they share.
type manager struct {
	controllers []func(ctx context.Context)
	informers   informers.SharedInformerFactory
	all         informerfactory.InformerFactory // also for kinds without Go types, such as custom resources
	started     chan struct{}                   // closed when the informers have been started
	synced      chan struct{}                   // closed when the typed ones have read everything
}

func newManager(ctx context.Context, config *rest.Config) (*manager, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	metadataClient, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	m := &manager{
		informers: informers.NewSharedInformerFactory(client, 0),
		started:   make(chan struct{}),
		synced:    make(chan struct{}),
	}
	m.all = informerfactory.NewInformerFactory(m.informers, metadatainformer.NewSharedInformerFactory(metadataClient, 0))
	accounts := clientbuilder.NewDynamicClientBuilder(rest.AnonymousClientConfig(config), client.CoreV1(), "kube-system")
	for name, add := range map[string]func(context.Context, kubernetes.Interface, *rest.Config) error{
		"deployment-controller":     m.addDeployments,
		"replicaset-controller":     m.addReplicaSets,
		"generic-garbage-collector": m.addGarbageCollector,
		"namespace-controller":      m.addNamespaces,
	} {
		own, err := accounts.Config(name)
		if err != nil {
			return nil, fmt.Errorf("get credentials for %s: %w", name, err)
		}
		ownClient, err := kubernetes.NewForConfig(own)
		if err != nil {
			return nil, fmt.Errorf("make a client for %s: %w", name, err)
		}
		if err := add(ctx, ownClient, own); err != nil {
			return nil, fmt.Errorf("prepare %s: %w", name, err)
		}
	}
	return m, nil
}

func (m *manager) addDeployments(ctx context.Context, client kubernetes.Interface, _ *rest.Config) error {
	apps := m.informers.Apps().V1()
	c, err := deployment.NewDeploymentController(ctx, apps.Deployments(), apps.ReplicaSets(), m.informers.Core().V1().Pods(), client)
	if err != nil {
		return err
	}
	m.controllers = append(m.controllers, func(ctx context.Context) { c.Run(ctx, workers) })
	return nil
}

func (m *manager) addReplicaSets(ctx context.Context, client kubernetes.Interface, _ *rest.Config) error {
	c := replicaset.NewReplicaSetController(ctx, m.informers.Apps().V1().ReplicaSets(), m.informers.Core().V1().Pods(),
		client, replicaset.BurstReplicas)
	m.controllers = append(m.controllers, func(ctx context.Context) { c.Run(ctx, workers) })
	return nil
}

func (m *manager) addGarbageCollector(ctx context.Context, client kubernetes.Interface, config *rest.Config) error {
	metadataClient, err := metadata.NewForConfig(config)
	if err != nil {
		return err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery()))
	c, err := garbagecollector.NewGarbageCollector(ctx, client, metadataClient, mapper,
		garbagecollector.DefaultIgnoredResources(), m.all, m.started)
	if err != nil {
		return err
	}
	m.controllers = append(m.controllers,
		func(ctx context.Context) { c.Run(ctx, workers, syncPeriod) },
		func(ctx context.Context) { c.Sync(ctx, client.Discovery(), syncPeriod) },
	)
	return nil
}

func (m *manager) addNamespaces(ctx context.Context, client kubernetes.Interface, config *rest.Config) error {
	metadataClient, err := metadata.NewForConfig(config)
	if err != nil {
		return err
	}
	c := namespace.NewNamespaceController(ctx, client, metadataClient, client.Discovery().ServerPreferredNamespacedResources,
		m.informers.Core().V1().Namespaces(), namespaceResync, corev1.FinalizerKubernetes)
	m.controllers = append(m.controllers, func(ctx context.Context) { c.Run(ctx, workers) })
	return nil
}

// run returns when ctx has ended and all controllers have returned.
func (m *manager) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, run := range m.controllers {
		wg.Go(func() { run(ctx) })
	}
	m.all.Start(ctx.Done())
	close(m.started)
	m.informers.WaitForCacheSync(ctx.Done())
	close(m.synced)
	<-ctx.Done()
	m.informers.Shutdown()
	wg.Wait()
}

func (m *manager) health() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-m.synced:
		default:
			http.Error(w, errNotSynced.Error(), http.StatusServiceUnavailable)
		}
	})
	return mux
}

var errNotSynced = errors.New("the informers have not read all objects yet")
