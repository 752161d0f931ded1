// Command chaos breaks a running local stack, round after round, and holds what becomes of the scans against the
// product's contract: whatever crashes, every scan that was accepted ends, once, and no call is paid for twice but
// those that a dead worker took with it.
//
// It prints a line per step and a table at the end, and exits with code 1 when the contract was broken. The same
// seed gives the same faults in the same order.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
)

type options struct {
	rounds     int
	seed       uint64
	only       string
	unfinished int
	speed      float64
	k8sDir     string
	binDir     string
	configDir  string
	manifests  string
	dir        string
	limit      time.Duration
}

// errBroken says that the contract was broken; the details were printed.
var errBroken = errors.New("the contract was broken")

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 20, "rounds, one fault each")
	flag.Uint64Var(&o.seed, "seed", 0, "seed of the choice of faults and victims; 0 takes one from the clock")
	flag.StringVar(&o.only, "faults", "", "choose among these faults only, comma-separated: "+strings.Join(faultNames(), ", "))
	flag.IntVar(&o.unfinished, "unfinished", 120, "scans to keep unfinished")
	flag.Float64Var(&o.speed, "speed", 3, "divide the simulated provider's latencies by this")
	flag.StringVar(&o.k8sDir, "k8s-dir", filepath.Join("bin", "k8s"), "directory of etcd and kube-apiserver")
	flag.StringVar(&o.binDir, "bin-dir", "bin", "directory of the product's programs")
	flag.StringVar(&o.configDir, "config", "config", "directory of the CRDs and roles")
	flag.StringVar(&o.manifests, "manifests", filepath.Join("test", "chaos", "manifests"), "directory of the budgets and pools")
	flag.StringVar(&o.dir, "dir", "", "directory of the stack's state and logs; default: one that is removed unless something broke")
	flag.DurationVar(&o.limit, "limit", time.Hour, "time after which the run is given up")
	flag.Parse()
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano())
	}
	klog.SetLogger(logr.Discard()) // clients of an API server that is down have much to say
	ctrl.SetLogger(logr.Discard())

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	err := run(ctx, o, os.Stdout)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out io.Writer) error {
	choice, err := chooseFaults(o.only)
	if err != nil {
		return err
	}
	temporary := o.dir == ""
	if temporary {
		if o.dir, err = os.MkdirTemp("", "scan-chaos-"); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "chaos: %d rounds with seed %d; logs in %s\n", o.rounds, o.seed, filepath.Join(o.dir, "log"))
	w, err := newWorld(ctx, o, out)
	if err != nil {
		return err
	}
	results, err := w.play(ctx, choice)
	err = errors.Join(err, w.close())
	printTable(out, results)
	for i := range results {
		if len(results[i].broken) > 0 {
			err = errors.Join(err, errBroken)
			break
		}
	}
	if err == nil && temporary {
		err = os.RemoveAll(o.dir)
	}
	return err
}

// play runs the rounds, and goes on after one that broke the contract as long as the stack works.
func (w *world) play(ctx context.Context, choice []fault) ([]result, error) {
	var results []result
	order := w.order(choice, w.opts.rounds)
	for n, f := range order {
		w.logf("round %d of %d: %s", n+1, len(order), f.name)
		r, err := w.round(ctx, n+1, f)
		results = append(results, r)
		for _, broken := range r.broken {
			w.logf("round %d BROKE THE CONTRACT: %s", n+1, broken)
		}
		if err != nil {
			return results, fmt.Errorf("round %d, %s: %w", n+1, f.name, err)
		}
		w.logf("round %d: %d scans, %d succeeded, %d failed, %d calls paid for twice, %.0f s",
			n+1, r.scans, r.succeeded, r.failed(), r.paidTwice, r.took.Seconds())
	}
	return results, nil
}
