// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localstack

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/go-logr/logr"
	"k8s.io/utils/clock"

	"github.com/eco2-team/scan-operator/dev/localkubelet"
)

// Options say what to run. The zero value of a field means its default.
type Options struct {
	// Dir holds the state: data, certificates, kubeconfigs, logs. It is created
	// for the owner alone. Default ".local".
	Dir string
	// Keep continues with the state that Dir has; else it is removed at start.
	Keep bool

	// K8sDir has the programs etcd, kube-apiserver and kube-controllers. Default
	// "bin/k8s".
	K8sDir string
	// BinDir has the programs manager, api, worker and openai-sim. Default "bin".
	BinDir string
	// ConfigDir has crd/bases and rbac. Default "config".
	ConfigDir string
	// ManifestsDir has the TokenBudgets and WorkerPools to start with. Default
	// "config/samples".
	ManifestsDir string

	// Namespace is where everything is. Default "scans".
	Namespace string
	// KubeAddress, APIAddress and SimAddress are where kube-apiserver, api and
	// openai-sim listen, as host:port. An empty one, or port 0, takes a free
	// port of 127.0.0.1.
	KubeAddress, APIAddress, SimAddress string
	// AllowedOrigins are the browser origins the api answers, comma-separated.
	AllowedOrigins string

	// ProviderKey is a real provider's key. Empty starts the simulator.
	ProviderKey string
	// Endpoint is the provider's base URL for TokenBudgets that name none;
	// empty means the simulator's, or with a ProviderKey the manager's default.
	Endpoint string
	// Speed divides the simulator's latencies; default 1, as measured.
	Speed float64
	// TokensPerMinute and RequestsPerMinute are the simulator's limits per key
	// and model; 0 leaves it its defaults.
	TokensPerMinute, RequestsPerMinute int64

	// StandbyManager starts a second manager, "manager-2", that takes over when
	// the first one dies.
	StandbyManager bool

	// ManagerArgs, APIArgs and SimArgs are further arguments.
	ManagerArgs, APIArgs, SimArgs []string
	// RestartBackoff spaces the restarts of components and containers that
	// crash; default the kubelet's.
	RestartBackoff localkubelet.RestartBackoff

	// Progress receives a line per step and per component that ends
	// unexpectedly. Default none.
	Progress io.Writer
	// Log receives the local node's own errors.
	Log logr.Logger
	// Clock is for tests.
	Clock clock.WithTicker
}

func (o *Options) setDefaults() {
	for field, value := range map[*string]string{
		&o.Dir: ".local", &o.K8sDir: filepath.Join("bin", "k8s"), &o.BinDir: "bin", &o.ConfigDir: "config",
		&o.ManifestsDir: filepath.Join("config", "samples"), &o.Namespace: "scans",
		&o.KubeAddress: "127.0.0.1:0", &o.APIAddress: "127.0.0.1:0", &o.SimAddress: "127.0.0.1:0",
	} {
		*field = cmp.Or(*field, value)
	}
	o.Speed = cmp.Or(o.Speed, 1)
	if o.RestartBackoff == (localkubelet.RestartBackoff{}) {
		o.RestartBackoff = localkubelet.KubeletBackoff
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
}

// resolve makes all paths absolute and checks that what they name is there.
func (o *Options) resolve() error {
	for _, dir := range []*string{&o.Dir, &o.K8sDir, &o.BinDir, &o.ConfigDir, &o.ManifestsDir} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return fmt.Errorf("find %s: %w", *dir, err)
		}
		*dir = abs
	}
	var errs []error
	need := func(path, hint string) {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("%s is missing: %s", path, hint))
		} else if err != nil {
			errs = append(errs, err)
		}
	}
	for _, name := range []string{"etcd", "kube-apiserver", controllersName} {
		need(filepath.Join(o.K8sDir, name), "build it with make k8s")
	}
	programs := []string{"manager", "api", "worker"}
	if o.simulated() {
		programs = append(programs, "openai-sim")
	}
	for _, name := range programs {
		need(filepath.Join(o.BinDir, name), "build it with make build")
	}
	need(filepath.Join(o.ConfigDir, "crd", "bases"), "generate it with make manifests")
	need(filepath.Join(o.ConfigDir, "rbac"), "generate it with make manifests")
	need(o.ManifestsDir, "name a directory with a TokenBudget and a WorkerPool")
	return errors.Join(errs...)
}

// simulated says whether the simulated provider is part of the stack.
func (o *Options) simulated() bool { return o.ProviderKey == "" }
