// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"

	"github.com/eco2-team/scan-operator/test/testenv"
)

// TestStartBeforeTheAPIServer starts every program while the API server refuses connections. None of them ends: they
// are healthy but not ready, and say why, and when the API server is there they work without being started again.
func TestStartBeforeTheAPIServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	programs := map[string]struct {
		program, account string
		args             []string
		address          []string // in a line of the log that says where the probes are
	}{
		"manager": {
			program: "manager", account: testenv.AccountManager,
			args: []string{
				"--metrics-bind-address=0", "--queue-bind-address=", "--health-probe-bind-address=127.0.0.1:0",
				"--default-endpoint=" + w.provider.url,
			},
			address: []string{"starting server", "health probe", "addr"},
		},
		"api": {
			program: "api", account: testenv.AccountAPI, args: []string{"--bind-address=127.0.0.1:0"},
			address: []string{"serving", "address"},
		},
		"vision worker": {
			program: "worker", account: testenv.AccountWorker, args: w.workerArgs(visionPool, podName(visionPool)),
			address: []string{"serving probes", "address"},
		},
		"answer worker": {
			program: "worker", account: testenv.AccountWorker, args: w.workerArgs(answerPool, podName(answerPool)),
			address: []string{"serving probes", "address"},
		},
	}
	late := newLateAPIServer(t)
	started := map[string]*process{}
	probes := map[string]string{}
	for name, p := range programs {
		started[name] = w.startProcess(p.program, late.as(w.namespace, p.account), p.args...)
	}
	for name, p := range programs {
		var line map[string]any
		if err := json.Unmarshal([]byte(started[name].awaitLine(p.address...)), &line); err != nil {
			t.Fatalf("read a line of %s: %v", name, err)
		}
		address, _ := line[p.address[len(p.address)-1]].(string)
		probes[name] = "http://" + address
		started[name].awaitLine("cannot connect to the API server")
		if got := get(t, probes[name]+"/healthz"); got != http.StatusOK {
			t.Errorf("%s: health without an API server = %d, want 200", name, got)
		}
		if got := get(t, probes[name]+"/readyz"); got == http.StatusOK {
			t.Errorf("%s: ready without an API server", name)
		}
	}
	w.submit("scan", nil) // by a client that reaches the API server
	late.begin(t)
	w.awaitSucceeded("scan")
	for name := range programs {
		err := wait.PollUntilContextTimeout(t.Context(), pollInterval, waitTimeout, true, func(context.Context) (bool, error) {
			return get(t, probes[name]+"/readyz") == http.StatusOK, nil
		})
		if err != nil {
			t.Errorf("%s: not ready although the API server is there: %v", name, err)
		}
	}
}

// get returns the status of an answer.
func get(t *testing.T, address string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatalf("the program does not answer: %v", err)
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
	return response.StatusCode
}

// lateAPIServer is an address of the API server that refuses connections until it begins.
type lateAPIServer struct {
	address string
	socket  *os.File // bound, so that no other process gets the address, but not listening
}

func newLateAPIServer(t *testing.T) *lateAPIServer {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("make a socket: %v", err)
	}
	socket := os.NewFile(uintptr(fd), "API server")
	t.Cleanup(func() { _ = socket.Close() }) // begin may have closed it
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatalf("take an address: %v", err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatalf("read the address: %v", err)
	}
	bound, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		t.Fatalf("the address is a %T", name)
	}
	return &lateAPIServer{address: net.JoinHostPort("127.0.0.1", strconv.Itoa(bound.Port)), socket: socket}
}

// as returns the credentials of an account for this address.
func (l *lateAPIServer) as(namespace, account string) *rest.Config {
	config := controlPlane.As(namespace, account)
	config.Host = "https://" + l.address
	return config
}

// begin takes connections from now on until the test ends.
func (l *lateAPIServer) begin(t *testing.T) {
	t.Helper()
	target, _, err := rest.DefaultServerUrlFor(controlPlane.Config)
	if err != nil {
		t.Fatalf("find the API server's address: %v", err)
	}
	if err := syscall.Listen(int(l.socket.Fd()), syscall.SOMAXCONN); err != nil {
		t.Fatalf("listen: %v", err)
	}
	listener, err := net.FileListener(l.socket)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	if err := l.socket.Close(); err != nil { // the listener has its own
		t.Fatalf("listen: %v", err)
	}
	ctx := t.Context()
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // the test ends
			}
			connections.Go(func() { relay(ctx, client, target.Host) })
		}
	})
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		connections.Wait()
	})
}

// relay passes on what a client and a server say to each other until one of them, or ctx, ends it.
func relay(ctx context.Context, client net.Conn, address string) {
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		_ = client.Close() // the client sees that
		return
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	var copies sync.WaitGroup
	for to, from := range map[net.Conn]net.Conn{client: server, server: client} {
		copies.Go(func() {
			defer end()
			_, _ = io.Copy(to, from) // its end is that of the connection
		})
	}
	<-ctx.Done()
	_, _ = client.Close(), server.Close() // both copies end
	copies.Wait()
}
