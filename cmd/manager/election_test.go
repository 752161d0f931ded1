// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestElectionFlags(t *testing.T) {
	tests := map[string]struct {
		args    []string
		want    election
		wantErr string // the flag that the error begins with
	}{
		"the defaults of Kubernetes' components": {want: election{15 * time.Second, 10 * time.Second, 2 * time.Second}},
		"shorter": {
			args: []string{"--leader-elect-lease-duration=6s", "--leader-elect-renew-deadline=4s", "--leader-elect-retry-period=1s"},
			want: election{6 * time.Second, 4 * time.Second, time.Second},
		},
		"two could lead":          {args: []string{"--leader-elect-lease-duration=10s"}, wantErr: "--leader-elect-renew-deadline=10s"},
		"a Lease of no time":      {args: []string{"--leader-elect-lease-duration=900ms"}, wantErr: "--leader-elect-lease-duration=900ms"},
		"no time for a retry":     {args: []string{"--leader-elect-retry-period=9s"}, wantErr: "--leader-elect-retry-period=9s"},
		"retries without a pause": {args: []string{"--leader-elect-retry-period=0s"}, wantErr: "--leader-elect-retry-period=0s"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			fs := flag.NewFlagSet(name, flag.ContinueOnError)
			fs.SetOutput(io.Discard)
			var got election
			got.bind(fs)
			if err := fs.Parse(tc.args); err != nil {
				t.Fatal(err)
			}
			err := got.check()
			if tc.wantErr != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tc.wantErr) {
					t.Errorf("error %v, want one that begins with %q", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(election{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
