package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/dev/load"
	"github.com/eco2-team/scan-operator/dev/localstack"
)

// budget is the one budget, pool a pool.
const (
	budget = `apiVersion: scan.growbin.app/v1alpha1
kind: TokenBudget
metadata: {name: account}
spec:
  secretRef: {name: account, key: api-key}
  models: [gpt-5.1]
  tokensPerMinute: %d
  requestsPerMinute: 1000000
`
	pool = `---
apiVersion: scan.growbin.app/v1alpha1
kind: WorkerPool
metadata: {name: %s}
spec:
  stages: %s
  budgets: [{name: account}]
  concurrencyPerWorker: %d
  minReplicas: %d
  maxReplicas: %d
  behavior: {scaleDown: {stabilizationWindowSeconds: 30}}
  stageDefaults: {timeoutSeconds: 60, maxOutputTokens: %d}
`
)

// world is a stack, those who watch it, and what they saw.
type world struct {
	dir      string
	stack    *localstack.Stack
	client   client.Client
	recorder *load.Recorder
	sim      load.Simulator
	stop     context.CancelFunc
	stopped  chan error
	children *children
	gauge    *gauge

	mu    sync.Mutex
	begun time.Time
	seen  []sighting
}

// sighting is a pool's state when it was seen to change.
type sighting struct {
	at                     time.Duration
	pool                   string
	desired, ready, flight int32
	queued                 int32
	limitedBy              v1alpha1.PoolLimit
}

func newWorld(ctx context.Context, o options, s scenario) (*world, error) {
	dir, err := os.MkdirTemp("", "scan-scale-")
	if err != nil {
		return nil, err
	}
	objects := filepath.Join(dir, "manifests")
	if err := os.MkdirAll(objects, 0o700); err != nil {
		return nil, err
	}
	yaml := fmt.Appendf(nil, budget, s.tokensPerMinute)
	stages := map[string]string{"vision": "[vision, rule]", "answer": "[answer, reward]", "scans": "[vision, rule, answer, reward]"}
	output := map[string]int{"vision": 300, "answer": 800, "scans": 800}
	for _, name := range s.pools() {
		yaml = fmt.Appendf(yaml, pool, name, stages[name], s.perWorker, s.minReplicas, s.maxReplicas, output[name])
	}
	if err := os.WriteFile(filepath.Join(objects, "stack.yaml"), yaml, 0o600); err != nil {
		return nil, err
	}
	w := &world{dir: dir, stopped: make(chan error, 1), children: newChildren(), gauge: newGauge()}
	w.stack, err = localstack.Start(ctx, localstack.Options{
		Dir: filepath.Join(dir, "state"), K8sDir: o.k8sDir, BinDir: o.binDir, ConfigDir: o.configDir, ManifestsDir: objects,
		Speed: s.speed, TokensPerMinute: s.tokensPerMinute, RequestsPerMinute: 1_000_000,
	})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	w.sim = load.Simulator{URL: w.stack.SimURL()}
	if err := w.watch(ctx); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

// watch follows scans and pools.
func (w *world) watch(ctx context.Context) (err error) {
	config := w.stack.RESTConfig()
	config.QPS, config.Burst = 2000, 2000
	if w.recorder, err = load.Watch(ctx, config, w.stack.Namespace()); err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, appsv1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	if w.client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	pools, err := cache.New(config, cache.Options{
		Scheme: scheme, DefaultNamespaces: map[string]cache.Config{w.stack.Namespace(): {}},
	})
	if err != nil {
		return fmt.Errorf("watch pools: %w", err)
	}
	for _, kind := range []client.Object{&v1alpha1.WorkerPool{}, &appsv1.Deployment{}} {
		informer, err := pools.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watch %T: %w", kind, err)
		}
		if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc: w.observe, UpdateFunc: func(_, obj any) { w.observe(obj) },
		}); err != nil {
			return fmt.Errorf("watch %T: %w", kind, err)
		}
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.stop = stop
	go func() { w.stopped <- pools.Start(watching) }()
	if !pools.WaitForCacheSync(ctx) {
		return errors.New("watch pools: the watch does not start")
	}
	return nil
}

