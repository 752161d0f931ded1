// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestVersion(t *testing.T) {
	vcs := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123abc"}, {Key: "vcs.modified", Value: "true"}}
	platform := runtime.GOOS + "/" + runtime.GOARCH
	tests := map[string]struct {
		set  string
		info debug.BuildInfo
		want string
	}{
		"nothing is known":                {want: "devel (go1.26.0, " + platform + ")"},
		"go build in the repository":      {info: debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: vcs}, want: "devel (commit 0123abc, modified, go1.26.0, " + platform + ")"},
		"go install of a version":         {info: debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}, want: "v1.2.3 (go1.26.0, " + platform + ")"},
		"the build's version comes first": {set: "v1.3.0", info: debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: vcs[:1]}, want: "v1.3.0 (commit 0123abc, go1.26.0, " + platform + ")"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			tc.info.GoVersion = "go1.26.0"
			if got := newVersion(tc.set, &tc.info).String(); got != tc.want {
				t.Errorf("version = %q, want %q", got, tc.want)
			}
		})
	}
}
