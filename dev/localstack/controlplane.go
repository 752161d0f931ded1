// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localstack

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/eco2-team/scan-operator/dev/localkubelet/process"
)

// serviceIssuer is the issuer of service account tokens, as kubeadm names it.
const serviceIssuer = "https://kubernetes.default.svc.cluster.local"

// etcdComponent is a single member that keeps its data in dir. It accepts only
// clients with the authority's certificates: it holds the Secrets.
func (s *Stack) etcdComponent(ctx context.Context, pki *authority) (*component, string, error) {
	pair, err := pki.server("etcd")
	if err != nil {
		return nil, "", err
	}
	client, err := freeAddress(ctx, "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	peer, err := freeAddress(ctx, "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	url, peerURL := "https://"+client, "https://"+peer
	data := filepath.Join(s.opts.Dir, "etcd")
	_, err = os.Stat(filepath.Join(data, "member"))
	kept := err == nil // such data has the peer address of the last run
	c := s.component("etcd", filepath.Join(s.opts.K8sDir, "etcd"), []string{
		"--name=local",
		"--data-dir=" + data,
		"--listen-client-urls=" + url, "--advertise-client-urls=" + url,
		"--listen-peer-urls=" + peerURL, "--initial-advertise-peer-urls=" + peerURL,
		"--initial-cluster=local=" + peerURL,
		"--force-new-cluster=" + strconv.FormatBool(kept),
		"--cert-file=" + pair.cert, "--key-file=" + pair.key,
		"--trusted-ca-file=" + pki.caFile(), "--client-cert-auth",
		"--peer-cert-file=" + pair.cert, "--peer-key-file=" + pair.key,
		"--peer-trusted-ca-file=" + pki.caFile(), "--peer-client-cert-auth",
		"--log-level=warn",
		"--unsafe-no-fsync", // a power cut may lose the local state; in return the disk is no bottleneck
	})
	c.essential = true
	probe, err := tlsClient(pki.caFile(), pair)
	if err != nil {
		return nil, "", err
	}
	c.ready = func(ctx context.Context) error { return get(ctx, probe, url+"/health") }
	return c, url, nil
}

// apiServerComponent is kube-apiserver with RBAC, behind the authority's
// certificates.
func (s *Stack) apiServerComponent(ctx context.Context, pki *authority, etcdURL string) (*component, error) {
	host, _, err := net.SplitHostPort(s.opts.KubeAddress)
	if err != nil {
		return nil, fmt.Errorf("address of kube-apiserver: %w", err)
	}
	ip := net.ParseIP(host)
	if ip == nil {
		return nil, fmt.Errorf("address of kube-apiserver: %q is not an IP address", host)
	}
	serving, err := pki.server("kube-apiserver", ip)
	if err != nil {
		return nil, err
	}
	etcdClient, err := pki.client("kube-apiserver-etcd-client", "kube-apiserver")
	if err != nil {
		return nil, err
	}
	signing, err := serviceAccountKey(s.opts.Dir)
	if err != nil {
		return nil, err
	}
	address, err := freeAddress(ctx, s.opts.KubeAddress)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address of kube-apiserver: %w", err)
	}
	s.kubeURL = "https://" + address
	c := s.component("kube-apiserver", filepath.Join(s.opts.K8sDir, "kube-apiserver"), []string{
		"--bind-address=" + host, "--advertise-address=" + host, "--secure-port=" + port,
		"--etcd-servers=" + etcdURL, "--etcd-cafile=" + pki.caFile(),
		"--etcd-certfile=" + etcdClient.cert, "--etcd-keyfile=" + etcdClient.key,
		"--tls-cert-file=" + serving.cert, "--tls-private-key-file=" + serving.key,
		"--client-ca-file=" + pki.caFile(),
		"--authorization-mode=RBAC",
		"--service-account-issuer=" + serviceIssuer,
		"--service-account-key-file=" + signing.cert, "--service-account-signing-key-file=" + signing.key,
		"--service-cluster-ip-range=10.0.0.0/24",
		"--endpoint-reconciler-type=none",            // nothing reaches it through a Service
		"--disable-admission-plugins=ServiceAccount", // the local node hands out credentials, see package localkubelet
		"--cert-dir=" + filepath.Join(s.opts.Dir, "kube-apiserver"),
		"--shutdown-delay-duration=0s",
	})
	// It keeps the events of the last 75 s in memory, decoded. Under load, garbage collection would take a third of its
	// time; memory is less scarce than processor time on one machine.
	c.spec.Env = append(c.spec.Env, "GOGC=300", "GOMEMLIMIT=3GiB")
	c.essential = true
	c.grace = 5 * time.Second // it would wait a minute for watches, which their clients open again anyway
	admin, err := pki.client("admin", "local-admin", "system:masters")
	if err != nil {
		return nil, err
	}
	s.admin = admin
	probe, err := tlsClient(pki.caFile(), admin)
	if err != nil {
		return nil, err
	}
	c.ready = func(ctx context.Context) error { return get(ctx, probe, s.kubeURL+"/readyz") }
	return c, nil
}

// controllersName is Kubernetes' Deployment, ReplicaSet, garbage collector and
// namespace controllers in one program; see dev/controlplane.
const controllersName = "kube-controllers"

// startControllers runs Kubernetes' own controllers. The CRDs are installed
// before: the garbage collector looks for new kinds only every 30 seconds.
func (s *Stack) startControllers(ctx context.Context) error {
	address, err := freeAddress(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	c := s.component(controllersName, filepath.Join(s.opts.K8sDir, controllersName), []string{
		"--kubeconfig=" + s.componentKubeconfig(controllersName), "--bind-address=" + address,
	})
	c.ready = answers("http://" + address + "/readyz")
	return s.launch(ctx, c, "Deployments, ReplicaSets, garbage collector, namespaces")
}

// component is one of the stack's programs with what they have in common.
func (s *Stack) component(name, path string, args []string) *component {
	return &component{
		name: name,
		spec: process.Spec{
			Path: path, Args: args, Dir: s.opts.Dir, Env: environment(),
			LogFile: filepath.Join(s.LogDir(), name+".log"),
		},
		grace: 30 * time.Second, clock: s.opts.Clock, backoff: s.opts.RestartBackoff,
		hurry: s.hurry, ended: s.reportEnd,
	}
}

// freeAddress returns the address with a free port, chosen if the given one is 0.
// It fails if the given one is in use.
func freeAddress(ctx context.Context, address string) (string, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return "", fmt.Errorf("listen on %s (choose another address by flag, or port 0 for a free one): %w", address, err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

func tlsClient(caFile string, user keyPair) (*http.Client, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read the CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", caFile)
	}
	cert, err := tls.LoadX509KeyPair(user.cert, user.key)
	if err != nil {
		return nil, fmt.Errorf("read a client certificate: %w", err)
	}
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{cert}},
	}}, nil
}

// get succeeds when the URL answers with status 200.
func get(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status + ": " + string(body))
	}
	return nil
}

// AddressFree reports whether the address is free now.
func AddressFree(ctx context.Context, address string) bool {
	_, err := freeAddress(ctx, address)
	return err == nil
}
