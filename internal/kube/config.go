// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kube has what the programs share as clients of the Kubernetes API: how they find it, wait for it while it is
// down, and map kinds to resources.
package kube

import (
	"flag"
	"fmt"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client/config"

	"github.com/eco2-team/scan-operator/internal/cli"
)

// BindFlags declares --kubeconfig.
func BindFlags(fs *flag.FlagSet) {
	config.RegisterFlags(fs)
	fs.Lookup(config.KubeconfigFlagName).Usage = "Path of a kubeconfig, for a program outside the cluster. " +
		"Empty means $KUBECONFIG, then the cluster that the program's pod is in, then ~/.kube/config."
}

// Config returns the access to the API server that the flags and the environment describe. Its
// clients retry watches until the API server is reachable.
func Config(log logr.Logger) (*rest.Config, error) {
	found, err := config.GetConfig()
	if err != nil {
		return nil, cli.Misconfigured(fmt.Errorf("find the API server: %w; set --kubeconfig or run in a cluster", err))
	}
	retryWatches(found, clock.RealClock{}, log.WithName("apiserver"))
	return found, nil
}
