// Command manager runs the scheduler and the controllers. Several may run: the leader works, the others are warm.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/controllers"
	"github.com/eco2-team/scan-operator/controllers/rewards"
	"github.com/eco2-team/scan-operator/controllers/workerpool"
	"github.com/eco2-team/scan-operator/internal/cli"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/rewardhook"
	"github.com/eco2-team/scan-operator/internal/rewatch"
)

// envPrefix begins the names of the flags' twins in the environment.
const envPrefix = "SCAN_MANAGER"

// options are the command line's.
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
	maxWrites          int
	scanWorkers        int
	maxFinished        int
	queueAddr          string
	webhookURL         string
	webhookTokenFile   string
	zap                zap.Options
}

func (o *options) bind(fs *flag.FlagSet) {
	fs.StringVar(&o.namespace, "namespace", "scans", "Namespace to work in; its leader Lease is there too.")
	fs.StringVar(&o.metricsAddr, "metrics-bind-address", ":8443", "Address of the metrics endpoint; 0 turns it off.")
	fs.BoolVar(&o.secureMetrics, "metrics-secure", true, "Serve metrics by HTTPS, to clients the API server authorizes.")
	fs.StringVar(&o.probeAddr, "health-probe-bind-address", ":8081", "Address of /healthz and /readyz.")
	fs.BoolVar(&o.leaderElect, "leader-elect", true, "Let one of several managers lead.")
	o.election.bind(fs)
	fs.StringVar(&o.workerImage, "worker-image", "scan-worker:latest", "Image of the worker pods.")
	fs.StringVar(&o.workerAccount, "worker-service-account", "scan-worker", "ServiceAccount of the worker pods.")
	fs.StringVar(&o.defaultEndpoint, "default-endpoint", "https://api.openai.com/v1", "Provider's base URL for TokenBudgets that name none.")
	fs.StringVar(&o.knowledgeDir, "knowledge-dir", "", "Directory with the knowledge pack; empty for the built-in one.")
	fs.StringVar(&o.knowledgeConfigMap, "knowledge-configmap", "", "ConfigMap with the knowledge pack for the workers to mount; it must hold what --knowledge-dir shows.")
	fs.Float64Var(&o.qps, "kube-api-qps", 500, "Requests per second to the API server.")
	fs.IntVar(&o.burst, "kube-api-burst", 1000, "Requests to the API server in a burst.")
	fs.IntVar(&o.maxWrites, "max-writes", 16, "Status writes of the scheduler under way at the same time.")
	fs.IntVar(&o.scanWorkers, "scan-concurrency", 8, "ScanRequests reconciled at the same time.")
	fs.IntVar(&o.maxFinished, "max-finished-scans", 10_000, "Finished scans a namespace may have; the oldest ones beyond it are deleted before their time to live is over. 0 is for any number.")
	fs.StringVar(&o.queueAddr, "queue-bind-address", ":8082", "Address where the leader tells the HTTP API how waiting scans stand; empty turns it off.")
	fs.StringVar(&o.webhookURL, "reward-webhook-url", "", "URL to post the rewards of finished scans to, at least once each; empty for nowhere.")
	fs.StringVar(&o.webhookTokenFile, "reward-webhook-token-file", "", "File with the bearer token for --reward-webhook-url; empty for none.")
	o.zap.BindFlags(fs)
}

func main() {
	var o options
	o.bind(flag.CommandLine)
	if err := cli.Parse(flag.CommandLine, envPrefix, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "manager:", err)
		os.Exit(2)
	}
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&o.zap)))
	if err := run(ctrl.SetupSignalHandler(), o); err != nil {
		ctrl.Log.Error(err, "manager failed")
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if err := o.election.check(); err != nil {
		return err
	}
	pack, err := knowledge.LoadDir(o.knowledgeDir)
	if err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the API server: %w; set --kubeconfig or run in a cluster", err)
	}
	config.QPS, config.Burst = float32(o.qps), o.burst
	rewatch.Soon(config, clock.RealClock{}, ctrl.Log.WithName("apiserver"))
	mgr, err := newManager(config, o)
	if err != nil {
		return err
	}
	var rewards rewards.Poster
	if o.webhookURL != "" {
		if u, err := url.Parse(o.webhookURL); err != nil || u.Host == "" {
			return fmt.Errorf("--reward-webhook-url: %q is not an absolute URL", o.webhookURL)
		}
		rewards = &rewardhook.Client{URL: o.webhookURL, TokenFile: o.webhookTokenFile}
	}
	if err := controllers.Setup(ctx, mgr, controllers.Options{
		Rewards:   rewards,
		Namespace: o.namespace, Pack: pack, MaxWrites: o.maxWrites, ScanConcurrency: o.scanWorkers,
		QueueAddress: o.queueAddr, MaxFinished: o.maxFinished,
		Clock: clock.RealClock{}, Registry: metrics.Registry,
		Workers: workerpool.WorkerDefaults{
			Image: o.workerImage, ServiceAccountName: o.workerAccount,
			DefaultEndpoint: o.defaultEndpoint, KnowledgeConfigMap: o.knowledgeConfigMap,
		},
	}); err != nil {
		return err
	}
	if err := mgr.AddHealthzCheck("healthz", healthz.Ping); err != nil {
		return fmt.Errorf("add the health check: %w", err)
	}
	if err := mgr.AddReadyzCheck("caches", ready(mgr)); err != nil {
		return fmt.Errorf("add the readiness check: %w", err)
	}
	if err := mgr.Start(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("run: %w", err)
	}
	return nil
}

func newManager(config *rest.Config, o options) (ctrl.Manager, error) {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))

	metricsOptions := metricsserver.Options{BindAddress: o.metricsAddr, SecureServing: o.secureMetrics}
	if o.secureMetrics {
		metricsOptions.FilterProvider = filters.WithAuthenticationAndAuthorization
	}
	electionConfig := rest.CopyConfig(config)
	electionConfig.QPS, electionConfig.Burst = 10, 20 // its own limiter: a busy scheduler must not cost the lead
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        scheme,
		MapperProvider:                controllers.RESTMapper,
		Metrics:                       metricsOptions,
		HealthProbeBindAddress:        o.probeAddr,
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              "scan-operator-leader",
		LeaderElectionNamespace:       o.namespace,
		LeaderElectionConfig:          electionConfig,
		LeaseDuration:                 &o.election.leaseDuration,
		RenewDeadline:                 &o.election.renewDeadline,
		RetryPeriod:                   &o.election.retryPeriod,
		LeaderElectionReleaseOnCancel: true,
		Cache: cache.Options{
			DefaultNamespaces: map[string]cache.Config{o.namespace: {}},
			DefaultTransform:  cache.TransformStripManagedFields(),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("make the manager: %w", err)
	}
	return mgr, nil
}

// ready says whether the caches are filled, so that a new pod takes over only when it can.
func ready(mgr ctrl.Manager) healthz.Checker {
	return func(req *http.Request) error {
		ctx, cancel := context.WithTimeout(req.Context(), time.Second)
		defer cancel()
		if !mgr.GetCache().WaitForCacheSync(ctx) {
			return errors.New("the caches are not filled yet")
		}
		return nil
	}
}
