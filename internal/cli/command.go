// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/go-logr/logr"
)

// Exit codes of every program.
const (
	// ExitOK means that the program did what it was started for, or stopped on request.
	ExitOK = 0
	// ExitFailure means that the program failed while it ran, or that a signal ended it before it had stopped.
	ExitFailure = 1
	// ExitUsage means that a flag, an environment variable or a file that one of them names is invalid. Starting the
	// program again does not help.
	ExitUsage = 2
)

// Command describes a program.
type Command struct {
	// Name is the program's name in messages and in the output of --version.
	Name string
	// EnvPrefix begins the environment variable of each flag, as in EnvName.
	EnvPrefix string
	// Summary says what the program does, for --help.
	Summary string
	// Bind declares the flags. getenv reads the environment, for defaults that come from it.
	Bind func(fs *flag.FlagSet, getenv func(string) string)
	// Validate reports everything that is invalid about the flags' values; nil for nothing to check.
	Validate func() error
	// Logger returns the logger of a program whose output a person reads. Errors are plain lines then. Without it the
	// program logs JSON and has the flags of zap.
	Logger func(stderr io.Writer) logr.Logger
	// Signals ask the program to stop. Default: SIGINT and SIGTERM.
	Signals []os.Signal
	// Run runs the program until it is done or ctx ends, which the first signal brings about. An error of
	// Misconfigured means ExitUsage, any other one ExitFailure.
	Run func(ctx context.Context, p *Process) error
}

// Process is the running program, as its Run sees it.
type Process struct {
	// Log is the program's logger; controller-runtime and klog log to it, too.
	Log logr.Logger
	// Stdout and Stderr are the program's output.
	Stdout, Stderr io.Writer
	// Getenv reads an environment variable.
	Getenv func(string) string

	stop *stop
}

// OnSecondSignal has f called on the second signal. Then the third signal ends the process; without f the second one
// does. f must return at once.
func (p *Process) OnSecondSignal(f func()) { p.stop.onSecond(f) }

// System is what a program gets from the operating system.
type System struct {
	Args           []string // without the program's name
	Stdout, Stderr io.Writer
	LookupEnv      func(string) (string, bool)
	// Notify delivers signals to c until the function that it returns is called.
	Notify func(c chan<- os.Signal, signals ...os.Signal) (stop func())
	// Exit ends the process.
	Exit func(code int)
}

// Main runs a program and ends the process with its exit code.
func Main(c Command) {
	os.Exit(Execute(c, System{
		Args: os.Args[1:], Stdout: os.Stdout, Stderr: os.Stderr, LookupEnv: os.LookupEnv, Exit: os.Exit,
		Notify: func(ch chan<- os.Signal, signals ...os.Signal) func() {
			signal.Notify(ch, signals...)
			return func() { signal.Stop(ch) }
		},
	}))
}

// Execute runs a program and returns its exit code.
func Execute(c Command, sys System) int {
	fs := flag.NewFlagSet(c.Name, flag.ContinueOnError)
	getenv := func(name string) string { value, _ := sys.LookupEnv(name); return value }
	c.Bind(fs, getenv)
	newLogger := c.Logger
	if newLogger == nil {
		newLogger = bindLogFlags(fs)
	}
	showVersion := fs.Bool(versionFlag, false, "Print the version and exit.")
	err := Parse(fs, c.EnvPrefix, sys.Args, sys.LookupEnv)
	switch {
	case errors.Is(err, flag.ErrHelp):
		printUsage(sys.Stdout, c, fs)
		return ExitOK
	case *showVersion:
		fmt.Fprintln(sys.Stdout, c.Name, ReadVersion())
		return ExitOK
	case err == nil && c.Validate != nil:
		err = c.Validate()
	}
	if err != nil {
		fmt.Fprintf(sys.Stderr, "%s: %v\n%s --help lists the flags.\n", c.Name, err, c.Name)
		return ExitUsage
	}

	log := newLogger(sys.Stderr)
	setLoggers(log)
	if c.Logger == nil {
		log.Info("starting", append([]any{"program", c.Name}, ReadVersion().logValues()...)...)
	}
	ctx, stop := newStop(c, sys, log)
	err = c.Run(ctx, &Process{Log: log, Stdout: sys.Stdout, Stderr: sys.Stderr, Getenv: getenv, stop: stop})
	stop.close()
	if err == nil {
		return ExitOK
	}
	if c.Logger == nil {
		log.Error(err, "program failed", "program", c.Name)
	} else {
		fmt.Fprintf(sys.Stderr, "%s: %v\n", c.Name, err)
	}
	if errors.As(err, new(misconfigured)) {
		return ExitUsage
	}
	return ExitFailure
}

// misconfigured is an error of the configuration.
type misconfigured struct{ error }

// Unwrap returns the cause.
func (m misconfigured) Unwrap() error { return m.error }

// Misconfigured marks an error of Run as one of the configuration: the program ends with ExitUsage. It is nil for nil.
func Misconfigured(err error) error {
	if err == nil {
		return nil
	}
	return misconfigured{err}
}
