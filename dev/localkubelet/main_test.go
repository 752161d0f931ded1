// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localkubelet

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/eco2-team/scan-operator/dev/localkubelet/process"
)

// roleEnv makes the test binary play a container's program.
const roleEnv = "LOCALNODE_TEST_ROLE"

// apiServer is started by the first test that needs one, with Kubernetes' own controllers beside it.
var apiServer = sync.OnceValues(func() (*rest.Config, error) {
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		return nil, errors.New("KUBEBUILDER_ASSETS is not set: run the tests with make test, or build the API server with make k8s and set it to bin/k8s")
	}
	config, err := testEnv.Start()
	if err != nil {
		return nil, err
	}
	return config, startControllers(filepath.Join(assets, "kube-controllers"))
})

var (
	testEnv     = &envtest.Environment{}
	controllers *process.Process
	scratch     string // of the controllers
)

func startControllers(program string) error {
	user, err := testEnv.AddUser(envtest.User{Name: "system:kube-controller-manager"}, nil)
	if err != nil {
		return err
	}
	kubeconfig, err := user.KubeConfig()
	if err != nil {
		return err
	}
	if scratch, err = os.MkdirTemp("", "kube-controllers-"); err != nil {
		return err
	}
	path := filepath.Join(scratch, "kubeconfig")
	if err := os.WriteFile(path, kubeconfig, 0o600); err != nil {
		return err
	}
	controllers, err = process.Start(process.Spec{
		Path: program, Args: []string{"--kubeconfig=" + path}, Dir: scratch, LogFile: filepath.Join(scratch, "log"),
	})
	return err
}

func TestMain(m *testing.M) {
	if role, ok := os.LookupEnv(roleEnv); ok {
		os.Exit(play(role))
	}
	code := m.Run()
	if controllers != nil {
		controllers.StopWithin(clock.RealClock{}, patience, nil)
		if err := os.RemoveAll(scratch); err != nil {
			fmt.Fprintln(os.Stderr, "remove the controllers' directory:", err)
			code = 1
		}
	}
	if testEnv.Config != nil {
		if err := testEnv.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop the API server:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// play is a container's program. It writes a line when it can take signals.
func play(role string) int {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	switch role {
	case "serve":
		return serve(signals)
	case "crash":
		fmt.Println("crashing")
		return 7
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		select {}
	default:
		fmt.Println("ready")
		<-signals
		fmt.Println("terminated")
		return 0
	}
}

// serve answers probes on $LISTEN: each path is as healthy as the file of its
// name in $STATE_DIR says ("ok" or not). /env and /args return what the program
// was given.
func serve(signals chan os.Signal) int {
	l, err := net.Listen("tcp", os.Getenv("LISTEN"))
	if err != nil {
		fmt.Println("listen:", err)
		return 1
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, strings.Join(os.Environ(), "\n"))
	})
	mux.HandleFunc("/args", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, strings.Join(os.Args[1:], "\n"))
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		state, err := os.ReadFile(filepath.Join(os.Getenv("STATE_DIR"), filepath.Base(r.URL.Path)))
		if err != nil || strings.TrimSpace(string(state)) != "ok" {
			http.Error(w, "not ok", http.StatusServiceUnavailable)
		}
	})
	go func() { _ = http.Serve(l, mux) }()
	fmt.Println("ready")
	<-signals
	return 0
}
