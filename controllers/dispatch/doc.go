// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dispatch connects the scheduler to the cluster: it feeds the scheduler from watches, stores the assignments
// it makes, and wakes the reconcilers of pools and budgets whose figures changed.
package dispatch
