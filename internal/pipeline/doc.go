// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pipeline defines what a scan is: its four stages and their order, the outcomes of running them, and Fold,
// the one function that turns what happened to a scan into its status. It is pure: no Kubernetes client, no HTTP, no
// wall clock. Below it, stages runs the stages, pricing prices their calls and knowledge holds the rules and prompts.
package pipeline
