// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/eco2-team/scan-operator/internal/cli"
	"github.com/eco2-team/scan-operator/internal/httpapi/auth"
	"github.com/eco2-team/scan-operator/internal/kube"
	"github.com/eco2-team/scan-operator/internal/queuestatus"
)

// envPrefix begins the environment variable of each flag: --namespace is SCAN_API_NAMESPACE.
const envPrefix = "SCAN_API"

// The values of --auth.
const (
	authGateway     = "gateway"
	authTokenReview = "tokenreview"
)

// options are the values of the flags.
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
}

func (o *options) bind(fs *flag.FlagSet, getenv func(string) string) {
	kube.BindFlags(fs)
	fs.StringVar(&o.namespace, "namespace", cli.DefaultNamespace(getenv), "Namespace of the scans. Default: $POD_NAMESPACE, else scans.")
	fs.StringVar(&o.bindAddress, "bind-address", ":8080", "Address of the API, of its probes and of its metrics, as host:port.")
	fs.StringVar(&o.auth, "auth", authGateway,
		"How to authenticate the user: gateway trusts the X-User-ID header of requests from --trusted-proxies; "+
			"tokenreview asks the API server about the bearer token, for callers in the cluster.")
	var trusted []string
	for _, proxies := range auth.DefaultTrustedProxies() {
		trusted = append(trusted, proxies.String())
	}
	fs.StringVar(&o.trustedProxies, "trusted-proxies", strings.Join(trusted, ","),
		"Address ranges of the gateway, separated by commas. The X-User-ID header is ignored from any other address.")
	fs.StringVar(&o.allowedOrigins, "allowed-origins", "",
		"Origins of web pages that may use the API with the user's cookies, separated by commas, such as https://app.example.com. Empty means none but the API's own.")
	fs.StringVar(&o.tlsCertFile, "tls-cert-file", "", "Certificate to serve HTTPS with, in PEM; read again when it changes. Empty means plain HTTP.")
	fs.StringVar(&o.tlsKeyFile, "tls-key-file", "", "Private key of --tls-cert-file, in PEM.")
	fs.StringVar(&o.knowledgeDir, "knowledge-dir", "", "Directory of the knowledge pack, the same as the workers'. Empty means the built-in pack.")
	fs.StringVar(&o.queueURLs, "queue-urls", "",
		"Base URLs of the managers' --queue-bind-address, separated by commas, such as http://scan-manager-queue:8082. A host with several addresses "+
			"stands for all of them. The leader among them knows positions and estimated waits. Empty means that responses have neither, and that --max-estimated-wait has no effect.")
	fs.DurationVar(&o.maxEstimatedWait, "max-estimated-wait", 2*time.Minute,
		"Longest estimated wait of a new scan. A submit that would wait longer gets 429. 0 means no limit.")
	fs.IntVar(&o.maxUnfinishedPerUser, "max-unfinished-per-user", 100, "Limit of the unfinished scans of one user. A submit beyond it gets 429. 0 means no limit.")
	fs.IntVar(&o.maxUnfinished, "max-unfinished", 20000, "Limit of the unfinished scans of all users. A submit beyond it gets 429. 0 means no limit.")
	fs.IntVar(&o.maxStreams, "max-streams", 10000, "Limit of the open event streams of this server. 1 or more.")
	fs.IntVar(&o.maxStreamsPerUser, "max-streams-per-user", 100, "Limit of the open event streams of one user on this server. 1 or more.")
	fs.DurationVar(&o.keepalive, "stream-keepalive", 15*time.Second, "Longest time without data on an event stream, after which a comment is sent. More than 0.")
	fs.DurationVar(&o.drainDelay, "drain-delay", 5*time.Second,
		"Time between failing readiness and ending streams on SIGTERM, in which load balancers stop sending requests. 0 means none.")
	fs.DurationVar(&o.shutdownTimeout, "shutdown-timeout", 10*time.Second, "Time that running requests may take after --drain-delay. More than 0.")
}

// validate reports every value that is out of range, and those that do not go together.
func (o *options) validate() error {
	var errs []error
	if (o.tlsCertFile == "") != (o.tlsKeyFile == "") {
		errs = append(errs, errors.New("--tls-cert-file and --tls-key-file must be set together"))
	}
	if _, err := queuestatus.ParseURLs(o.queueURLs); err != nil {
		errs = append(errs, fmt.Errorf("--queue-urls: %w", err))
	}
	if _, err := auth.ParseTrustedProxies(o.trustedProxies); err != nil {
		errs = append(errs, fmt.Errorf("--trusted-proxies: %w", err))
	}
	return errors.Join(append(errs,
		cli.OneOf("auth", o.auth, authGateway, authTokenReview),
		cli.AtLeast("max-unfinished-per-user", o.maxUnfinishedPerUser, 0),
		cli.AtLeast("max-unfinished", o.maxUnfinished, 0),
		cli.AtLeast("max-streams", o.maxStreams, 1),
		cli.AtLeast("max-streams-per-user", o.maxStreamsPerUser, 1),
		cli.AtLeast("max-estimated-wait", o.maxEstimatedWait, 0),
		cli.AtLeast("drain-delay", o.drainDelay, 0),
		cli.Above("stream-keepalive", o.keepalive, 0),
		cli.Above("shutdown-timeout", o.shutdownTimeout, 0),
	)...)
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
