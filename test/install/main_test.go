// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package install tests what users install: every directory under config is rendered as kubectl renders it, and applied
// to a real API server in a dry run.
package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/eco2-team/scan-operator/test/testenv"
)

// namespace is where config/default installs.
const namespace = "scans"

var (
	controlPlane *testenv.ControlPlane
	// programs is a directory with the programs that containers run.
	programs string
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard())
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "install tests:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx := context.Background()
	if programs, err = os.MkdirTemp("", "scan-operator-install-"); err != nil {
		return 1, fmt.Errorf("make a directory for the programs: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(programs)) }()
	if err := goCommand(ctx, testenv.Path(), "build", "-tags=grpcnotrace", "-o", programs+string(filepath.Separator),
		"./cmd/manager", "./cmd/api", "./cmd/worker", "./dev/cmd/openai-sim").run(); err != nil {
		return 1, err
	}
	if controlPlane, err = testenv.Start(); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, controlPlane.Stop()) }()
	if err := prepare(ctx); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// prepare adds what objects under config need to be there: their namespace, as a dry run of it creates none, and the types
// of the Prometheus Operator.
func prepare(ctx context.Context) error {
	clients, err := kubernetes.NewForConfig(controlPlane.Config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := clients.CoreV1().Namespaces().Create(ctx, n, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create namespace %s: %w", namespace, err)
	}
	crds, err := monitoringTypes(ctx)
	if err != nil {
		return err
	}
	if _, err := envtest.InstallCRDs(controlPlane.Config, envtest.CRDInstallOptions{Paths: crds}); err != nil {
		return fmt.Errorf("install the types of the Prometheus Operator: %w", err)
	}
	return nil
}

// monitoringTypes are the files with the definitions of the types that config/prometheus uses, from the Prometheus
// Operator's own module.
func monitoringTypes(ctx context.Context) ([]string, error) {
	module := testenv.Path("hack", "tools", "monitoring")
	const path = "github.com/prometheus-operator/prometheus-operator"
	if err := goCommand(ctx, module, "mod", "download", path).run(); err != nil {
		return nil, err
	}
	list := goCommand(ctx, module, "list", "-m", "-f", "{{.Dir}}", path)
	if err := list.run(); err != nil {
		return nil, err
	}
	var files []string
	for _, kind := range []string{"podmonitors", "prometheusrules", "servicemonitors"} {
		files = append(files, filepath.Join(strings.TrimSpace(list.stdout.String()), "example", "prometheus-operator-crd",
			"monitoring.coreos.com_"+kind+".yaml"))
	}
	return files, nil
}

// command is a program to run to its end.
type command struct {
	*exec.Cmd
	stdout, stderr bytes.Buffer
}

func newCommand(ctx context.Context, program string, args ...string) *command {
	c := &command{Cmd: exec.CommandContext(ctx, program, args...)}
	c.Stdout, c.Stderr = &c.stdout, &c.stderr
	return c
}

func goCommand(ctx context.Context, dir string, args ...string) *command {
	c := newCommand(ctx, "go", args...)
	c.Dir = dir
	return c
}

func (c *command) run() error {
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(c.Args, " "), err, c.stderr.String())
	}
	return nil
}
