// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package localstack runs the whole product on one machine: etcd, kube-apiserver,
// Kubernetes' own controllers, the simulated provider, manager, api, and a local
// node for the workers.
//
// Every part runs as it does in a cluster: as its own service account, with the
// roles of config/rbac, so that a missing right shows here first. The programs
// are taken from two directories, the control plane's (dev/controlplane builds
// it) and the product's own.
//
// Tests and load generators use it too: Kill, Restart, Halt and Signal simulate
// crashes, upgrades, outages and freezes.
package localstack
