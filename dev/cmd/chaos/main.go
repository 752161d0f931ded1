// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command chaos injects faults into a running local stack, round after round, and checks the product's contract:
// whatever crashes, every accepted scan finishes, once, and no call is charged twice but those of a dead worker.
//
// It prints a line per step and a table at the end. The exit code is 1 if the contract was broken. The same seed gives
// the same faults in the same order.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/go-logr/logr"

	"github.com/eco2-team/scan-operator/internal/cli"
)

// errBroken means that the contract was broken; the details were printed.
var errBroken = errors.New("the contract was broken")

func main() { cli.Main(command()) }

func command() cli.Command {
	var o options
	return cli.Command{
		Name: "scan-chaos", EnvPrefix: envPrefix,
		Summary: "Injects faults into a local stack and checks that no scan is lost and no call is charged twice.",
		Bind:    o.bind, Validate: o.validate,
		// Clients of an API server that is down log many lines that mean nothing here.
		Logger: func(io.Writer) logr.Logger { return logr.Discard() },
		Run: func(ctx context.Context, p *cli.Process) error {
			if o.seed == 0 {
				o.seed = uint64(time.Now().UnixNano())
			}
			ctx, cancel := context.WithTimeout(ctx, o.limit)
			defer cancel()
			return run(ctx, o, p.Stdout)
		},
	}
}

func run(ctx context.Context, o options, out io.Writer) error {
	choice, err := chooseFaults(o.only)
	if err != nil {
		return cli.Misconfigured(fmt.Errorf("--faults: %w", err))
	}
	temporary := o.dir == ""
	if temporary {
		if o.dir, err = os.MkdirTemp("", "scan-chaos-"); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "chaos: %d rounds with seed %d; logs in %s\n", o.rounds, o.seed, filepath.Join(o.dir, "log"))
	h, err := newHarness(ctx, o, out)
	if err != nil {
		return err
	}
	results, err := h.play(ctx, choice)
	err = errors.Join(err, h.close())
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

// play runs the rounds, and continues after one that broke the contract as long as the stack works.
func (h *harness) play(ctx context.Context, choice []fault) ([]result, error) {
	var results []result
	order := h.order(choice, h.opts.rounds)
	for n, f := range order {
		h.logf("round %d of %d: %s", n+1, len(order), f.name)
		r, err := h.round(ctx, n+1, f)
		results = append(results, r)
		for _, broken := range r.broken {
			h.logf("round %d BROKE THE CONTRACT: %s", n+1, broken)
		}
		if err != nil {
			return results, fmt.Errorf("round %d, %s: %w", n+1, f.name, err)
		}
		h.logf("round %d: %d scans, %d succeeded, %d failed, %d calls paid for twice, %.0f s",
			n+1, r.scans, r.succeeded, r.failed(), r.paidTwice, r.took.Seconds())
	}
	return results, nil
}
