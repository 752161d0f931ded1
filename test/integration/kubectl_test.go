// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/eco2-team/scan-operator/test/testenv"
)

// kubectl runs kubectl with the credentials and what it reads from its standard input, and returns what it prints.
func kubectl(t *testing.T, config *rest.Config, input string, args ...string) string {
	t.Helper()
	args = append([]string{"--kubeconfig", testenv.Kubeconfig(t, config)}, args...)
	command := exec.CommandContext(t.Context(), controlPlane.Kubectl, args...)
	command.Stdin = strings.NewReader(input)
	var output, problems bytes.Buffer
	command.Stdout, command.Stderr = &output, &problems
	if err := command.Run(); err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args[2:], " "), err, problems.String())
	}
	return output.String()
}
