// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"path/filepath"

	"github.com/eco2-team/scan-operator/dev/localkubelet"
	"github.com/eco2-team/scan-operator/dev/localstack"
	"github.com/eco2-team/scan-operator/internal/cli"
)

// envPrefix begins the environment variable of each flag: --speed is SCAN_LOCAL_SPEED.
const envPrefix = "SCAN_LOCAL"

// options are the values of the flags.
type options struct {
	stack                  localstack.Options
	apiAddress, simAddress string
}

func (o *options) bind(fs *flag.FlagSet, _ func(string) string) {
	s := &o.stack
	fs.StringVar(&s.Dir, "dir", ".local", "Directory of the state: data, kubeconfig and logs.")
	fs.BoolVar(&s.Keep, "keep", false, "Continue with the state of the last run. Without it that state is removed.")
	fs.StringVar(&s.K8sDir, "k8s-dir", filepath.Join("bin", "k8s"), "Directory of etcd, kube-apiserver and kubectl.")
	fs.StringVar(&s.BinDir, "bin-dir", "bin", "Directory of manager, api, worker and openai-sim.")
	fs.StringVar(&s.ConfigDir, "config", "config", "Directory of the CRDs and roles.")
	fs.StringVar(&s.ManifestsDir, "manifests", filepath.Join("config", "samples"), "Directory of the TokenBudgets and WorkerPools to start with. Scans in it are left out.")
	fs.StringVar(&s.Namespace, "namespace", "scans", "Namespace of everything.")
	fs.StringVar(&s.KubeAddress, "kube-address", "127.0.0.1:0", "Address of the API server, as host:port. Port 0 means a free one.")
	fs.StringVar(&o.apiAddress, "api-address", "", "Address of the HTTP API, as host:port. Empty means 127.0.0.1:8080, or a free port if that is taken.")
	fs.StringVar(&o.simAddress, "sim-address", "", "Address of the simulated provider, as host:port. Empty means 127.0.0.1:9090, or a free port if that is taken.")
	fs.StringVar(&s.AllowedOrigins, "allowed-origins", "", "Origins of web pages that may use the HTTP API, separated by commas.")
	fs.StringVar(&s.Endpoint, "endpoint", "", "Base URL of the provider for TokenBudgets that name none. Empty means the simulator's, or OpenAI's with OPENAI_API_KEY.")
	fs.Float64Var(&s.Speed, "speed", 1, "Factor that the simulated provider divides its latencies of 5 to 9 seconds by. More than 0.")
	fs.Int64Var(&s.TokensPerMinute, "tokens-per-minute", 0, "Limit of the tokens of each key and model of the simulated provider, per minute. 0 means its default.")
	fs.Int64Var(&s.RequestsPerMinute, "requests-per-minute", 0, "Limit of the requests of each key and model of the simulated provider, per minute. 0 means its default.")
	fs.DurationVar(&s.RestartBackoff.Initial, "restart-backoff", localkubelet.KubeletBackoff.Initial, "Wait before the second restart of a program that crashes, which doubles with each further one up to 5m. More than 0.")
}

func (o *options) validate() error {
	s := &o.stack
	s.RestartBackoff.Max = max(localkubelet.KubeletBackoff.Max, s.RestartBackoff.Initial)
	errs := []error{
		cli.Above("speed", s.Speed, 0),
		cli.AtLeast("tokens-per-minute", s.TokensPerMinute, 0),
		cli.AtLeast("requests-per-minute", s.RequestsPerMinute, 0),
		cli.Above("restart-backoff", s.RestartBackoff.Initial, 0),
	}
	if s.Endpoint != "" {
		errs = append(errs, cli.HTTPURL("endpoint", s.Endpoint))
	}
	return errors.Join(errs...)
}
