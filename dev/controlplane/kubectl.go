// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"

	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/kubectl/pkg/cmd"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

func runKubectl(args []string) int {
	// The command tree logs while it is being built, before flags are parsed.
	if _, err := logs.GlogSetter(cmd.GetLogVerbosity(args)); err != nil {
		fmt.Fprintln(os.Stderr, "kubectl: -v:", err)
		return 1
	}
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		cmdutil.CheckErr(err) // prints the error as kubectl does and exits
	}
	return 0
}
