// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package workerpool reconciles WorkerPools: it decides the number of workers, applies their Deployments and writes
// the pool's status.
package workerpool
