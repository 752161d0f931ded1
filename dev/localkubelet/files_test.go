// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localkubelet

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// readDir is what a program sees in a volume: paths and contents, without the
// names that begin with two dots.
func readDir(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "..") {
			continue
		}
		top, err := filepath.EvalSymlinks(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			out[entry.Name()+strings.TrimPrefix(path, top)] = string(data)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestWriteAtomically(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "volume")
	for i, step := range []struct {
		files       map[string]file
		want        map[string]string
		wantChanged bool
	}{
		{files: map[string]file{"a": {[]byte("1"), 0o600}, "sub/b": {[]byte("2"), 0o644}}, want: map[string]string{"a": "1", "sub/b": "2"}, wantChanged: true},
		{files: map[string]file{"a": {[]byte("1"), 0o600}, "sub/b": {[]byte("2"), 0o644}}, want: map[string]string{"a": "1", "sub/b": "2"}},
		{files: map[string]file{"a": {[]byte("1"), 0o666}, "sub/b": {[]byte("2"), 0o644}}, want: map[string]string{"a": "1", "sub/b": "2"}, wantChanged: true},
		{files: map[string]file{"a": {[]byte("3"), 0o666}}, want: map[string]string{"a": "3"}, wantChanged: true},
		{files: map[string]file{}, want: map[string]string{}, wantChanged: true},
		{files: map[string]file{}, want: map[string]string{}},
	} {
		changed, err := writeAtomically(dir, step.files)
		if err != nil {
			t.Fatal(err)
		}
		if changed != step.wantChanged {
			t.Errorf("step %d: changed = %t, want %t", i, changed, step.wantChanged)
		}
		if diff := cmp.Diff(step.want, readDir(t, dir)); diff != "" {
			t.Errorf("step %d: files (-want +got):\n%s", i, diff)
		}
		for path, f := range step.files {
			info, err := os.Stat(filepath.Join(dir, path))
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != f.mode {
				t.Errorf("step %d: mode of %s = %o, want %o", i, path, info.Mode().Perm(), f.mode)
			}
		}
	}
	// One data directory and its link are left, whatever happened before.
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 {
		t.Errorf("left in the volume: %v, want the data directory and ..data", entries)
	}
}

// TestReadersSeeAllOrNothing keeps an open directory's worth of old files whole
// while they are replaced: who resolved ..data before reads old files only.
func TestReadersSeeAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	write := func(content string) {
		if _, err := writeAtomically(dir, map[string]file{"a": {[]byte(content), 0o600}, "b": {[]byte(content), 0o600}}); err != nil {
			t.Fatal(err)
		}
	}
	write("0")
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			data, err := os.Readlink(filepath.Join(dir, dataLink))
			if err != nil {
				t.Errorf("..data is missing for a moment: %v", err)
				return
			}
			a, errA := os.ReadFile(filepath.Join(dir, data, "a"))
			b, errB := os.ReadFile(filepath.Join(dir, data, "b"))
			if errA == nil && errB == nil && string(a) != string(b) {
				t.Errorf("mixed content: a = %s, b = %s", a, b)
				return
			}
		}
	}()
	for i := range 200 {
		write(strings.Repeat("x", i+1))
	}
	close(stop)
	<-done
}

func TestWriteAtomicallyStaysInTheVolume(t *testing.T) {
	for _, path := range []string{"../x", "/etc/x", "..data", "a/../../x", ""} {
		if _, err := writeAtomically(t.TempDir(), map[string]file{path: {mode: 0o600}}); err == nil {
			t.Errorf("path %q is taken", path)
		}
	}
}

// fakeSources hold one Secret and one ConfigMap.
type fakeSources struct{}

func (fakeSources) secret(name string) *corev1.Secret {
	if name != "s" {
		return nil
	}
	return &corev1.Secret{Data: map[string][]byte{"key": []byte("secret"), "other": []byte("2")}}
}

