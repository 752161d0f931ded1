// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package e2e tests the product's own programs, started as a user starts them. `make test` builds them into bin/.
package e2e

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/eco2-team/scan-operator/test/testenv"
)

func TestMain(m *testing.M) {
	// Clients that watch an API server which is being stopped log many lines that no test needs.
	klog.SetLogger(logr.Discard())
	ctrl.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// programs is where the control plane's and the product's programs are: in bin/, or where KUBEBUILDER_ASSETS and
// PRODUCT_BIN say.
func programs(t *testing.T) (k8sDir, binDir string) {
	t.Helper()
	k8sDir = os.Getenv("KUBEBUILDER_ASSETS")
	if k8sDir == "" {
		k8sDir = testenv.Path("bin", "k8s")
	}
	binDir = os.Getenv("PRODUCT_BIN")
	if binDir == "" {
		binDir = testenv.Path("bin")
	}
	for _, path := range []string{filepath.Join(k8sDir, "kube-apiserver"), filepath.Join(binDir, "manager")} {
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("%v: run make test, or make k8s build once", err)
		}
	}
	return k8sDir, binDir
}

// within bounds a part of a test, so that the failure of a part that hangs is specific.
func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}
