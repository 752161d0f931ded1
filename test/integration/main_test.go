// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package integration tests the parts together, on a real etcd and kube-apiserver.
package integration

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/eco2-team/scan-operator/test/testenv"
)

// controlPlane is what all tests share. Each of them works in a namespace of its own.
var controlPlane *testenv.ControlPlane

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard()) // parts that a test looks into are given a logger of their own
	klog.SetLogger(logr.Discard())
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration tests:", err)
		code = 1
	}
	os.Exit(code)
}

// parallelTests is how many tests run at the same time, unless -parallel says otherwise. They wait far more than they
// compute, so that it is not a matter of the number of processors.
const parallelTests = "6"

func run(m *testing.M) (code int, err error) {
	flag.Parse()
	if err := setDefault("test.parallel", parallelTests); err != nil {
		return 1, err
	}
	if programsDir, err = os.MkdirTemp("", "scan-operator-test-"); err != nil {
		return 1, fmt.Errorf("make a directory for the programs: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(programsDir)) }()
	if controlPlane, err = testenv.Start(); err != nil {
		return 1, err
	}
	code = m.Run()
	return code, controlPlane.Stop()
}

// setDefault sets a flag that the command line does not set.
func setDefault(name, value string) error {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	if given {
		return nil
	}
	if err := flag.Set(name, value); err != nil {
		return fmt.Errorf("set -%s: %w", name, err)
	}
	return nil
}