func (fakeSources) configMap(name string) *corev1.ConfigMap {
	if name != "m" {
		return nil
	}
	return &corev1.ConfigMap{Data: map[string]string{"key": "config"}, BinaryData: map[string][]byte{"bin": {0, 1}}}
}

func testPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "pod", Namespace: "ns", UID: "uid",
			Labels: map[string]string{"b": "2", "a": "1"}, Annotations: map[string]string{"x/y": "z"},
		},
		Spec: corev1.PodSpec{NodeName: "local", ServiceAccountName: "sa", Containers: []corev1.Container{{
			Name:      "c",
			Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}},
		}}},
		Status: corev1.PodStatus{PodIP: "127.1.0.2", HostIP: "127.0.0.1"},
	}
}

func TestEnvironment(t *testing.T) {
	fieldRef := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	secretRef := func(name, key string, optional *bool) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key, Optional: optional,
		}}
	}
	for name, tc := range map[string]struct {
		env     []corev1.EnvVar
		envFrom []corev1.EnvFromSource
		want    map[string]string
		wantErr string
	}{
		"values refer to earlier ones": {
			env:  []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "$(A)$(C)"}, {Name: "C", Value: "3"}},
			want: map[string]string{"A": "1", "B": "1$(C)", "C": "3"},
		},
		"fields": {
			env: []corev1.EnvVar{
				{Name: "NAME", ValueFrom: fieldRef("metadata.name")},
				{Name: "NS", ValueFrom: fieldRef("metadata.namespace")},
				{Name: "UID", ValueFrom: fieldRef("metadata.uid")},
				{Name: "IP", ValueFrom: fieldRef("status.podIP")},
				{Name: "HOST", ValueFrom: fieldRef("status.hostIP")},
				{Name: "SA", ValueFrom: fieldRef("spec.serviceAccountName")},
				{Name: "NODE", ValueFrom: fieldRef("spec.nodeName")},
				{Name: "LABEL", ValueFrom: fieldRef("metadata.labels['a']")},
				{Name: "NOTE", ValueFrom: fieldRef("metadata.annotations['x/y']")},
				{Name: "LABELS", ValueFrom: fieldRef("metadata.labels")},
			},
			want: map[string]string{
				"NAME": "pod", "NS": "ns", "UID": "uid", "IP": "127.1.0.2", "HOST": "127.0.0.1", "SA": "sa",
				"NODE": "local", "LABEL": "1", "NOTE": "z", "LABELS": "a=\"1\"\nb=\"2\"",
			},
		},
		"unknown field": {
			env: []corev1.EnvVar{{Name: "A", ValueFrom: fieldRef("spec.nonsense")}}, wantErr: `environment variable A: the local node does not support the field path "spec.nonsense"`,
		},
		"resource in units of its divisor": {
			env: []corev1.EnvVar{{Name: "MEM", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{
				Resource: "limits.memory", Divisor: resource.MustParse("1Mi"),
			}}}},
			want: map[string]string{"MEM": "64"},
		},
		"request that is not set": {
			env: []corev1.EnvVar{{Name: "CPU", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{
				Resource: "requests.cpu",
			}}}},
			want: map[string]string{"CPU": "0"},
		},
		"secret key":          {env: []corev1.EnvVar{{Name: "K", ValueFrom: secretRef("s", "key", nil)}}, want: map[string]string{"K": "secret"}},
		"missing secret":      {env: []corev1.EnvVar{{Name: "K", ValueFrom: secretRef("none", "key", nil)}}, wantErr: `Secret "none" has no key "key"`},
		"missing key":         {env: []corev1.EnvVar{{Name: "K", ValueFrom: secretRef("s", "none", nil)}}, wantErr: `Secret "s" has no key "none"`},
		"optional and absent": {env: []corev1.EnvVar{{Name: "K", ValueFrom: secretRef("s", "none", new(true))}}, want: map[string]string{}},
		"config map key": {
			env: []corev1.EnvVar{{Name: "K", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "m"}, Key: "key",
			}}}},
			want: map[string]string{"K": "config"},
		},
		"whole objects with a prefix": {
			envFrom: []corev1.EnvFromSource{
				{Prefix: "S_", SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}}},
				{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "m"}}},
				{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}, Optional: new(true)}},
			},
			want: map[string]string{"S_key": "secret", "S_other": "2", "key": "config"},
		},
		"missing whole object": {
			envFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}}}},
			wantErr: `Secret "none" not found`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := testPod()
			c := &pod.Spec.Containers[0]
			c.Env, c.EnvFrom = tc.env, tc.envFrom
			got, err := environment(pod, c, fakeSources{})
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("error = %v, want %q", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("environment (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVolumes(t *testing.T) {
	items := []corev1.KeyToPath{{Key: "key", Path: "dir/file"}}
	for name, tc := range map[string]struct {
		source  corev1.VolumeSource
		want    map[string]string
		wantErr string
	}{
		"secret":          {source: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}, want: map[string]string{"key": "secret", "other": "2"}},
		"secret's item":   {source: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", Items: items}}, want: map[string]string{"dir/file": "secret"}},
		"missing secret":  {source: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "none"}}, wantErr: `volume v: Secret "none" not found`},
		"optional secret": {source: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "none", Optional: new(true)}}, want: map[string]string{}},
		"config map": {
			source: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "m"}}},
			want:   map[string]string{"key": "config", "bin": "\x00\x01"},
		},
		"downward API": {
			source: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{
				{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
				{Path: "memory", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "c", Resource: "limits.memory"}},
			}}},
			want: map[string]string{"labels": "a=\"1\"\nb=\"2\"", "memory": "67108864"},
		},
		"projected": {
			source: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Items: items}},
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "vault", Path: "token"}},
			}}},
			want: map[string]string{"dir/file": "secret", "token": "for vault"},
		},
		"empty":   {source: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}, want: map[string]string{}},
		"unknown": {source: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}, wantErr: "the local node supports"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			pod := testPod()
			pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: tc.source}}
			err := writeVolumes(dir, pod, fakeSources{}, tokenFunc(func(audience string, _ int64) (string, error) { return "for " + audience, nil }))
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("error = %v, want %q", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, readDir(t, filepath.Join(dir, "v"))); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestProgramsFindTheirMountsFromTheDirectoryThatHoldsThem(t *testing.T) {
	dir := t.TempDir()
	pod := testPod()
	c := &pod.Spec.Containers[0]
	c.Command = []string{"/program"}
	c.Args = []string{"--keys-dir=/etc/app/keys", "--one=/etc/app/keys/first/key", "--host=/etc/hosts"}
	c.VolumeMounts = []corev1.VolumeMount{
		{Name: "v", MountPath: "/etc/app/keys/first"},
		{Name: "v", MountPath: "/etc/app/keys/second/"},
	}
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}}}
	l := &launcher{
		rootFS: dir, podDir: dir, volumes: filepath.Join(dir, "volumes"), root: filepath.Join(dir, "root"), from: fakeSources{},
	}
	if err := os.WriteFile(filepath.Join(dir, "program"), nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := writeVolumes(l.volumes, pod, fakeSources{}, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a restart meets the links of the first start
		spec, err := l.spec(pod, c)
		if err != nil {
			t.Fatal(err)
		}
		keys := strings.TrimPrefix(spec.Args[0], "--keys-dir=")
		for _, path := range []string{
			filepath.Join(keys, "first", "key"), filepath.Join(keys, "second", "key"), strings.TrimPrefix(spec.Args[1], "--one="),
		} {
			if data, err := os.ReadFile(path); err != nil || string(data) != "secret" {
				t.Errorf("%s holds %q (%v), want the Secret's value", path, data, err)
			}
		}
		if spec.Args[2] != "--host=/etc/hosts" {
			t.Errorf("%s: a path of the host was changed", spec.Args[2])
		}
	}
}
