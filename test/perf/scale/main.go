// Command scale measures how pools follow their load, each scenario on a local stack of its own: how long a burst on a
// pool without workers takes to get all of them, how the number of workers follows a load that swells and ebbs, what
// memory a worker needs for its calls, and what processor time a thousand scans cost. It prints, and judges nothing.
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
	k8sDir, binDir, configDir string
}

func main() {
	var o options
	flag.StringVar(&o.scenarios, "scenarios", ".", "run the scenarios whose name matches this expression")
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
	match, err := regexp.Compile(o.scenarios)
	if err != nil {
		return fmt.Errorf("--scenarios: %w", err)
	}
	ran := false
	for _, s := range scenarios() {
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
		return errors.New("--scenarios: no scenario matches")
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
