// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/cli"
	"github.com/eco2-team/scan-operator/internal/kube"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// envPrefix begins the environment variable of each flag: --namespace is SCAN_WORKER_NAMESPACE.
const envPrefix = "SCAN_WORKER"

// options are the values of the flags.
type options struct {
	namespace       string
	pool            string
	track           string
	stages          stageList
	capacity        int
	keysDir         string
	defaultEndpoint string
	knowledgeDir    string
	podName         string
	podUID          string
	drainTimeout    time.Duration
	probeAddr       string
	qps             float64
	burst           int
}

// bind declares the flags. getenv reads the downward-API variables of the pod.
func (o *options) bind(fs *flag.FlagSet, getenv func(string) string) {
	kube.BindFlags(fs)
	fs.StringVar(&o.namespace, "namespace", cli.DefaultNamespace(getenv), "Namespace of the scans, and of the worker's Lease. Default: $POD_NAMESPACE, else scans.")
	fs.StringVar(&o.pool, "pool", "", "Name of the WorkerPool that this worker belongs to. Required.")
	fs.StringVar(&o.track, "track", v1alpha1.TrackStable, "Track of the pool that this worker belongs to: stable or canary.")
	fs.Var(&o.stages, "stages", "Stages of the pool, in order and separated by commas, such as vision,rule. Required.")
	fs.IntVar(&o.capacity, "capacity", 100, "Number of scans that run at the same time. 1 or more.")
	fs.StringVar(&o.keysDir, "keys-dir", "/etc/scan/keys", "Directory of the provider's keys: for each TokenBudget a directory of its name with a file named key.")
	fs.StringVar(&o.defaultEndpoint, "default-endpoint", "https://api.openai.com/v1", "Base URL of the provider for TokenBudgets that name none.")
	fs.StringVar(&o.knowledgeDir, "knowledge-dir", "", "Directory of the knowledge pack. Empty means the built-in pack.")
	fs.StringVar(&o.podName, "pod-name", getenv("POD_NAME"), "Name of the worker's pod. Default: $POD_NAME, else the host's name.")
	fs.StringVar(&o.podUID, "pod-uid", getenv("POD_UID"), "UID of the worker's pod, which then owns the worker's Lease. Default: $POD_UID. Empty means that the Lease has no owner.")
	fs.DurationVar(&o.drainTimeout, "drain-timeout", time.Minute, "Time that running calls may take after SIGTERM before they are released. 0 releases them at once. The pod's grace period should be 5s longer.")
	fs.StringVar(&o.probeAddr, "health-probe-bind-address", ":8081", "Address of /healthz, /readyz and /metrics, as host:port.")
	fs.Float64Var(&o.qps, "kube-api-qps", 200, "Limit of the requests to the API server, per second on average. More than 0.")
	fs.IntVar(&o.burst, "kube-api-burst", 400, "Limit of the requests to the API server in a burst. 1 or more.")
}

// validate completes the options and reports every value that is missing or out of range.
func (o *options) validate() error {
	var errs []error
	if o.podName == "" {
		host, err := os.Hostname()
		if err != nil {
			errs = append(errs, fmt.Errorf("--pod-name is not set, and the host has no name: %w", err))
		}
		o.podName = strings.ToLower(host)
	}
	if o.pool == "" {
		errs = append(errs, errors.New("--pool must name the WorkerPool that this worker belongs to"))
	}
	if len(o.stages) == 0 {
		errs = append(errs, errors.New("--stages must list the stages of the pool, such as --stages=vision,rule"))
	}
	// A missing directory is valid: the budgets' Secrets may be created later, and until then a call fails with a
	// message that names the budget.
	if info, err := os.Stat(o.keysDir); err == nil && !info.IsDir() {
		errs = append(errs, fmt.Errorf("--keys-dir=%s is a file: want a directory", o.keysDir))
	}
	return errors.Join(append(errs,
		cli.OneOf("track", o.track, v1alpha1.TrackStable, v1alpha1.TrackCanary),
		cli.AtLeast("capacity", o.capacity, 1),
		cli.HTTPURL("default-endpoint", o.defaultEndpoint),
		cli.AtLeast("drain-timeout", o.drainTimeout, 0),
		cli.Above("kube-api-qps", o.qps, 0),
		cli.AtLeast("kube-api-burst", o.burst, 1),
	)...)
}

// stageList is the value of a flag that lists consecutive stages.
type stageList []v1alpha1.StageName

// String implements flag.Value.
func (l *stageList) String() string {
	names := make([]string, len(*l))
	for i, stage := range *l {
		names[i] = string(stage)
	}
	return strings.Join(names, ",")
}

// Set implements flag.Value.
func (l *stageList) Set(value string) error {
	var stages stageList
	for name := range strings.SplitSeq(value, ",") {
		stage := v1alpha1.StageName(strings.TrimSpace(name))
		index := pipeline.StageIndex(stage)
		if index < 0 {
			return fmt.Errorf("%q is no stage: want consecutive stages of %v", name, pipeline.Stages)
		}
		if len(stages) > 0 && index != pipeline.StageIndex(stages[len(stages)-1])+1 {
			return fmt.Errorf("stage %s does not follow stage %s: want consecutive stages of %v",
				stage, stages[len(stages)-1], pipeline.Stages)
		}
		stages = append(stages, stage)
	}
	*l = stages
	return nil
}
