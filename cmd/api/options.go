package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client/config"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/eco2-team/scan-operator/internal/httpapi/auth"
	"github.com/eco2-team/scan-operator/internal/queuestatus"
)

// envPrefix begins the environment variable of each flag: --bind-address is SCAN_API_BIND_ADDRESS.
const envPrefix = "SCAN_API"

// The values of --auth.
const (
	authGateway     = "gateway"
	authTokenReview = "tokenreview"
)

type options struct {
	bindAddress, namespace              string
	auth, trustedProxies                string
	allowedOrigins                      string
	tlsCertFile, tlsKeyFile             string
	knowledgeDir                        string
	queueURLs                           string
	maxEstimatedWait                    time.Duration
	maxUnfinishedPerUser, maxUnfinished int
	maxStreams                          int
	maxStreamsPerUser                   int
	keepalive                           time.Duration
	drainDelay, shutdownTimeout         time.Duration
	zap                                 zap.Options
}

func (o *options) bind(fs *flag.FlagSet, getenv func(string) string) {
	config.RegisterFlags(fs)
	fs.StringVar(&o.bindAddress, "bind-address", ":8080", "Address to listen on.")
	fs.StringVar(&o.namespace, "namespace", cmp.Or(getenv("POD_NAMESPACE"), "default"),
		"Namespace of the scans. Default: POD_NAMESPACE, else \"default\".")
	fs.StringVar(&o.auth, "auth", authGateway,
		"How to authenticate the user: \"gateway\" trusts the X-User-ID header of requests from --trusted-proxies; "+
			"\"tokenreview\" asks the API server about the bearer token, for callers in the cluster.")
	var trusted []string
	for _, proxies := range auth.DefaultTrustedProxies() {
		trusted = append(trusted, proxies.String())
	}
	fs.StringVar(&o.trustedProxies, "trusted-proxies", strings.Join(trusted, ","),
		"Address ranges of the gateway, separated by commas. The X-User-ID header is ignored from any other address.")
	fs.StringVar(&o.allowedOrigins, "allowed-origins", "",
		"Origins of web pages that may use the API with the user's cookies, such as https://app.example.com, separated by commas.")
	fs.StringVar(&o.tlsCertFile, "tls-cert-file", "", "Certificate in PEM to serve HTTPS with. It is read again when it changes.")
	fs.StringVar(&o.tlsKeyFile, "tls-key-file", "", "Key of --tls-cert-file in PEM.")
	fs.StringVar(&o.knowledgeDir, "knowledge-dir", "", "Directory of the knowledge pack, the same as the workers'. Default: the embedded pack.")
	fs.StringVar(&o.queueURLs, "queue-urls", "",
		"Base URLs of the managers' --queue-bind-address, separated by commas, such as http://scan-manager-queue:8082; a host with several addresses "+
			"stands for all of them. The leader among them knows positions and waiting times; without it responses have neither, and --max-estimated-wait has no effect.")
	fs.DurationVar(&o.maxEstimatedWait, "max-estimated-wait", 2*time.Minute,
		"Answer 429 to a submit that would wait longer than this. 0 is no limit.")
	fs.IntVar(&o.maxUnfinishedPerUser, "max-unfinished-per-user", 100, "Answer 429 to a submit of a user with this many unfinished scans. 0 is no limit.")
	fs.IntVar(&o.maxUnfinished, "max-unfinished", 20000, "Answer 429 to a submit while this many scans are unfinished. 0 is no limit.")
	fs.IntVar(&o.maxStreams, "max-streams", 10000, "Limit of open event streams of this server.")
	fs.IntVar(&o.maxStreamsPerUser, "max-streams-per-user", 100, "Limit of open event streams of one user on this server.")
	fs.DurationVar(&o.keepalive, "stream-keepalive", 15*time.Second, "Longest silence on an event stream.")
	fs.DurationVar(&o.drainDelay, "drain-delay", 5*time.Second,
		"Time between failing readiness and ending streams on SIGTERM, for load balancers to notice.")
	fs.DurationVar(&o.shutdownTimeout, "shutdown-timeout", 10*time.Second, "Time that running requests may take to finish after that.")
	o.zap.BindFlags(fs)
}

// validate checks the values of the flags, and those that depend on each other.
func (o *options) validate() error {
	var errs []error
	if (o.tlsCertFile == "") != (o.tlsKeyFile == "") {
		errs = append(errs, errors.New("--tls-cert-file and --tls-key-file must be set together"))
	}
	if _, err := queuestatus.ParseURLs(o.queueURLs); err != nil {
		errs = append(errs, fmt.Errorf("--queue-urls: %w", err))
	}
	if o.auth != authGateway && o.auth != authTokenReview {
		errs = append(errs, fmt.Errorf("--auth=%q: must be %q or %q", o.auth, authGateway, authTokenReview))
	}
	for name, value := range map[string]int{
		"max-unfinished-per-user": o.maxUnfinishedPerUser, "max-unfinished": o.maxUnfinished,
	} {
		if value < 0 {
			errs = append(errs, fmt.Errorf("--%s=%d: must not be negative", name, value))
		}
	}
	for name, value := range map[string]int{"max-streams": o.maxStreams, "max-streams-per-user": o.maxStreamsPerUser} {
		if value <= 0 {
			errs = append(errs, fmt.Errorf("--%s=%d: must be positive", name, value))
		}
	}
	for name, value := range map[string]time.Duration{
		"max-estimated-wait": o.maxEstimatedWait, "drain-delay": o.drainDelay,
	} {
		if value < 0 {
			errs = append(errs, fmt.Errorf("--%s=%s: must not be negative", name, value))
		}
	}
	for name, value := range map[string]time.Duration{
		"stream-keepalive": o.keepalive, "shutdown-timeout": o.shutdownTimeout,
	} {
		if value <= 0 {
			errs = append(errs, fmt.Errorf("--%s=%s: must be positive", name, value))
		}
	}
	return errors.Join(errs...)
}

// origins are the allowed origins.
func (o *options) origins() []string {
	var origins []string
	for origin := range strings.SplitSeq(o.allowedOrigins, ",") {
		if origin = strings.TrimSpace(origin); origin != "" {
			origins = append(origins, origin)
		}
	}
	return origins
}
