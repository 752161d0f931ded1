// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package autoscale decides the number of workers of a WorkerPool: as many as its calls need, no more than its token
// budgets can sustain, and changed no faster than spec.behavior allows.
//
// The package is pure: no Kubernetes client and no clock. Decide only reads; the owner of a History records what was
// decided and done.
package autoscale
