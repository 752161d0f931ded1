// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"

	"github.com/eco2-team/scan-operator/internal/cli"
	"github.com/eco2-team/scan-operator/internal/kube"
)

// envPrefix begins the environment variable of each flag: --namespace is SCAN_MANAGER_NAMESPACE.
const envPrefix = "SCAN_MANAGER"

// options are the values of the flags.
type options struct {
	namespace          string
	metricsAddr        string
	secureMetrics      bool
	probeAddr          string
	leaderElect        bool
	election           election
	workerImage        string
	workerAccount      string
	defaultEndpoint    string
	knowledgeDir       string
	knowledgeConfigMap string
	qps                float64
	burst              int
	maxStatusWrites    int
	scanConcurrency    int
	maxFinished        int
	queueAddr          string
	webhookURL         string
	webhookTokenFile   string
}

func (o *options) bind(fs *flag.FlagSet, getenv func(string) string) {
	kube.BindFlags(fs)
	fs.StringVar(&o.namespace, "namespace", cli.DefaultNamespace(getenv), "Namespace of the scans, pools and budgets, and of the leader's Lease. Default: $POD_NAMESPACE, else scans.")
	fs.StringVar(&o.metricsAddr, "metrics-bind-address", ":8443", "Address of /metrics, as host:port. 0 turns it off.")
	fs.BoolVar(&o.secureMetrics, "metrics-secure", true, "Serve /metrics by HTTPS, and only to clients that the API server authenticates and authorizes.")
	fs.StringVar(&o.probeAddr, "health-probe-bind-address", ":8081", "Address of /healthz and /readyz, as host:port. 0 turns them off.")
	fs.BoolVar(&o.leaderElect, "leader-elect", true, "Elect a leader among the managers of the namespace. Without it there must be one manager only.")
	o.election.bind(fs)
	fs.StringVar(&o.workerImage, "worker-image", "scan-worker:latest", "Image of the worker pods. A WorkerPool's template can name another one.")
	fs.StringVar(&o.workerAccount, "worker-service-account", "scan-worker", "ServiceAccount of the worker pods.")
	fs.StringVar(&o.defaultEndpoint, "default-endpoint", "https://api.openai.com/v1", "Base URL of the provider for TokenBudgets that name none.")
	fs.StringVar(&o.knowledgeDir, "knowledge-dir", "", "Directory of the knowledge pack. Empty means the built-in pack.")
	fs.StringVar(&o.knowledgeConfigMap, "knowledge-configmap", "", "ConfigMap with the knowledge pack, which worker pods mount. It must hold the same files as --knowledge-dir. Empty means the built-in pack.")
	fs.Float64Var(&o.qps, "kube-api-qps", 500, "Limit of the requests to the API server, per second on average. More than 0.")
	fs.IntVar(&o.burst, "kube-api-burst", 1000, "Limit of the requests to the API server in a burst. 1 or more.")
	fs.IntVar(&o.maxStatusWrites, "max-concurrent-status-writes", 16, "Limit of the scheduler's status writes that run at the same time. 1 or more.")
	fs.IntVar(&o.scanConcurrency, "scan-concurrency", 8, "Number of ScanRequests that are reconciled at the same time. 1 or more.")
	fs.IntVar(&o.maxFinished, "max-finished-scans", 10_000, "Limit of the finished scans in the namespace. Beyond it the oldest ones of the user who has the most are deleted before their time to live is over, but none that finished less than five minutes ago. 0 means no limit.")
	fs.StringVar(&o.queueAddr, "queue-bind-address", ":8082", "Address where the leader serves positions and estimated waits to the HTTP API, as host:port. Empty turns it off.")
	fs.StringVar(&o.webhookURL, "reward-webhook-url", "", "URL that receives the reward of each finished scan, at least once. Empty means none.")
	fs.StringVar(&o.webhookTokenFile, "reward-webhook-token-file", "", "File with the bearer token for --reward-webhook-url. Empty means no token.")
}

// validate reports every value that is out of range.
func (o *options) validate() error {
	errs := []error{
		o.election.check(),
		cli.HTTPURL("default-endpoint", o.defaultEndpoint),
		cli.Above("kube-api-qps", o.qps, 0),
		cli.AtLeast("kube-api-burst", o.burst, 1),
		cli.AtLeast("max-concurrent-status-writes", o.maxStatusWrites, 1),
		cli.AtLeast("scan-concurrency", o.scanConcurrency, 1),
		cli.AtLeast("max-finished-scans", o.maxFinished, 0),
	}
	if o.webhookURL != "" {
		errs = append(errs, cli.HTTPURL("reward-webhook-url", o.webhookURL))
	} else if o.webhookTokenFile != "" {
		errs = append(errs, errors.New("--reward-webhook-token-file is set without --reward-webhook-url: set both or neither"))
	}
	return errors.Join(errs...)
}
