// Command local runs the whole product on this machine: API server, simulated
// provider, manager, api and workers. make run builds what it needs and starts
// it.
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
	"syscall"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/eco2-team/scan-operator/dev/localkubelet"
	"github.com/eco2-team/scan-operator/dev/localstack"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program; it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	starting, cancel := context.WithCancel(context.Background())
	defer cancel()
	opts, err := parse(starting, args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(stderr, "local:", err)
		return 2
	}
	opts.ProviderKey = os.Getenv("OPENAI_API_KEY")
	opts.Progress = stdout
	opts.Log = logger(stderr)
	log.SetLogger(opts.Log)
	klog.SetLogger(opts.Log)

	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	up := make(chan struct{})
	watched := make(chan struct{})
	go func() { // the signals' owner until everything is up
		defer close(watched)
		select {
		case <-signals:
			fmt.Fprintln(stdout, "stopping before everything is up")
			cancel()
		case <-up:
		}
	}()

	stack, err := localstack.Start(starting, *opts)
	close(up)
	<-watched
	switch {
	case starting.Err() != nil:
		if err == nil {
			stack.Hurry()
			stack.Stop()
		}
		return 130
	case err != nil:
		fmt.Fprintln(stderr, "local:", err)
		return 1
	}
	fmt.Fprint(stdout, nextSteps(stack, opts))

	code := 0
	select {
	case sig := <-signals:
		fmt.Fprintf(stdout, "\n%s: stopping; workers finish their calls first, a second Ctrl-C ends everything at once\n", sig)
	case err := <-stack.Failed():
		fmt.Fprintln(stderr, "local:", err)
		code = 1
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stack.Stop()
	}()
	for {
		select {
		case <-stopped:
			return code
		case <-signals:
			stack.Hurry()
		}
	}
}

func parse(ctx context.Context, args []string, usage io.Writer) (*localstack.Options, error) {
	var o localstack.Options
	var apiAddress, simAddress string
	fs := flag.NewFlagSet("local", flag.ContinueOnError)
	fs.SetOutput(usage)
	fs.Usage = func() {
		fmt.Fprint(usage, "Runs everything on this machine. With OPENAI_API_KEY set it talks to the real provider, else to a simulated one.\n\n")
		fs.PrintDefaults()
	}
	fs.StringVar(&o.Dir, "dir", ".local", "directory of the state: data, kubeconfig, logs")
	fs.BoolVar(&o.Keep, "keep", false, "continue with the state of the last run instead of a fresh one")
	fs.StringVar(&o.K8sDir, "k8s-dir", filepath.Join("bin", "k8s"), "directory of etcd and kube-apiserver")
	fs.StringVar(&o.BinDir, "bin-dir", "bin", "directory of manager, api, worker and openai-sim")
	fs.StringVar(&o.BinDir, "rootfs", "bin", "the same: the directory that stands for the images' root")
	fs.StringVar(&o.ConfigDir, "config", "config", "directory of the CRDs and roles")
	fs.StringVar(&o.ManifestsDir, "manifests", filepath.Join("config", "samples"), "directory of the TokenBudgets and WorkerPools to start with; scans in it are left out")
	fs.StringVar(&o.Namespace, "namespace", "scans", "namespace everything is in")
	fs.StringVar(&o.KubeAddress, "kube-address", "127.0.0.1:0", "address of the API server; port 0 takes a free one")
	fs.StringVar(&apiAddress, "api-address", "", "address of the HTTP API (default 127.0.0.1:8080, or a free port if that is taken)")
	fs.StringVar(&simAddress, "sim-address", "", "address of the simulated provider (default 127.0.0.1:9090, or a free port if that is taken)")
	fs.StringVar(&o.AllowedOrigins, "allowed-origins", "", "browser origins that may call the HTTP API, comma-separated")
	fs.StringVar(&o.Endpoint, "endpoint", "", "provider's base URL for TokenBudgets that name none (default the simulator's, or OpenAI's with OPENAI_API_KEY)")
	fs.Float64Var(&o.Speed, "speed", 1, "simulated provider: divide its latencies (5 to 9 seconds a call) by this")
	fs.Int64Var(&o.TokensPerMinute, "tokens-per-minute", 0, "simulated provider: token limit per key and model (0: its default)")
	fs.Int64Var(&o.RequestsPerMinute, "requests-per-minute", 0, "simulated provider: request limit per key and model (0: its default)")
	fs.DurationVar(&o.RestartBackoff.Initial, "restart-backoff", localkubelet.KubeletBackoff.Initial, "wait before the second restart of what crashes; doubles up to 5m")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: there are flags only, see --help", fs.Arg(0))
	}
	if o.RestartBackoff.Initial <= 0 {
		return nil, fmt.Errorf("--restart-backoff %s: want more than 0", o.RestartBackoff.Initial)
	}
	if o.Speed <= 0 {
		return nil, fmt.Errorf("--speed %g: want more than 0", o.Speed)
	}
	o.RestartBackoff.Max = max(localkubelet.KubeletBackoff.Max, o.RestartBackoff.Initial)
	o.APIAddress = preferred(ctx, apiAddress, "127.0.0.1:8080")
	o.SimAddress = preferred(ctx, simAddress, "127.0.0.1:9090")
	return &o, nil
}

// preferred is the address that was asked for, or the usual one, or, if that
// is taken, none in particular.
func preferred(ctx context.Context, asked, usual string) string {
	if asked != "" {
		return asked
	}
	if localstack.AddressFree(ctx, usual) {
		return usual
	}
	return ""
}

// logger writes the errors of the stack's own parts, one line each.
func logger(out io.Writer) logr.Logger {
	return funcr.New(func(prefix, args string) {
		fmt.Fprintln(out, "local:", prefix, args)
	}, funcr.Options{})
}
