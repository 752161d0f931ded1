// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/eco2-team/scan-operator/dev/manifests"
	"github.com/eco2-team/scan-operator/test/testenv"
)

// overlays are the directories under config that have a kustomization.
func overlays(t *testing.T) []string {
	t.Helper()
	root := testenv.Path("config")
	var found []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "kustomization.yaml" {
			return err
		}
		name, err := filepath.Rel(root, filepath.Dir(path))
		found = append(found, filepath.ToSlash(name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// render returns the objects of an overlay, as kubectl renders them. A component is rendered with config/default.
func render(t *testing.T, overlay string) (objects []*unstructured.Unstructured, stream string) {
	t.Helper()
	dir := testenv.Path("config", filepath.FromSlash(overlay))
	kustomization, err := os.ReadFile(filepath.Join(dir, "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(kustomization), "kind: Component") {
		dir = withDefault(t, dir)
	}
	kustomize := newCommand(t.Context(), controlPlane.Kubectl, "kustomize", dir)
	if err := kustomize.run(); err != nil {
		t.Fatal(err)
	}
	objects, err = manifests.Decode(kustomize.stdout.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if len(objects) == 0 {
		t.Fatal("no objects")
	}
	return objects, kustomize.stdout.String()
}

// withDefault is a directory with a kustomization of config/default and a component.
func withDefault(t *testing.T, component string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	relative := func(target string) string {
		path, err := filepath.Rel(dir, filepath.Clean(target))
		if err != nil {
			t.Fatal(err)
		}
		return filepath.ToSlash(path)
	}
	content := "resources: [" + relative(testenv.Path("config", "default")) + "]\ncomponents: [" + relative(component) + "]\n"
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestOverlaysAreAccepted has the API server check every object that can be installed. Fields that a type does not have
// are errors.
func TestOverlaysAreAccepted(t *testing.T) {
	t.Parallel()
	kubeconfig := testenv.Kubeconfig(t, controlPlane.Config)
	found := overlays(t)
	want := []string{
		"api", "crd", "default", "flowcontrol", "grafana", "manager", "prometheus", "rbac", "rbac/tokenreview", "samples", "simulator",
	}
	if missing := slices.DeleteFunc(want, func(name string) bool { return slices.Contains(found, name) }); len(missing) > 0 {
		t.Errorf("no kustomization in config/{%s}", strings.Join(missing, ","))
	}
	for _, overlay := range found {
		t.Run(overlay, func(t *testing.T) {
			t.Parallel()
			objects, stream := render(t, overlay)
			apply := newCommand(t.Context(), controlPlane.Kubectl, "--kubeconfig", kubeconfig, "apply", "--namespace", namespace,
				"--server-side", "--dry-run=server", "--validate=strict", "--filename", "-", "--output", "name")
			apply.Stdin = strings.NewReader(stream)
			if err := apply.run(); err != nil {
				t.Fatal(err)
			}
			if applied := len(strings.Fields(apply.stdout.String())); applied != len(objects) {
				t.Errorf("%d objects were applied, want %d:\n%s", applied, len(objects), apply.stdout.String())
			}
		})
	}
}

// TestDirectoriesAreOverlays: a directory under config that has no kustomization is part of one that has.
func TestDirectoriesAreOverlays(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(testenv.Path("config"))
	if err != nil {
		t.Fatal(err)
	}
	found := overlays(t)
	for _, entry := range entries {
		if entry.IsDir() && !slices.Contains(found, entry.Name()) {
			t.Errorf("config/%s has no kustomization.yaml", entry.Name())
		}
	}
}

// TestDashboardIsFound: Grafana finds the dashboard by its label.
func TestDashboardIsFound(t *testing.T) {
	t.Parallel()
	objects, _ := render(t, "grafana")
	dashboard := &corev1.ConfigMap{}
	convert(t, objects[0], dashboard)
	source, err := os.ReadFile(testenv.Path("config", "grafana", "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	if dashboard.Labels["grafana_dashboard"] != "1" || dashboard.Namespace != namespace {
		t.Errorf("labels %v in namespace %s, want grafana_dashboard: 1 in %s", dashboard.Labels, dashboard.Namespace, namespace)
	}
	if diff := cmp.Diff(string(source), dashboard.Data["dashboard.json"]); diff != "" {
		t.Errorf("dashboard.json (-want +got):\n%s", diff)
	}
}

func convert(t *testing.T, from *unstructured.Unstructured, to any) {
	t.Helper()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(from.Object, to, true); err != nil {
		t.Fatalf("read %s %s: %v", from.GetKind(), from.GetName(), err)
	}
}

// TestContainersStart: every program accepts the arguments and the environment that its Deployment gives it, and has a flag
// for each of the variables that are named after it.
func TestContainersStart(t *testing.T) {
	t.Parallel()
	checked := map[string]bool{}
	for _, overlay := range overlays(t) {
		objects, _ := render(t, overlay)
		for _, object := range objects {
			if object.GetKind() != "Deployment" {
				continue
			}
			deployment := &appsv1.Deployment{}
			convert(t, object, deployment)
			for i := range deployment.Spec.Template.Spec.Containers {
				container := &deployment.Spec.Template.Spec.Containers[i]
				t.Run(overlay+"/"+deployment.Name+"/"+container.Name, func(t *testing.T) { checkContainer(t, container, checked) })
			}
		}
	}
	for _, program := range []string{"manager", "api", "openai-sim"} {
		if !checked[program] {
			t.Errorf("no Deployment under config runs %s", program)
		}
	}
}

var variable = regexp.MustCompile(`Environment: (\w+)\.`)

func checkContainer(t *testing.T, container *corev1.Container, checked map[string]bool) {
	t.Helper()
	if len(container.Command) == 0 {
		t.Fatal("the container has no command, which names the program")
	}
	program := filepath.Base(container.Command[0])
	checked[program] = true
	// The program reads all of its command line before it prints its help.
	help := newCommand(t.Context(), filepath.Join(programs, program), slices.Concat(container.Command[1:], container.Args, []string{"--help"})...)
	help.Env = []string{}
	for _, v := range container.Env {
		help.Env = append(help.Env, v.Name+"="+v.Value)
	}
	if err := help.run(); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, m := range variable.FindAllStringSubmatch(help.stdout.String(), -1) {
		known[m[1]] = true
	}
	if len(known) == 0 {
		t.Fatalf("%s --help names no environment variables", program)
	}
	for _, v := range container.Env {
		if strings.HasPrefix(v.Name, "SCAN_") && !known[v.Name] {
			t.Errorf("%s has no flag for the environment variable %s", program, v.Name)
		}
	}
}