// observe takes note of a pool, whose status follows it every five seconds, or of its Deployment, which follows at once.
func (w *world) observe(obj any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var now sighting
	switch o := obj.(type) {
	case *v1alpha1.WorkerPool:
		now = w.last(o.Name)
		now.queued, now.flight, now.limitedBy = o.Status.Queued, o.Status.InFlight, o.Status.LimitedBy
	case *appsv1.Deployment:
		now = w.last(o.Labels[v1alpha1.LabelPool])
		now.ready = o.Status.ReadyReplicas
		if o.Spec.Replicas != nil {
			now.desired = *o.Spec.Replicas
		}
	}
	if !w.begun.IsZero() {
		now.at = time.Since(w.begun)
	}
	w.seen = append(w.seen, now)
}

// last is what was seen last of a pool. The lock must be held.
func (w *world) last(pool string) sighting {
	for _, s := range slices.Backward(w.seen) {
		if s.pool == pool {
			return s
		}
	}
	return sighting{pool: pool}
}

func (w *world) close() error {
	var errs []error
	if w.stop != nil {
		w.stop()
		errs = append(errs, <-w.stopped)
	}
	if w.recorder != nil {
		errs = append(errs, w.recorder.Close())
	}
	w.stack.Hurry()
	w.stack.Stop()
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}

// play puts the load on, awaits the end of all scans, and watches on until the pools have settled.
func (w *world) play(ctx context.Context, s scenario) error {
	sampling, enough := context.WithCancel(ctx)
	var sampler sync.WaitGroup
	defer sampler.Wait()
	defer enough()
	sampler.Go(func() { w.children.sample(sampling) })
	if s.memory {
		sampler.Go(func() { w.gauge.sample(sampling, w.client, w.stack.Namespace()) })
	}

	w.mu.Lock()
	w.begun = time.Now()
	w.mu.Unlock()
	if err := w.create(ctx, s); err != nil {
		return err
	}
	if err := w.recorder.AwaitAllEnded(ctx); err != nil {
		return err
	}
	enough()
	pause := time.NewTimer(s.settle)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// creators is how many scans are created at a time at most.
const creators = 32

// create creates scans as the load says, whatever becomes of them.
func (w *world) create(ctx context.Context, s scenario) error {
	jobs := make(chan int)
	failed := make(chan error, creators)
	var all sync.WaitGroup
	for range creators {
		all.Go(func() {
			for n := range jobs {
				if err := w.createOne(ctx, n); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	due, created, last := 0.0, 0, w.begun
	for last.Sub(w.begun) < s.last {
		select {
		case <-ctx.Done():
			close(jobs)
			return ctx.Err()
		case now := <-tick.C:
			now = minTime(now, w.begun.Add(s.last))
			due += s.load(now.Sub(w.begun)) * now.Sub(last).Seconds()
			last = now
		}
		for ; float64(created) < due-1e-6; created++ {
			select {
			case jobs <- created:
			case err := <-failed:
				close(jobs)
				return err
			}
		}
	}
	close(jobs)
	all.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (w *world) createOne(ctx context.Context, n int) error {
	ttl := int32(3600)
	scan := &v1alpha1.ScanRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.stack.Namespace(), Name: fmt.Sprintf("scale-%06d", n)},
		Spec: v1alpha1.ScanRequestSpec{
			ImageURL: fmt.Sprintf("https://images.example.org/%d.jpg", n), UserInput: "이거 어떻게 버려요?",
			UserID: fmt.Sprintf("user-%d", n%97), DeadlineSeconds: 1800, TTLSecondsAfterFinished: &ttl,
		},
	}
	if err := w.client.Create(ctx, scan); err != nil {
		return fmt.Errorf("create a scan: %w", err)
	}
	w.recorder.Accepted(scan.Name)
	return nil
}
