// Command controlplane is etcd, kube-apiserver and kubectl in one program.
//
// It acts as the one whose name it is called by, so the three share a single
// link step and most of their code on disk. dev/controlplane/build.sh builds
// it and puts the three names next to each other.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// programs maps the name the binary is called by to what it then does.
var programs = map[string]func(args []string) int{
	"etcd":           runEtcd,
	"kube-apiserver": runAPIServer,
	"kubectl":        runKubectl,
}

func main() {
	name := filepath.Base(os.Args[0])
	run, ok := programs[name]
	if !ok {
		names := make([]string, 0, len(programs))
		for n := range programs {
			names = append(names, n)
		}
		slices.Sort(names)
		fmt.Fprintf(os.Stderr, "called as %q, but this program answers to these names only: %s\n",
			name, strings.Join(names, ", "))
		os.Exit(2)
	}
	os.Exit(run(os.Args))
}
