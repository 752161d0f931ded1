// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command bench measures the product on a local stack, with a simulated provider at its real limits:
//
//	bench tokens   throughput against the token limit, 429s, waits by user, predicted against actual waits
//	bench api      submits, polls, streams and the delivery of events, with one or two replicas of the API
//	bench scale    how pools follow bursts and waves, what a worker's memory and 1,000 scans' processor time are
//
// Tokens and scale are made of scenarios, each on a stack of its own; --scenarios chooses among them. They print figures
// and pass no judgment: how long things take depends on the machine. Run them from the repository, after make k8s build.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// options are the flags of all measurements.
type options struct {
	k8sDir, binDir, configDir string
	scenarios                 string

	// Of tokens on a stack that runs already.
	kubeconfig, namespace, simURL, queueURLs string
	users                                    string
	backlog                                  int
	// Of tokens, there, and api.
	warmup, duration time.Duration

	// Of api.
	pollers, streams int
	pollEvery        time.Duration
	replicas         int
	kill             bool
	tokensPerMinute  int64
	speed            float64

	// Of scale.
	waves int
}

// measurement is one subcommand.
type measurement struct {
	flags func(fs *flag.FlagSet, o *options)
	run   func(ctx context.Context, o options, out io.Writer) error
}

var measurements = map[string]measurement{
	"tokens": {tokenFlags, runTokens},
	"api":    {apiFlags, runAPI},
	"scale":  {scaleFlags, runScale},
}

func main() {
	log.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run returns the exit code: 2 for wrong arguments, 1 for a measurement that failed.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	m, ok := measurements[first(args)]
	if !ok {
		fmt.Fprintln(errOut, "usage: bench tokens|api|scale [flags]; bench tokens -h lists the flags of tokens")
		return 2
	}
	var o options
	fs := flag.NewFlagSet("bench "+args[0], flag.ContinueOnError)
	fs.SetOutput(errOut)
	fs.StringVar(&o.k8sDir, "k8s-dir", filepath.Join("bin", "k8s"), "directory of etcd, kube-apiserver and kube-controllers")
	fs.StringVar(&o.binDir, "bin-dir", "bin", "directory of the product's programs")
	fs.StringVar(&o.configDir, "config", "config", "directory of the CRDs and roles")
	m.flags(fs, &o)
	if err := fs.Parse(args[1:]); err != nil {
		return 2
	}
	if err := m.run(ctx, o, out); err != nil {
		fmt.Fprintf(errOut, "bench %s: %v\n", args[0], err)
		return 1
	}
	return 0
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// runMatching runs the scenarios whose name matches, one after the other.
func runMatching[S interface{ title() (name, about string) }](
	pattern string, all []S, out io.Writer, run func(s S) error,
) error {
	match, err := regexp.Compile(pattern)
	if err != nil {
		return fmt.Errorf("--scenarios: %w", err)
	}
	ran := false
	for _, s := range all {
		name, about := s.title()
		if !match.MatchString(name) {
			continue
		}
		ran = true
		fmt.Fprintf(out, "== %s: %s\n", name, about)
		if err := run(s); err != nil {
			return fmt.Errorf("scenario %s: %w", name, err)
		}
	}
	if !ran {
		return fmt.Errorf("--scenarios: no scenario matches %q", pattern)
	}
	return nil
}
