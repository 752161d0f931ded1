// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command controlplane is etcd, kube-apiserver, kube-controllers and kubectl in
// one program.
//
// The name it is started under selects which of them it runs, so they share one
// link step and most of their code on disk. dev/controlplane/build.sh builds it
// and links it under all four names.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// programs maps the name that the binary is started under to the program.
var programs = map[string]func(args []string) int{
	"etcd":             runEtcd,
	"kube-apiserver":   runAPIServer,
	"kubectl":          runKubectl,
	"kube-controllers": runControllers,
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
		fmt.Fprintf(os.Stderr, "started as %q, which is none of %s: start it under one of these names\n",
			name, strings.Join(names, ", "))
		os.Exit(2)
	}
	os.Exit(run(os.Args))
}
