// Command bench keeps a number of scans unfinished, in a closed loop, and says how the operator and the simulated
// provider fared: throughput against what the tokens allow, 429s, waits by user, tokens spent in vain.
//
// It creates ScanRequest objects itself and follows them with one watch. With --scenarios it runs whole
// measurements, each on a local stack of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

type options struct {
	kubeconfig string
	namespace  string
	simURL     string
	backlog    int
	duration   time.Duration
	warmup     time.Duration
	drain      time.Duration
	users      string
	images     string
	deadline   int
	queueURLs  string
	scenarios  string
	k8sDir     string
	binDir     string
	configDir  string
}

func main() {
	var o options
	flag.StringVar(&o.kubeconfig, "kubeconfig", ".local/kubeconfig", "kubeconfig of the cluster")
	flag.StringVar(&o.namespace, "namespace", "scans", "namespace to create the scans in")
	flag.StringVar(&o.simURL, "sim", "http://127.0.0.1:9090", "base URL of the simulated provider; empty for none")
	flag.IntVar(&o.backlog, "backlog", 500, "scans to keep unfinished")
	flag.DurationVar(&o.duration, "duration", time.Minute, "time to measure, after the warm-up")
	flag.DurationVar(&o.warmup, "warmup", 20*time.Second, "least time before measuring, which begins when the full bucket is used up; 0 measures that, too")
	flag.DurationVar(&o.drain, "drain", 5*time.Minute, "time to let the last scans finish")
	flag.StringVar(&o.users, "users", "one:1", "users and their shares of the scans, e.g. a:10,b:1,c:1")
	flag.StringVar(&o.images, "images", "https://images.example.org/%d.jpg", "image URL; %d is the scan's number")
	flag.IntVar(&o.deadline, "deadline-seconds", 1800, "deadline of each scan")
	flag.StringVar(&o.queueURLs, "queue-urls", "", "managers' queue servers, comma-separated, to compare predicted with actual waits")
	flag.StringVar(&o.scenarios, "scenarios", "", "run the scenarios whose name matches this expression, each on a stack of its own, instead of loading a running one")
	flag.StringVar(&o.k8sDir, "k8s-dir", "bin/k8s", "scenarios: directory of etcd and kube-apiserver")
	flag.StringVar(&o.binDir, "bin-dir", "bin", "scenarios: directory of the product's programs")
	flag.StringVar(&o.configDir, "config", "config", "scenarios: directory of the CRDs and roles")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	log.SetLogger(logr.Discard())
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// load is a generator and the watch that feeds it.
type load struct {
	client    client.Client
	generator *generator
	stop      context.CancelFunc
	stopped   chan error
}

// newLoad connects a generator to the cluster of o.kubeconfig.
func newLoad(ctx context.Context, o options) (*load, error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", o.kubeconfig, err)
	}
	config.QPS, config.Burst = 2000, 2000
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	objects, err := cache.New(config, cache.Options{
		Scheme: scheme, DefaultNamespaces: map[string]cache.Config{o.namespace: {}},
		DefaultTransform: cache.TransformStripManagedFields(),
	})
	if err != nil {
		return nil, fmt.Errorf("make a cache: %w", err)
	}
	mix, err := parseUsers(o.users)
	if err != nil {
		return nil, err
	}
	g := newGenerator(c, o, mix)
	informer, err := objects.GetInformer(ctx, &v1alpha1.ScanRequest{})
	if err != nil {
		return nil, fmt.Errorf("watch scans: %w", err)
	}
	if _, err := informer.AddEventHandler(g.handler()); err != nil {
		return nil, fmt.Errorf("watch scans: %w", err)
	}
	cacheCtx, stop := context.WithCancel(ctx)
	l := &load{client: c, generator: g, stop: stop, stopped: make(chan error, 1)}
	go func() { l.stopped <- objects.Start(cacheCtx) }()
	if !objects.WaitForCacheSync(ctx) {
		l.close()
		return nil, errors.New("the watch does not start")
	}
	return l, nil
}

// close ends the watch.
func (l *load) close() {
	l.stop()
	if err := <-l.stopped; err != nil {
		fmt.Fprintln(os.Stderr, "bench: the watch ended:", err)
	}
}

func run(ctx context.Context, o options) error {
	if o.scenarios != "" {
		return runScenarios(ctx, o, os.Stdout)
	}
	l, err := newLoad(ctx, o)
	if err != nil {
		return err
	}
	defer l.close()
	r, err := l.generator.run(ctx)
	if err != nil {
		return err
	}
	r.print(os.Stdout)
	return nil
}
