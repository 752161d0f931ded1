// Command scale measures how pools follow their load, each scenario on a local stack of its own.
//
//	burst/…   1,000 scans on pools without workers: when the first worker is wanted, when it takes work, when all are ready
//	sine      a load that swells and ebbs: workers, what limits them, and how often their number is changed
//	cost      what a thousand scans cost each program in processor time
//	memory/…  what memory one worker needs for some 100 and 1,000 calls at a time
//
// It prints, and judges nothing: how long things take is a matter of the machine. From the repository, after make k8s
// build:
//
//	go run ./dev/cmd/bench/scale --scenarios 'burst|sine'
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
	"regexp"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

type options struct {
	scenarios                 string
	waves                     int
	k8sDir, binDir, configDir string
}

func main() {
	var o options
	flag.StringVar(&o.scenarios, "scenarios", ".", "run the scenarios whose name matches this expression")
	flag.IntVar(&o.waves, "waves", 3, "waves of two minutes in scenario sine")
	flag.StringVar(&o.k8sDir, "k8s-dir", filepath.Join("bin", "k8s"), "directory of etcd and kube-apiserver")
	flag.StringVar(&o.binDir, "bin-dir", "bin", "directory of the product's programs")
	flag.StringVar(&o.configDir, "config", "config", "directory of the CRDs and roles")
	flag.Parse()
	log.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard())

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out io.Writer) error {
	if o.waves < 1 {
		return errors.New("--waves: must be at least 1")
	}
	match, err := regexp.Compile(o.scenarios)
	if err != nil {
		return fmt.Errorf("--scenarios: %w", err)
	}
	ran := false
	for _, s := range scenarios(o.waves) {
		if !match.MatchString(s.name) {
			continue
		}
		ran = true
		fmt.Fprintf(out, "== %s: %s\n", s.name, s.about)
		if err := s.run(ctx, o, out); err != nil {
			return fmt.Errorf("scenario %s: %w", s.name, err)
		}
	}
	if !ran {
		return fmt.Errorf("--scenarios: no scenario matches %q", o.scenarios)
	}
	return nil
}

func (s scenario) run(ctx context.Context, o options, out io.Writer) (err error) {
	w, err := newWorld(ctx, o, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.play(ctx, s); err != nil {
		return err
	}
	return w.report(ctx, s, out)
}
