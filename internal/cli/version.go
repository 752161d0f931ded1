// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
)

// versionFlag has no environment variable: a variable of that name says what is deployed, not what to do.
const versionFlag = "version"

// version is set by the build: -ldflags "-X github.com/eco2-team/scan-operator/internal/cli.version=v1.2.3".
var version string

// Version says what a program was built from.
type Version struct {
	// Version is what the build set, or else the module's version, or else "devel".
	Version string
	// Revision is the commit; empty if the build did not record it.
	Revision string
	// Modified means that the sources differed from the commit.
	Modified bool
	// Go is the Go version, and Platform the operating system and architecture.
	Go, Platform string
}

// ReadVersion returns the version of the running program.
func ReadVersion() Version {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{GoVersion: runtime.Version()}
	}
	return newVersion(version, info)
}

func newVersion(set string, info *debug.BuildInfo) Version {
	v := Version{Version: set, Go: info.GoVersion, Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if module := info.Main.Version; module != "(devel)" {
		v.Version = cmp.Or(v.Version, module)
	}
	v.Version = cmp.Or(v.Version, "devel")
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			v.Revision = setting.Value
		case "vcs.modified":
			v.Modified = setting.Value == "true"
		}
	}
	return v
}

// String is one line, such as "v1.2.3 (commit 0123abc, modified, go1.26.0, linux/amd64)".
func (v Version) String() string {
	commit := ""
	if v.Revision != "" {
		commit = "commit " + v.Revision + ", "
	}
	if v.Modified {
		commit += "modified, "
	}
	return fmt.Sprintf("%s (%s%s, %s)", v.Version, commit, v.Go, v.Platform)
}

// logValues are the keys and values of the first line of the log.
func (v Version) logValues() []any {
	return []any{"version", v.Version, "commit", v.Revision, "modified", v.Modified, "go", v.Go, "platform", v.Platform}
}
