// Command load keeps a number of scans unfinished, in a closed loop, and says how the operator and the simulated
// provider fared: throughput against what the tokens allow, 429s, waits by user, tokens spent in vain.
//
// It creates ScanRequest objects itself and follows them with one watch.
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
}

func main() {
	var o options
	flag.StringVar(&o.kubeconfig, "kubeconfig", ".local/kubeconfig", "kubeconfig of the cluster")
	flag.StringVar(&o.namespace, "namespace", "scans", "namespace to create the scans in")
	flag.StringVar(&o.simURL, "sim", "http://127.0.0.1:9090", "base URL of the simulated provider; empty for none")
	flag.IntVar(&o.backlog, "backlog", 500, "scans to keep unfinished")
	flag.DurationVar(&o.duration, "duration", time.Minute, "time to measure, after the warm-up")
	flag.DurationVar(&o.warmup, "warmup", 20*time.Second, "time before measuring, in which the full bucket is used up")
	flag.DurationVar(&o.drain, "drain", 5*time.Minute, "time to let the last scans finish")
	flag.StringVar(&o.users, "users", "one:1", "users and their shares of the scans, e.g. a:10,b:1,c:1")
	flag.StringVar(&o.images, "images", "https://images.example.org/%d.jpg", "image URL; %d is the scan's number")
	flag.IntVar(&o.deadline, "deadline-seconds", 1800, "deadline of each scan")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	log.SetLogger(logr.Discard())
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return fmt.Errorf("read %s: %w", o.kubeconfig, err)
	}
	config.QPS, config.Burst = 2000, 2000
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return err
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	objects, err := cache.New(config, cache.Options{
		Scheme: scheme, DefaultNamespaces: map[string]cache.Config{o.namespace: {}},
		DefaultTransform: cache.TransformStripManagedFields(),
	})
	if err != nil {
		return fmt.Errorf("make a cache: %w", err)
	}
	mix, err := parseUsers(o.users)
	if err != nil {
		return err
	}
	g := newGenerator(c, o, mix)
	informer, err := objects.GetInformer(ctx, &v1alpha1.ScanRequest{})
	if err != nil {
		return fmt.Errorf("watch scans: %w", err)
	}
	if _, err := informer.AddEventHandler(g.handler()); err != nil {
		return fmt.Errorf("watch scans: %w", err)
	}
	cacheCtx, stopCache := context.WithCancel(ctx)
	defer stopCache()
	stopped := make(chan error, 1)
	go func() { stopped <- objects.Start(cacheCtx) }()
	if !objects.WaitForCacheSync(ctx) {
		return errors.New("the watch does not start")
	}
	report, err := g.run(ctx)
	if err != nil {
		return err
	}
	report.print(os.Stdout)
	stopCache()
	return <-stopped
}
