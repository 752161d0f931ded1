// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package release has the tests of what a release is made of: the rendered manifests and the notes.
package release

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// run runs a script of hack/ with a kubectl, and returns what it prints.
func run(t *testing.T, kubectl, script string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join("..", "..", "hack", script), args...)
	command.Env = append(os.Environ(), "KUBECTL="+kubectl)
	var out, problems bytes.Buffer
	command.Stdout, command.Stderr = &out, &problems
	err = command.Run()
	return out.String(), problems.String(), err
}

// kubectl is the one that make builds.
func kubectl(t *testing.T) string {
	t.Helper()
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		assets = filepath.Join("..", "..", "bin", "k8s")
	}
	path, err := filepath.Abs(filepath.Join(assets, "kubectl"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make k8s once", err)
	}
	return path
}

// images are all references to images in rendered manifests: of containers, and those that are values of variables.
func images(manifests, repository string) []string {
	found := regexp.MustCompile(`(?:image|value): "?(\S*`+regexp.QuoteMeta(repository)+`:[^"\s]*)`).FindAllStringSubmatch(manifests, -1)
	var all []string
	for _, m := range found {
		all = append(all, m[1])
	}
	slices.Sort(all)
	return all
}

func TestRenderSetsTheImage(t *testing.T) {
	for name, test := range map[string]struct {
		overlay, image string
		kinds          []string
		want           []string
	}{
		// The manager, the api, and the variable from which the workers' image comes.
		"the product": {
			overlay: "config/default", image: "scan-operator=registry.example.com:5000/team/scan-operator:v1.2.3-rc.1",
			kinds: []string{"CustomResourceDefinition", "Deployment", "Namespace", "Role", "ServiceAccount"},
			want: []string{
				"registry.example.com:5000/team/scan-operator:v1.2.3-rc.1",
				"registry.example.com:5000/team/scan-operator:v1.2.3-rc.1",
				"registry.example.com:5000/team/scan-operator:v1.2.3-rc.1",
			},
		},
		"the simulated provider": {
			overlay: "config/simulator", image: "openai-sim=registry.example.com/openai-sim:v1.2.3",
			kinds: []string{"Deployment", "Secret", "TokenBudget", "WorkerPool"},
			want:  []string{"registry.example.com/openai-sim:v1.2.3"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			manifests, problems, err := run(t, kubectl(t), "render.sh", test.overlay, test.image)
			if err != nil {
				t.Fatalf("%v\n%s", err, problems)
			}
			repository, _, _ := strings.Cut(test.image, "=")
			if diff := cmp.Diff(test.want, images(manifests, repository)); diff != "" {
				t.Errorf("images (-want +got):\n%s", diff)
			}
			for _, kind := range test.kinds {
				if !strings.Contains(manifests, "\nkind: "+kind+"\n") {
					t.Errorf("the manifests have no %s", kind)
				}
			}
		})
	}
}

func TestRenderRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"an image that the overlay does not have": {[]string{"config/default", "other=example.com/other:v1"}, "has no image other"},
		"an image without a tag":                  {[]string{"config/default", "scan-operator=example.com:5000/scan-operator"}, "has no tag"},
		"a missing image":                         {[]string{"config/default"}, "usage"},
	} {
		t.Run(name, func(t *testing.T) {
			manifests, problems, err := run(t, "true", "render.sh", test.args...)
			if err == nil || manifests != "" || !strings.Contains(problems, test.want) {
				t.Errorf("printed %q and %q, error %v; want an error that says %q", manifests, problems, err, test.want)
			}
		})
	}
}

func TestReleaseNotesAreASectionOfTheChangelog(t *testing.T) {
	notes, problems, err := run(t, "", "release-notes.sh", "vUnreleased")
	if err != nil {
		t.Fatalf("%v\n%s", err, problems)
	}
	if !strings.Contains(notes, "### Added") || strings.Contains(notes, "## [") || strings.Contains(notes, "]: http") {
		t.Errorf("the notes are not the section alone:\n%s", notes)
	}
	if notes, problems, err := run(t, "", "release-notes.sh", "v99.9.9"); err == nil || notes != "" || !strings.Contains(problems, "no section [99.9.9]") {
		t.Errorf("printed %q and %q, error %v; want an error for a version without a section", notes, problems, err)
	}
}
