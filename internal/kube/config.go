// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kube finds the API server for the programs that are its clients.
package kube

import (
	"flag"
	"fmt"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client/config"

	"github.com/eco2-team/scan-operator/internal/cli"
	"github.com/eco2-team/scan-operator/internal/rewatch"
)

// BindFlags declares --kubeconfig.
func BindFlags(fs *flag.FlagSet) {
	config.RegisterFlags(fs)
	fs.Lookup(config.KubeconfigFlagName).Usage = "Path of a kubeconfig, for a program outside the cluster. " +
		"Empty means $KUBECONFIG, then the cluster that the program's pod is in, then ~/.kube/config."
}

// Config returns the access to the API server that the flags and the environment describe. Watches begin again soon
// after the API server was away.
func Config(log logr.Logger) (*rest.Config, error) {
	found, err := config.GetConfig()
	if err != nil {
		return nil, cli.Misconfigured(fmt.Errorf("find the API server: %w; set --kubeconfig or run in a cluster", err))
	}
	rewatch.Soon(found, clock.RealClock{}, log.WithName("apiserver"))
	return found, nil
}
