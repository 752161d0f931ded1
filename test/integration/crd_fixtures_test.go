// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"text/template"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/dev/manifests"
)

// A fixture is a YAML file with the versions of one object, in order: the first is created, the others are updates, of
// the status if they have one and else of the specification. It is a text/template, so that long values are short to
// write. In testdata/crd/valid all versions are accepted; in testdata/crd/invalid the last one is refused, with the
// message that the file's first line, "# want: …", gives.
type fixture struct {
	name     string
	want     string // a part of the API server's message; empty for valid fixtures
	versions []*unstructured.Unstructured
}

func loadFixtures(t *testing.T, kind string) []fixture {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "crd", kind, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("there are no %s fixtures", kind)
	}
	fixtures := make([]fixture, 0, len(files))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f, err := readFixture(file, string(text))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if wanted := kind == "invalid"; wanted != (f.want != "") {
			t.Errorf("%s: a fixture begins with \"# want: \" and a part of the message if and only if it is invalid", file)
		}
		fixtures = append(fixtures, f)
	}
	return fixtures
}

func readFixture(file, text string) (fixture, error) {
	f := fixture{name: strings.TrimSuffix(filepath.Base(file), ".yaml")}
	first, _, _ := strings.Cut(text, "\n")
	f.want, _ = strings.CutPrefix(first, "# want: ")
	if f.want == first {
		f.want = ""
	}
	parsed, err := template.New(file).Funcs(template.FuncMap{"repeat": strings.Repeat}).Parse(text)
	if err != nil {
		return f, err
	}
	var yaml bytes.Buffer
	if err := parsed.Execute(&yaml, nil); err != nil {
		return f, err
	}
	if f.versions, err = manifests.Decode(yaml.Bytes()); err == nil && len(f.versions) == 0 {
		err = errors.New("there is no object in it")
	}
	return f, err
}

// apply brings the object to its versions one after the other and returns how many were accepted, and why the next
// one was not.
func (f *fixture) apply(t *testing.T, c client.Client, namespace string) (accepted int, err error) {
	t.Helper()
	var live *unstructured.Unstructured
	for _, version := range f.versions {
		if live == nil {
			live = version.DeepCopy()
			live.SetNamespace(namespace)
			live.SetName(f.name)
			err = c.Create(t.Context(), live)
		} else if status, ok := version.Object["status"]; ok {
			live.Object["status"] = status
			err = c.Status().Update(t.Context(), live)
		} else {
			live.Object["spec"] = version.Object["spec"]
			err = c.Update(t.Context(), live)
		}
		if err != nil {
			return accepted, err
		}
		accepted++
	}
	return accepted, nil
}

func adminClient(t *testing.T) client.WithWatch {
	t.Helper()
	c, err := client.NewWithWatch(controlPlane.Config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatalf("make a client: %v", err)
	}
	return c
}

func TestValidObjectsAreAccepted(t *testing.T) {
	t.Parallel()
	c, namespace := adminClient(t), controlPlane.NewNamespace(t)
	for _, f := range loadFixtures(t, "valid") {
		t.Run(f.name, func(t *testing.T) {
			if accepted, err := f.apply(t, c, namespace); err != nil {
				t.Errorf("version %d was refused: %v", accepted+1, err)
			}
		})
	}
}

func TestInvalidObjectsAreRefused(t *testing.T) {
	t.Parallel()
	c, namespace := adminClient(t), controlPlane.NewNamespace(t)
	hit := map[string]bool{}
	for _, f := range loadFixtures(t, "invalid") {
		t.Run(f.name, func(t *testing.T) {
			accepted, err := f.apply(t, c, namespace)
			if accepted != len(f.versions)-1 {
				t.Fatalf("%d of %d versions were accepted, want all but the last; error: %v", accepted, len(f.versions), err)
			}
			if !apierrors.IsInvalid(err) {
				t.Fatalf("error %v, want that the object is invalid", err)
			}
			if !strings.Contains(err.Error(), f.want) {
				t.Errorf("message: %s\nwant a part: %s", err, f.want)
			}
			for _, rule := range rulesOf(t, f.versions[0].GetKind(), err) {
				hit[rule] = true
			}
		})
	}
	for _, rule := range declaredRules(t) {
		if !hit[rule] {
			t.Errorf("no invalid fixture violates this rule: %s", rule)
		}
	}
}

// ruleMessages derive the kind of a broken rule from the API server's message, in the words of declaredRules.
var ruleMessages = []struct {
	pattern *regexp.Regexp
	rule    string // $1 is what the pattern's group has found
}{
	{regexp.MustCompile(`^Too long: may not be more than (\d+) bytes$`), "maxLength $1"},
	{regexp.MustCompile(`^Too many: \d+: must have at most (\d+) items$`), "maxItems $1"},
	{regexp.MustCompile(`^Required value`), "required"},
	{regexp.MustCompile(`^Unsupported value: `), "enum"},
	{regexp.MustCompile(`^Duplicate value: `), "unique"},
	{regexp.MustCompile(` in body should be at least (\d+) chars long$`), "minLength $1"},
	{regexp.MustCompile(` in body should have at least (\d+) items$`), "minItems $1"},
	{regexp.MustCompile(` in body should be greater than or equal to (-?\d+)$`), "minimum $1"},
	{regexp.MustCompile(` in body should be less than or equal to (-?\d+)$`), "maximum $1"},
	{regexp.MustCompile(` in body should match '(.*)'$`), "pattern $1"},
	{regexp.MustCompile(`^Invalid value: "[^"]*": (.*)$`), "$1"},
	{regexp.MustCompile(`^Invalid value: (.*)$`), "$1"},
}

var indexes = regexp.MustCompile(`\[[^]]*\]`)

// rulesOf names the rules that an object broke.
func rulesOf(t *testing.T, kind string, err error) []string {
	t.Helper()
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		t.Fatalf("error %v has no details", err)
	}
	var rules []string
	for _, cause := range status.Status().Details.Causes {
		rules = append(rules, ruleOf(t, kind, cause))
	}
	return rules
}

func ruleOf(t *testing.T, kind string, cause metav1.StatusCause) string {
	t.Helper()
	for _, m := range ruleMessages {
		if groups := m.pattern.FindStringSubmatchIndex(cause.Message); groups != nil {
			return kind + " " + indexes.ReplaceAllString(cause.Field, "[]") + ": " +
				string(m.pattern.ExpandString(nil, m.rule, cause.Message, groups))
		}
	}
	t.Fatalf("unknown message of the API server: %s: %s", cause.Field, cause.Message)
	return ""
}
