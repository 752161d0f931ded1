// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localstack

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"
	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/eco2-team/scan-operator/dev/localkubelet"
)

// crashEnv names the program that ends at once when it is started.
const crashEnv = "SCAN_TEST_CRASH"

func TestMain(m *testing.M) {
	switch name := filepath.Base(os.Args[0]); name {
	case "manager", "api", "openai-sim":
		os.Exit(play(name))
	default:
		log.SetLogger(logr.Discard())
		os.Exit(m.Run())
	}
}

// play stands in for one of the product's programs: it answers readiness checks,
// and /whoami returns its user at the API server.
func play(name string) int {
	if os.Getenv(crashEnv) == name {
		fmt.Println("cannot work like this")
		return 5
	}
	flags := map[string]string{}
	for _, arg := range os.Args[1:] {
		key, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		flags[key] = value
	}
	address := flags["bind-address"]
	if name == "manager" {
		address = flags["health-probe-bind-address"]
	}
	http.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/args", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Join(os.Args[1:], "\n")) })
	http.HandleFunc("/whoami", func(w http.ResponseWriter, r *http.Request) {
		user, err := whoami(r.Context(), flags["kubeconfig"])
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, user)
	})
	fmt.Println(http.ListenAndServe(address, nil))
	return 1
}

func whoami(ctx context.Context, kubeconfig string) (string, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return "", err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return "", err
	}
	self, err := client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return self.Status.UserInfo.Username, nil
}

// testOptions are for a stack of stand-ins around a real API server.
func testOptions(t *testing.T) Options {
	t.Helper()
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		t.Fatal("KUBEBUILDER_ASSETS is not set: run the tests with make test, or build the API server with make k8s and set it to bin/k8s")
	}
	bin := t.TempDir()
	for _, name := range []string{"manager", "api", "worker", "openai-sim"} {
		if err := os.Symlink(os.Args[0], filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	return Options{
		Dir: filepath.Join(t.TempDir(), "state"), K8sDir: assets, BinDir: bin,
		ConfigDir: filepath.Join("..", "..", "config"), ManifestsDir: filepath.Join("testdata", "start"),
		Namespace:      "elsewhere",
		RestartBackoff: localkubelet.RestartBackoff{Initial: time.Millisecond, Max: time.Second},
		Log:            testr.New(t),
	}
}

func start(t *testing.T, opts Options) *Stack {
	t.Helper()
	s, err := Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Hurry()
		s.Stop()
	})
	return s
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// pids are the process ids of the stack's components.
func pids(t *testing.T, s *Stack) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, c := range s.components {
		p, err := c.current()
		if err != nil {
			t.Fatal(err)
		}
		out[c.name] = p.PID()
	}
	return out
}

