// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/eco2-team/scan-operator/dev/localstack"
)

// nextSteps are the commands to try next.
func nextSteps(stack *localstack.Stack, opts *localstack.Options) string {
	kubectl := filepath.Join(opts.K8sDir, "kubectl") + " --kubeconfig " + relative(stack.Kubeconfig())
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }

	line("")
	line("Everything is up. In another terminal, watch the scans:")
	line("")
	line("  %s get scanrequests -w", relative(kubectl))
	line("")
	line("submit one, follow it, fetch its result:")
	line("")
	line("  curl -sS %s/api/v1/scan -H 'X-User-ID: me' -H 'Content-Type: application/json' \\", stack.APIURL())
	line("    -d '{\"image_url\": \"https://images.example.com/bottle.jpg\", \"user_input\": \"How do I throw this away?\"}'")
	line("  curl -sSN %s/api/v1/scan/JOB_ID/events -H 'X-User-ID: me'", stack.APIURL())
	line("  curl -sS %s/api/v1/scan/JOB_ID/result -H 'X-User-ID: me'", stack.APIURL())
	line("")
	line("and look at the pools behind them:")
	line("")
	line("  %s get tokenbudgets,workerpools,deployments,pods", relative(kubectl))
	if url := stack.SimURL(); url != "" {
		line("  curl -sS %s/sim/stats        # the simulated provider; set OPENAI_API_KEY for the real one", url)
	}
	line("")
	line("Logs are files, %s/*.log (kubectl logs cannot work: there is no kubelet).", relative(stack.LogDir()))
	line("Ctrl-C stops everything.")
	return b.String()
}

// relative shortens a path below the working directory, or a command line that begins with one.
func relative(path string) string {
	dir, err := os.Getwd()
	if err != nil {
		return path
	}
	return strings.ReplaceAll(path, dir+string(filepath.Separator), "")
}
