package integration

import (
	"io"
	"net"
	"net/http"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/eco2-team/scan-operator/test/testenv"
)

// TestManagerStartsBeforeTheAPIServer starts a manager while nobody listens where the API server should be: it stays,
// is healthy but not ready, and works as soon as the API server is there.
func TestManagerStartsBeforeTheAPIServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	apiServer, health := freeAddress(t), freeAddress(t)
	manager := w.startProcess("manager", &rest.Config{Host: "http://" + apiServer},
		"--metrics-bind-address=127.0.0.1:0", "--metrics-secure=false", "--health-probe-bind-address="+health,
		"--default-endpoint="+w.provider.url)
	manager.awaitLine(`"name":"health probe"`)
	for path, want := range map[string]int{"/healthz": http.StatusOK, "/readyz": http.StatusInternalServerError} {
		if got := statusOf(t, "http://"+health+path); got != want {
			t.Errorf("GET %s without an API server = %d, want %d", path, got, want)
		}
	}

	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", apiServer)
	if err != nil {
		t.Fatalf("listen where the API server should be: %v", err)
	}
	newAPIProxyOn(t, listener, controlPlane.As(w.namespace, testenv.AccountManager))
	for pool, stages := range stagesOf {
		w.startWorker(pool, stages...)
	}
	w.submit("scan", nil)
	w.awaitSucceeded("scan")
	if got := statusOf(t, "http://"+health+"/readyz"); got != http.StatusOK {
		t.Errorf("GET /readyz with an API server = %d, want 200", got)
	}
}

// freeAddress is an address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("find a free address: %v", err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

func statusOf(t *testing.T, url string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	return response.StatusCode
}