func TestStack(t *testing.T) {
	opts := testOptions(t)
	opts.TokensPerMinute = 1234
	s := start(t, opts)

	t.Run("parts run as their service accounts", func(t *testing.T) {
		health := ""
		for _, c := range s.components {
			for _, arg := range c.spec.Args {
				if v, ok := strings.CutPrefix(arg, "--health-probe-bind-address="); ok {
					health = "http://" + v
				}
			}
		}
		if got, want := fetch(t, health+"/whoami"), "system:serviceaccount:elsewhere:scan-manager"; got != want {
			t.Errorf("manager is %q, want %q", got, want)
		}
		if got, want := fetch(t, s.APIURL()+"/whoami"), "system:serviceaccount:elsewhere:scan-api"; got != want {
			t.Errorf("api is %q, want %q", got, want)
		}
	})

	t.Run("the manager's rights are those of its role", func(t *testing.T) {
		config, err := clientcmd.BuildConfigFromFlags("", s.componentKubeconfig("api"))
		if err != nil {
			t.Fatal(err)
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.CoreV1().Secrets("elsewhere").List(t.Context(), metav1.ListOptions{}); err == nil {
			t.Error("api may read Secrets; its role does not say so")
		}
		scans := schema.GroupVersionResource{Group: "scan.growbin.app", Version: "v1alpha1", Resource: "scanrequests"}
		if _, err := dynamic.NewForConfigOrDie(config).Resource(scans).Namespace("elsewhere").List(t.Context(), metav1.ListOptions{}); err != nil {
			t.Errorf("api may not read scans: %v", err)
		}
	})

	t.Run("objects to start with", func(t *testing.T) {
		client, err := kubernetes.NewForConfig(s.RESTConfig())
		if err != nil {
			t.Fatal(err)
		}
		secret, err := client.CoreV1().Secrets("elsewhere").Get(t.Context(), "some-key", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := string(secret.Data["token"]); got != simulatedKey {
			t.Errorf("provider key = %q, want the simulator's", got)
		}
		for resource, want := range map[string]int{"tokenbudgets": 1, "scanrequests": 0} {
			gvr := schema.GroupVersionResource{Group: "scan.growbin.app", Version: "v1alpha1", Resource: resource}
			list, err := dynamic.NewForConfigOrDie(s.RESTConfig()).Resource(gvr).Namespace("elsewhere").List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if len(list.Items) != want {
				t.Errorf("%d %s, want %d", len(list.Items), resource, want)
			}
		}
	})

	t.Run("the simulator has its limits", func(t *testing.T) {
		if args := fetch(t, s.SimURL()+"/args"); !strings.Contains(args, "--tokens-per-minute=1234\n") && !strings.HasSuffix(args, "--tokens-per-minute=1234") {
			t.Errorf("arguments = %q, want the token limit among them", args)
		}
	})

	t.Run("secrets are for the owner alone", func(t *testing.T) {
		for _, path := range []string{s.opts.Dir, s.Kubeconfig(), filepath.Join(s.pkiDir(), "admin.key"), s.componentKubeconfig("manager")} {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has mode %o, want nothing for others", path, info.Mode().Perm())
			}
		}
	})

	t.Run("a second stack does not take the first one's state", func(t *testing.T) {
		if _, err := Start(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "in use by another local stack") {
			t.Errorf("error = %v, want one that says that the directory is in use", err)
		}
	})

	t.Run("killed and restarted parts come back", func(t *testing.T) {
		before := pids(t, s)
		if err := s.Kill("manager"); err != nil {
			t.Fatal(err)
		}
		if err := s.AwaitReady(t.Context(), "manager"); err != nil {
			t.Fatal(err)
		}
		if err := s.Kill("kube-controllers"); err != nil {
			t.Fatal(err)
		}
		if err := s.AwaitReady(t.Context(), "kube-controllers"); err != nil {
			t.Fatal(err)
		}
		if err := s.Restart(t.Context(), "kube-apiserver"); err != nil {
			t.Fatal(err)
		}
		after := pids(t, s)
		for name := range before {
			changed := before[name] != after[name]
			if want := name == "manager" || name == "kube-apiserver" || name == "kube-controllers"; changed != want {
				t.Errorf("%s: new process %t, want %t", name, changed, want)
			}
		}
		if err := s.Kill("nonsense"); err == nil || !strings.Contains(err.Error(), "openai-sim") {
			t.Errorf("error = %v, want one that names the components", err)
		}
	})

	t.Run("a halted part stays down until it is resumed", func(t *testing.T) {
		if err := s.Halt("openai-sim"); err != nil {
			t.Fatal(err)
		}
		if err := s.Signal("openai-sim", syscall.SIGCONT); err == nil {
			t.Error("a halted simulator takes a signal")
		}
		if err := s.Resume(t.Context(), "openai-sim"); err != nil {
			t.Fatal(err)
		}
		fetch(t, s.SimURL()+"/sim/stats")
	})

	t.Run("a crashed part stays down until it is resumed", func(t *testing.T) {
		before := pids(t, s)["openai-sim"]
		if err := s.Crash("openai-sim"); err != nil {
			t.Fatal(err)
		}
		if syscall.Kill(before, 0) == nil {
			t.Errorf("process %d still runs", before)
		}
		if err := s.Signal("openai-sim", syscall.SIGCONT); err == nil {
			t.Error("a crashed simulator takes a signal")
		}
		if err := s.Resume(t.Context(), "openai-sim"); err != nil {
			t.Fatal(err)
		}
		fetch(t, s.SimURL()+"/sim/stats")
	})

	t.Run("stop leaves no process behind", func(t *testing.T) {
		running := pids(t, s)
		s.Stop()
		for name, pid := range running {
			if syscall.Kill(pid, 0) == nil {
				t.Errorf("%s still runs as process %d", name, pid)
			}
		}
	})

	t.Run("kept state is there again", func(t *testing.T) {
		opts.Keep = true
		s := start(t, opts)
		gvr := schema.GroupVersionResource{Group: "scan.growbin.app", Version: "v1alpha1", Resource: "tokenbudgets"}
		budget, err := dynamic.NewForConfigOrDie(s.RESTConfig()).Resource(gvr).Namespace("elsewhere").Get(t.Context(), "only", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if budget.GetCreationTimestamp().After(s.progress.begun) {
			t.Error("the TokenBudget is a new one")
		}
	})
}

func TestCrashOfTheControlPlaneIsReported(t *testing.T) {
	s := start(t, testOptions(t))
	if err := s.Signal("etcd", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err := <-s.Failed()
	if err == nil || !strings.Contains(err.Error(), "etcd ended: killed by signal 9") {
		t.Errorf("error = %v, want one that says how etcd ended", err)
	}
}

func TestFailedStartSaysWhyAndLeavesNothing(t *testing.T) {
	t.Setenv(crashEnv, "api")
	opts := testOptions(t)
	var out lockedBuffer
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// The api crashes at each start; the user cancels.
	opts.Progress = writerFunc(func(p []byte) (int, error) {
		if strings.Contains(string(p), "api ended: exit code 5") {
			cancel()
		}
		return out.Write(p)
	})
	_, err := Start(ctx, opts)
	if err == nil || !strings.Contains(err.Error(), "cannot work like this") {
		t.Errorf("error = %v, want the end of the api's log in it", err)
	}
	for _, want := range []string{"stopping manager", "stopping kube-apiserver", "stopping etcd"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("progress lacks %q:\n%s", want, out.String())
		}
	}
}

func TestMissingPrograms(t *testing.T) {
	empty := t.TempDir()
	_, err := Start(t.Context(), Options{
		Dir: filepath.Join(empty, "state"), K8sDir: empty, BinDir: empty, ConfigDir: empty, ManifestsDir: filepath.Join(empty, "none"),
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"etcd is missing: build it with make k8s", "kube-controllers is missing: build it with make k8s", "worker is missing: build it with make build", "crd/bases is missing", "none is missing"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q lacks %q", err, want)
		}
	}
}

func TestReadManifests(t *testing.T) {
	for name, tc := range map[string]struct {
		in        string
		wantKinds []string
		wantErr   string
	}{
		"two and comments": {
			in:        "# first\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: a}\n---\n# nothing\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: b-}\n",
			wantKinds: []string{"Secret", "ConfigMap"},
		},
		"no name": {in: "apiVersion: v1\nkind: Secret\n", wantErr: "document 1 has no kind, apiVersion or name"},
		"broken":  {in: "a: [", wantErr: "yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "objects.yaml"), []byte(tc.in), 0o600); err != nil {
				t.Fatal(err)
			}
			objects, err := readManifests(dir)
			if (err != nil) != (tc.wantErr != "") || err != nil && !strings.Contains(err.Error(), tc.wantErr) {
				t.Fatalf("error = %v, want %q", err, tc.wantErr)
			}
			var kinds []string
			for _, o := range objects {
				kinds = append(kinds, o.GetKind())
			}
			if diff := cmp.Diff(tc.wantKinds, kinds); diff != "" {
				t.Errorf("kinds (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEnvironmentKeepsTheProvidersKeyOut(t *testing.T) {
	t.Setenv("OPENAI_API_KEY", "sk-secret")
	t.Setenv("SCAN_MANAGER_X", "1")
	env := strings.Join(environment(), "\n")
	if strings.Contains(env, "sk-secret") {
		t.Error("components get the provider's key in their environment")
	}
	if !strings.Contains(env, "SCAN_MANAGER_X=1") || !strings.Contains(env, "PATH=") {
		t.Errorf("environment = %q, want PATH and the product's own variables", env)
	}
}

// lockedBuffer takes writes from several goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
