// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localkubelet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/clock"
)

// verdict turns single probe results into a state, with the probe's thresholds:
// it changes after so many equal results in a row.
type verdict struct {
	success, failure int // how many in a row it takes
	healthy          bool
	run              int  // length of the current row
	last             bool // result the row is made of
}

func newVerdict(p *corev1.Probe, initially bool) *verdict {
	return &verdict{success: int(max(1, p.SuccessThreshold)), failure: int(max(1, p.FailureThreshold)), healthy: initially}
}

// observe counts one result. decided says whether a threshold is reached now;
// a liveness probe acts on each such failure, not on the change alone.
func (v *verdict) observe(ok bool) (healthy, decided bool) {
	if v.run == 0 || v.last != ok {
		v.last, v.run = ok, 0
	}
	v.run++
	need := v.failure
	if ok {
		need = v.success
	}
	if v.run < need {
		return v.healthy, false
	}
	v.healthy = ok
	return v.healthy, true
}

// prober runs one probe of one started container until its context ends.
type prober struct {
	clock clock.WithTicker
	probe *corev1.Probe
	// check does one probe; it is given the probe's timeout as deadline.
	check func(ctx context.Context) error
}

// run calls report after each result until ctx ends.
func (p *prober) run(ctx context.Context, report func(err error)) {
	if delay := time.Duration(p.probe.InitialDelaySeconds) * time.Second; delay > 0 {
		timer := p.clock.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return
		case <-timer.C():
		}
	}
	ticker := p.clock.NewTicker(time.Duration(max(1, p.probe.PeriodSeconds)) * time.Second)
	defer ticker.Stop()
	for {
		attempt, cancel := context.WithTimeout(ctx, time.Duration(max(1, p.probe.TimeoutSeconds))*time.Second)
		err := p.check(attempt)
		cancel()
		if ctx.Err() != nil {
			return
		}
		report(err)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
	}
}

// probeClient follows the kubelet's rules for HTTP probes: a new connection each
// time, any certificate, no proxy.
var probeClient = &http.Client{
	Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // a probe asks whether the program answers, not who it is
	},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// probeHTTP succeeds on any status from 200 to 399.
func probeHTTP(ctx context.Context, ip string, c *corev1.Container, get *corev1.HTTPGetAction) error {
	port, err := portNumber(c, get.Port)
	if err != nil {
		return err
	}
	host := get.Host
	if host == "" {
		host = ip
	}
	scheme := "http"
	if get.Scheme == corev1.URISchemeHTTPS {
		scheme = "https"
	}
	target, err := url.Parse(get.Path)
	if err != nil {
		return fmt.Errorf("probe path %q: %w", get.Path, err)
	}
	target.Scheme, target.Host = scheme, net.JoinHostPort(host, strconv.Itoa(port))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "kube-probe/local")
	for _, h := range get.HTTPHeaders {
		request.Header.Add(h.Name, h.Value)
	}
	response, err := probeClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 512))
	if err != nil {
		return err
	}
	if response.StatusCode < 200 || response.StatusCode >= 400 {
		return fmt.Errorf("HTTP probe failed with statuscode: %d: %s", response.StatusCode, body)
	}
	return nil
}

func probeTCP(ctx context.Context, ip string, c *corev1.Container, action *corev1.TCPSocketAction) error {
	port, err := portNumber(c, action.Port)
	if err != nil {
		return err
	}
	host := action.Host
	if host == "" {
		host = ip
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return conn.Close()
}

// portNumber resolves a port given by number or by the name of a container port.
func portNumber(c *corev1.Container, port intstr.IntOrString) (int, error) {
	if port.Type == intstr.Int {
		return port.IntValue(), nil
	}
	for i := range c.Ports {
		if c.Ports[i].Name == port.StrVal {
			return int(c.Ports[i].ContainerPort), nil
		}
	}
	if n, err := strconv.Atoi(port.StrVal); err == nil {
		return n, nil
	}
	return 0, fmt.Errorf("container %s has no port named %q", c.Name, port.StrVal)
}

var errProbeKind = errors.New("the local node supports httpGet, tcpSocket and exec probes only")
