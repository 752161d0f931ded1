// Command apiload measures the HTTP API on a local stack of its own: clients submit scans in a closed loop and poll
// them, or follow them on streams. It says how long submits, polls and the delivery of events took, what one replica
// needs, what a scan costs the API server, and how far the estimated waits were off. With --kill one of the replicas
// is killed in the middle.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

type options struct {
	dir, k8sDir, binDir, configDir string
	pollers, streams               int
	pollEvery                      time.Duration
	warmup, duration               time.Duration
	replicas                       int
	kill                           bool
	tokensPerMinute                int64
	speed                          float64
}

func main() {
	var o options
	flag.StringVar(&o.dir, "dir", "", "directory of the stack's state (default a temporary one)")
	flag.StringVar(&o.k8sDir, "k8s-dir", filepath.Join("bin", "k8s"), "directory of etcd and kube-apiserver")
	flag.StringVar(&o.binDir, "bin-dir", "bin", "directory of the product's programs")
	flag.StringVar(&o.configDir, "config", "config", "directory of the CRDs and roles")
	flag.IntVar(&o.pollers, "pollers", 1000, "clients that submit a scan, poll it to its end, and begin again")
	flag.IntVar(&o.streams, "streams", 0, "clients that submit a scan, follow its stream to its end, and begin again")
	flag.DurationVar(&o.pollEvery, "poll-every", 2*time.Second, "time between two polls of a client; Retry-After is not heeded")
	flag.DurationVar(&o.warmup, "warmup", 30*time.Second, "time before measuring, in which the clients begin one after the other")
	flag.DurationVar(&o.duration, "duration", 2*time.Minute, "time to measure")
	flag.IntVar(&o.replicas, "replicas", 1, "servers of the API: 1 or 2")
	flag.BoolVar(&o.kill, "kill", false, "kill the second replica in the middle of the measurement")
	flag.Int64Var(&o.tokensPerMinute, "tokens-per-minute", 4_000_000, "the budget's limit")
	flag.Float64Var(&o.speed, "speed", 1, "divide the simulated provider's latencies by this")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	log.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard())
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "apiload:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	switch {
	case o.replicas < 1 || o.replicas > 2:
		return errors.New("--replicas: must be 1 or 2")
	case o.kill && o.replicas != 2:
		return errors.New("--kill needs --replicas=2")
	case o.pollers+o.streams < 1:
		return errors.New("--pollers and --streams: at least one client is needed")
	}
	world, err := startWorld(ctx, o)
	if err != nil {
		return err
	}
	defer world.stop()
	r, err := world.measure(ctx, o)
	if err != nil {
		return err
	}
	r.print(os.Stdout, o)
	return nil
}
