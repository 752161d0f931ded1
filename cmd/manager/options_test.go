// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"strings"
	"testing"

	"github.com/eco2-team/scan-operator/internal/cli"
)

func TestOptions(t *testing.T) {
	tests := map[string]struct {
		env      map[string]string
		args     []string
		wantErrs []string // none: valid
	}{
		"defaults":            {},
		"a variable":          {env: map[string]string{"SCAN_MANAGER_WORKER_IMAGE": "image:v1", "POD_NAMESPACE": "elsewhere"}},
		"no limit":            {args: []string{"--max-finished-scans=0"}},
		"turned off":          {args: []string{"--metrics-bind-address=0", "--queue-bind-address="}},
		"a reward webhook":    {args: []string{"--reward-webhook-url=https://host/path", "--reward-webhook-token-file=f"}},
		"a negative limit":    {args: []string{"--max-finished-scans=-1"}, wantErrs: []string{"--max-finished-scans=-1: want 0 or more"}},
		"no concurrency":      {args: []string{"--max-concurrent-status-writes=0", "--scan-concurrency=0"}, wantErrs: []string{"--max-concurrent-status-writes=0: want 1 or more", "--scan-concurrency=0: want 1 or more"}},
		"no requests":         {args: []string{"--kube-api-qps=0", "--kube-api-burst=0"}, wantErrs: []string{"--kube-api-qps=0: want more than 0", "--kube-api-burst=0: want 1 or more"}},
		"no URL":              {args: []string{"--default-endpoint=api.openai.com", "--reward-webhook-url=host"}, wantErrs: []string{`--default-endpoint="api.openai.com"`, `--reward-webhook-url="host"`}},
		"a token for nothing": {args: []string{"--reward-webhook-token-file=f"}, wantErrs: []string{"--reward-webhook-url"}},
		"election":            {args: []string{"--leader-elect-renew-deadline=15s"}, wantErrs: []string{"--leader-elect-renew-deadline=15s"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var o options
			fs := flag.NewFlagSet(name, flag.ContinueOnError)
			o.bind(fs, func(name string) string { return tc.env[name] })
			lookup := func(name string) (string, bool) { value, ok := tc.env[name]; return value, ok }
			if err := cli.Parse(fs, envPrefix, tc.args, lookup); err != nil {
				t.Fatal(err)
			}
			err := o.validate()
			if err != nil && len(tc.wantErrs) == 0 {
				t.Errorf("error %v, want none", err)
			}
			for _, want := range tc.wantErrs {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want one with %q", err, want)
				}
			}
			if name == "a variable" && (o.workerImage != "image:v1" || o.namespace != "elsewhere") {
				t.Errorf("image %q, namespace %q; want those of the environment", o.workerImage, o.namespace)
			}
		})
	}
}
