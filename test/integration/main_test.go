// Package integration tests the parts together, on a real etcd and kube-apiserver.
package integration

import (
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

func run(m *testing.M) (code int, err error) {
	controlPlane, err = testenv.Start()
	if err != nil {
		return 1, err
	}
	code = m.Run()
	return code, controlPlane.Stop()
}
