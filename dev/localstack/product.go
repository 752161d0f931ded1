// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localstack

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Components inherit these variables, by name or by the prefix of the product's
// own flags. The provider's key is not among them: the product reads it from its
// Secret only.
var (
	inheritedNames = []string{
		"PATH", "HOME", "TMPDIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
		"http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
	}
	inheritedPrefixes = []string{"SCAN_", "OPENAI_SIM_"}
)

// environment is what components inherit.
func environment() []string {
	out := []string{}
	for _, name := range inheritedNames {
		if value, ok := os.LookupEnv(name); ok {
			out = append(out, name+"="+value)
		}
	}
	for _, pair := range os.Environ() {
		for _, prefix := range inheritedPrefixes {
			if strings.HasPrefix(pair, prefix) {
				out = append(out, pair)
			}
		}
	}
	return out
}

// managerNames are the managers' component names, in the order of their queue servers.
var managerNames = []string{"manager", "manager-2"}

// startProduct starts the simulator, the manager and the api, in this order.
func (s *Stack) startProduct(ctx context.Context) error {
	endpoint := s.opts.Endpoint
	if s.opts.simulated() {
		if err := s.startSim(ctx); err != nil {
			return err
		}
		if endpoint == "" {
			endpoint = s.simURL + "/v1"
		}
	}
	managers := managerNames[:1]
	if s.opts.StandbyManager {
		managers = managerNames
	}
	for _, name := range managers {
		if err := s.startManager(ctx, name, endpoint); err != nil {
			return err
		}
	}
	return s.startAPI(ctx)
}

func (s *Stack) startSim(ctx context.Context) error {
	address, err := freeAddress(ctx, s.opts.SimAddress)
	if err != nil {
		return err
	}
	s.simURL = "http://" + address
	args := []string{
		"--bind-address=" + address,
		"--speed=" + strconv.FormatFloat(s.opts.Speed, 'g', -1, 64),
	}
	if s.opts.TokensPerMinute > 0 {
		args = append(args, "--tokens-per-minute="+strconv.FormatInt(s.opts.TokensPerMinute, 10))
	}
	if s.opts.RequestsPerMinute > 0 {
		args = append(args, "--requests-per-minute="+strconv.FormatInt(s.opts.RequestsPerMinute, 10))
	}
	c := s.component("openai-sim", filepath.Join(s.opts.BinDir, "openai-sim"), append(args, s.opts.SimArgs...))
	c.ready = answers(s.simURL + "/sim/stats")
	return s.launch(ctx, c, s.simURL+"/v1")
}

func (s *Stack) startManager(ctx context.Context, name, endpoint string) error {
	metrics, err := freeAddress(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	health, err := freeAddress(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	queue, err := freeAddress(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.queueURLs = append(s.queueURLs, "http://"+queue)
	s.metricsURLs = append(s.metricsURLs, "http://"+metrics+"/metrics")
	args := []string{
		"--kubeconfig=" + s.componentKubeconfig("manager"),
		"--namespace=" + s.opts.Namespace,
		"--leader-elect=true",
		"--metrics-bind-address=" + metrics, "--metrics-secure=false",
		"--health-probe-bind-address=" + health,
		"--queue-bind-address=" + queue,
		"--worker-image=local/worker", // the local node takes the program from BinDir
	}
	if endpoint != "" {
		args = append(args, "--default-endpoint="+endpoint)
	}
	c := s.component(name, filepath.Join(s.opts.BinDir, "manager"), append(args, s.opts.ManagerArgs...))
	c.ready = answers("http://" + health + "/readyz")
	return s.launch(ctx, c, "metrics at http://"+metrics+"/metrics")
}

func (s *Stack) startAPI(ctx context.Context) error {
	address, err := freeAddress(ctx, s.opts.APIAddress)
	if err != nil {
		return err
	}
	s.apiURL = "http://" + address
	args := []string{
		"--kubeconfig=" + s.componentKubeconfig("api"),
		"--namespace=" + s.opts.Namespace,
		"--bind-address=" + address,
		"--queue-urls=" + strings.Join(s.queueURLs, ","),
		"--drain-delay=0s", // no load balancer has to notice the drain first
	}
	if s.opts.AllowedOrigins != "" {
		args = append(args, "--allowed-origins="+s.opts.AllowedOrigins)
	}
	c := s.component("api", filepath.Join(s.opts.BinDir, "api"), append(args, s.opts.APIArgs...))
	c.ready = answers(s.apiURL + "/api/v1/scan/ready")
	return s.launch(ctx, c, s.apiURL)
}

// answers is a readiness check: the URL answers with status 200.
func answers(url string) func(ctx context.Context) error {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return func(ctx context.Context) error { return get(ctx, client, url) }
}
