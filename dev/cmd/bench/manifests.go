// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// requestsPerMinute is a limit that no measurement reaches.
const requestsPerMinute = 1_000_000

// budgetSpec is a TokenBudget whose Secret has its own name.
type budgetSpec struct {
	name            string
	tokensPerMinute int64
	utilization     int // percent
}

// defaultUtilization is the API's default of targetUtilizationPercent.
const defaultUtilization = 95

// poolSpec is a WorkerPool that uses all budgets.
type poolSpec struct {
	name, stages             string
	maxOutputTokens          int
	perWorker                int
	minReplicas, maxReplicas int
	stabilizationSeconds     int // of scale-down; 0 leaves the default
}

// roomyPools are one pool each for photos and answers, with room for all calls.
func roomyPools(size scanSize) []poolSpec {
	pool := func(name, stages string, output int) poolSpec {
		return poolSpec{name: name, stages: stages, maxOutputTokens: output, perWorker: 2000, minReplicas: 1, maxReplicas: 4}
	}
	return []poolSpec{
		pool("vision", "[vision, rule]", size.visionOutput),
		pool("answer", "[answer, reward]", size.answerOutput),
	}
}

// manifests are budgets and pools in YAML.
func manifests(budgets []budgetSpec, pools []poolSpec) string {
	var b strings.Builder
	var refs []string
	for _, s := range budgets {
		refs = append(refs, fmt.Sprintf("{name: %s}", s.name))
		fmt.Fprintf(&b, `---
apiVersion: scan.growbin.app/v1alpha1
kind: TokenBudget
metadata: {name: %[1]s}
spec:
  secretRef: {name: %[1]s, key: api-key}
  models: [gpt-5.1]
  tokensPerMinute: %[2]d
  requestsPerMinute: %[3]d
  targetUtilizationPercent: %[4]d
`, s.name, s.tokensPerMinute, requestsPerMinute, s.utilization)
	}
	for _, p := range pools {
		fmt.Fprintf(&b, `---
apiVersion: scan.growbin.app/v1alpha1
kind: WorkerPool
metadata: {name: %s}
spec:
  stages: %s
  budgets: [%s]
  concurrencyPerWorker: %d
  minReplicas: %d
  maxReplicas: %d
  stageDefaults: {timeoutSeconds: 60, maxOutputTokens: %d}
`, p.name, p.stages, strings.Join(refs, ", "), p.perWorker, p.minReplicas, p.maxReplicas, p.maxOutputTokens)
		if p.stabilizationSeconds > 0 {
			fmt.Fprintf(&b, "  behavior: {scaleDown: {stabilizationWindowSeconds: %d}}\n", p.stabilizationSeconds)
		}
	}
	return b.String()
}
