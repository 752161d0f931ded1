// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command apilint checks Kubernetes API types against the API conventions.
//
// Its rules are a part of those of sigs.k8s.io/kube-api-linter, under the same
// names, for builds that cannot fetch that module: it has no releases. It needs
// the standard library alone.
//
// usage: apilint <directory of a package with API types>...
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: apilint <directory of a package with API types>...")
		os.Exit(2)
	}
	found := 0
	for _, dir := range os.Args[1:] {
		p, err := load(dir)
		if err != nil {
			fmt.Fprintln(os.Stderr, "apilint:", err)
			os.Exit(2)
		}
		for _, f := range p.check() {
			fmt.Println(f)
			found++
		}
		if len(p.types) == 0 {
			fmt.Fprintf(os.Stderr, "apilint: %s has no types\n", dir)
			os.Exit(2)
		}
	}
	if found > 0 {
		fmt.Fprintf(os.Stderr, "apilint: %d findings\n", found)
		os.Exit(1)
	}
}
