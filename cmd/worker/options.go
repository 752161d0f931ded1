package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// envPrefix begins the names of the flags' twins in the environment.
const envPrefix = "WORKER"

// options are the command line's.
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
	healthAddr      string
	qps             float64
	burst           int
	zap             zap.Options
}

// bind declares the flags. getenv tells of the variables by which a pod usually knows itself.
func (o *options) bind(fs *flag.FlagSet, getenv func(string) string) {
	fs.StringVar(&o.namespace, "namespace", cmp.Or(getenv("POD_NAMESPACE"), "scans"), "Namespace to work in. Default: $POD_NAMESPACE, else scans.")
	fs.StringVar(&o.pool, "pool", "", "Name of the WorkerPool this worker belongs to. Required.")
	fs.StringVar(&o.track, "track", v1alpha1.TrackStable, "Group of the pool's workers that this worker belongs to: stable or canary.")
	fs.Var(&o.stages, "stages", "The pool's stages, joined by commas, e.g. vision,rule. Required.")
	fs.IntVar(&o.capacity, "capacity", 100, "Scans to run at a time.")
	fs.StringVar(&o.keysDir, "keys-dir", "/etc/scan/keys", "Directory with a directory for each budget, which holds the provider's key in a file named key.")
	fs.StringVar(&o.defaultEndpoint, "default-endpoint", "https://api.openai.com/v1", "Provider's base URL for TokenBudgets that name none.")
	fs.StringVar(&o.knowledgeDir, "knowledge-dir", "", "Directory with the knowledge pack; empty for the built-in one.")
	fs.StringVar(&o.podName, "pod-name", getenv("POD_NAME"), "Name of the worker's pod. Default: $POD_NAME, else the host's name.")
	fs.StringVar(&o.podUID, "pod-uid", getenv("POD_UID"), "UID of the worker's pod, so that its Lease goes with it. Default: $POD_UID.")
	fs.DurationVar(&o.drainTimeout, "drain-timeout", 60*time.Second, "How long running calls may go on after SIGTERM. The grace period should be five seconds longer.")
	fs.StringVar(&o.healthAddr, "health-bind-address", ":8081", "Address of /healthz, /readyz and /metrics.")
	fs.Float64Var(&o.qps, "kube-api-qps", 200, "Requests per second to the API server.")
	fs.IntVar(&o.burst, "kube-api-burst", 400, "Requests to the API server in a burst.")
	o.zap.BindFlags(fs)
}

// validate completes the options and says everything that is wrong with them.
func (o *options) validate() error {
	if o.podName == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("--pod-name is not set and the host has no name: %w", err)
		}
		o.podName = strings.ToLower(host)
	}
	var errs []error
	if o.pool == "" {
		errs = append(errs, errors.New("--pool must name the WorkerPool this worker belongs to"))
	}
	if o.track != v1alpha1.TrackStable && o.track != v1alpha1.TrackCanary {
		errs = append(errs, fmt.Errorf("--track=%q must be %s or %s", o.track, v1alpha1.TrackStable, v1alpha1.TrackCanary))
	}
	if len(o.stages) == 0 {
		errs = append(errs, errors.New("--stages must list the stages of the pool, e.g. --stages=vision,rule"))
	}
	if u, err := url.Parse(o.defaultEndpoint); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		errs = append(errs, fmt.Errorf("--default-endpoint=%q is not an absolute http or https URL, e.g. https://api.openai.com/v1", o.defaultEndpoint))
	}
	// A directory that is not there is no fault: the Secrets of the budgets may come later, and until then a call
	// fails with a message that names the budget.
	if info, err := os.Stat(o.keysDir); err == nil && !info.IsDir() {
		errs = append(errs, fmt.Errorf("--keys-dir=%s is not a directory", o.keysDir))
	}
	if o.qps <= 0 || o.burst < 1 {
		errs = append(errs, fmt.Errorf("--kube-api-qps=%v and --kube-api-burst=%d must be positive", o.qps, o.burst))
	}
	return errors.Join(errs...)
}

// stageList is a flag with consecutive stages.
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
			return fmt.Errorf("%q is no stage; the stages are %v", name, pipeline.Stages)
		}
		if len(stages) > 0 && index != pipeline.StageIndex(stages[len(stages)-1])+1 {
			return fmt.Errorf("stage %s does not follow stage %s; stages must be consecutive and in order: %v",
				stage, stages[len(stages)-1], pipeline.Stages)
		}
		stages = append(stages, stage)
	}
	*l = stages
	return nil
}
