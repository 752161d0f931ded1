// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command local runs the whole product on this machine: API server, simulated provider, manager, api and workers.
// "make run" builds what it needs and starts it.
//
// The first SIGINT, SIGTERM or SIGHUP stops everything in order: workers finish their calls. The second one ends
// everything at once. The third one ends this program and leaves what it started to the system.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"

	"github.com/eco2-team/scan-operator/dev/localstack"
	"github.com/eco2-team/scan-operator/internal/cli"
)

func main() { cli.Main(command()) }

func command() cli.Command {
	var o options
	return cli.Command{
		Name: "scan-local", EnvPrefix: envPrefix,
		Summary: "Runs everything on this machine. With OPENAI_API_KEY set it uses the real provider, else a simulated one.",
		Bind:    o.bind, Validate: o.validate,
		Logger:  logger,
		Signals: []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP},
		Run:     func(ctx context.Context, p *cli.Process) error { return run(ctx, &o, p) },
	}
}

// run starts everything, and stops it when ctx ends or a part fails for good.
func run(ctx context.Context, o *options, p *cli.Process) error {
	p.OnSecondSignal(func() {}) // a stop during the start is at once already
	starting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	started := context.AfterFunc(ctx, func() {
		fmt.Fprintln(p.Stdout, "stopping before everything is up")
		cancel()
	})
	opts := o.stack
	opts.APIAddress = preferred(starting, o.apiAddress, "127.0.0.1:8080")
	opts.SimAddress = preferred(starting, o.simAddress, "127.0.0.1:9090")
	opts.ProviderKey = p.Getenv("OPENAI_API_KEY")
	opts.Progress = p.Stdout
	opts.Log = p.Log
	stack, err := localstack.Start(starting, opts)
	if !started() {
		if err == nil {
			stack.Hurry()
			stack.Stop()
		}
		return nil
	}
	if err != nil {
		return err
	}
	p.OnSecondSignal(stack.Hurry)
	fmt.Fprint(p.Stdout, nextSteps(stack, &opts))
	select {
	case <-ctx.Done():
		fmt.Fprintln(p.Stdout, "\nstopping: workers finish their calls first, a second Ctrl-C ends everything at once")
	case err = <-stack.Failed():
	}
	stack.Stop()
	return err
}

// preferred is the address of the flag, or else the usual one, or "" for any free one if that is taken.
func preferred(ctx context.Context, chosen, usual string) string {
	if chosen != "" {
		return chosen
	}
	if localstack.AddressFree(ctx, usual) {
		return usual
	}
	return ""
}

// logger writes the log of the stack's own parts, one line each.
func logger(stderr io.Writer) logr.Logger {
	return funcr.New(func(prefix, args string) {
		fmt.Fprintln(stderr, "scan-local:", prefix, args)
	}, funcr.Options{})
}
