// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package testenv starts a real etcd and kube-apiserver for tests, with the product's types installed. It
// issues credentials: the administrator's, and those of the product's parts with the product's own roles.
package testenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// assetsVariable names the directory with etcd, kube-apiserver and kubectl. `make test` sets it.
const assetsVariable = "KUBEBUILDER_ASSETS"

// startTimeout bounds the start of etcd and of kube-apiserver, each. A busy machine of two cores takes about ten
// seconds.
const startTimeout = 2 * time.Minute

// ControlPlane is a running etcd and kube-apiserver.
type ControlPlane struct {
	// Config is the administrator's, without a limit on requests.
	Config *rest.Config
	// Kubectl is the path of kubectl.
	Kubectl string

	environment *envtest.Environment
}

// Start starts a control plane and installs the product's types. The error says what to do if the programs are not
// there.
func Start() (*ControlPlane, error) {
	assets := os.Getenv(assetsVariable)
	if assets == "" {
		return nil, fmt.Errorf("%s is not set, so there is no API server to test against; run `make test`, or `make k8s` and set it to bin/k8s", assetsVariable)
	}
	for _, program := range []string{"etcd", "kube-apiserver", "kubectl"} {
		if _, err := os.Stat(filepath.Join(assets, program)); err != nil { //nolint:gosec // the path is the developer's own
			return nil, fmt.Errorf("%s has no %s: %w; run `make k8s`", assetsVariable, program, err)
		}
	}
	environment := &envtest.Environment{
		BinaryAssetsDirectory:    assets,
		CRDDirectoryPaths:        []string{Path("config", "crd", "bases")},
		ErrorIfCRDPathMissing:    true,
		ControlPlaneStartTimeout: startTimeout,
		ControlPlaneStopTimeout:  startTimeout,
	}
	config, err := environment.Start()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the API server: %w", err), environment.Stop())
	}
	config.QPS = -1
	return &ControlPlane{Config: config, Kubectl: filepath.Join(assets, "kubectl"), environment: environment}, nil
}

// Stop stops the control plane and removes its data.
func (c *ControlPlane) Stop() error {
	if err := c.environment.Stop(); err != nil {
		return fmt.Errorf("stop the API server: %w", err)
	}
	return nil
}

// Path is the path of a file of this repository, given by its elements from the root.
func Path(elements ...string) string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(append([]string{filepath.Dir(here), "..", ".."}, elements...)...)
}
