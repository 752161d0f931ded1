// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/cli"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
)

// parse parses a command line as main does.
func parse(t *testing.T, env map[string]string, args ...string) (options, error) {
	t.Helper()
	var o options
	fs := flag.NewFlagSet("worker", flag.ContinueOnError)
	for name, value := range env {
		t.Setenv(name, value)
	}
	o.bind(fs, os.Getenv)
	if err := cli.Parse(fs, envPrefix, args, os.LookupEnv); err != nil {
		return o, err
	}
	return o, o.validate()
}

func TestOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	good := []string{"--pool=p", "--stages=vision,rule", "--pod-name=pod-0"}
	tests := map[string]struct {
		env     map[string]string
		args    []string
		want    func(*options) // what differs from the defaults
		wantErr string
	}{
		"defaults": {args: good, want: func(*options) {}},
		"the pod's variables": {
			env:  map[string]string{"POD_NAMESPACE": "ns", "POD_NAME": "pod-1", "POD_UID": "u"},
			args: []string{"--pool=p", "--stages=vision,rule"},
			want: func(o *options) { o.namespace, o.podName, o.podUID = "ns", "pod-1", "u" },
		},
		"twins in the environment": {
			env:  map[string]string{"SCAN_WORKER_POOL": "q", "SCAN_WORKER_STAGES": "answer,reward", "SCAN_WORKER_CAPACITY": "7"},
			args: []string{"--pod-name=pod-0"},
			want: func(o *options) {
				o.pool, o.capacity, o.stages = "q", 7, stageList{v1alpha1.StageAnswer, v1alpha1.StageReward}
			},
		},
		"the command line wins": {
			env:  map[string]string{"SCAN_WORKER_CAPACITY": "7", "POD_NAMESPACE": "ns"},
			args: append(good, "--capacity=8", "--namespace=other"),
			want: func(o *options) { o.namespace, o.capacity = "other", 8 },
		},
		"no pool":                 {args: []string{"--stages=vision"}, wantErr: "--pool"},
		"no stages":               {args: []string{"--pool=p"}, wantErr: "--stages"},
		"a stage that is none":    {args: append(good, "--stages=vision,rules"), wantErr: `"rules" is no stage`},
		"stages out of order":     {args: append(good, "--stages=rule,vision"), wantErr: "does not follow"},
		"stages with a gap":       {args: append(good, "--stages=vision,answer"), wantErr: "does not follow"},
		"an endpoint that is not": {args: append(good, "--default-endpoint=api.openai.com"), wantErr: "--default-endpoint"},
		"keys in a file":          {args: append(good, "--keys-dir="+file), wantErr: "--keys-dir"},
		"a track that is none":    {args: append(good, "--track=beta"), wantErr: "--track"},
		"no requests":             {args: append(good, "--kube-api-qps=0"), wantErr: "--kube-api-qps"},
		"no capacity":             {args: append(good, "--capacity=0"), wantErr: "--capacity=0: want 1 or more"},
		"a drain into the past":   {args: append(good, "--drain-timeout=-1s"), wantErr: "--drain-timeout=-1s: want 0s or more"},
		"all that is wrong":       {args: []string{"--default-endpoint=x"}, wantErr: "--pool must name the WorkerPool that this worker belongs to\n--stages"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parse(t, tc.env, tc.args...)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("error %v, want one with %q", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want, err := parse(t, nil, good...)
			if err != nil {
				t.Fatal(err)
			}
			want.namespace = "scans"
			tc.want(&want)
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(options{})); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAPackWithATypoNamesFileAndLine(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "taxonomy.yaml"), []byte("classes:\n  - naem: 종이\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := knowledge.LoadDir(dir)
	if err == nil || !strings.Contains(err.Error(), "taxonomy.yaml:") || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %v, want one that names %s and a line of taxonomy.yaml", err, dir)
	}
}
